"""The committee in molecular dynamics: its mean, and frames of a batch that do not affect each other."""

import numpy as np
import pytest
import torch

from models.inference.acceleration import accelerate
from models.inference.committee import ALL_PAIRS_ATOMS, Committee
from models.layers.operators import is_plain


@pytest.fixture
def committee(tiny_model, tiny_config):
    def make(**options):
        return Committee([tiny_model(tiny_config(), seed=seed) for seed in range(3)], **options)

    return make


def stacked(frames):
    return torch.from_numpy(np.concatenate([frame.positions for frame in frames]))


def test_no_member_means_the_mean_of_all(committee, random_cluster):
    frames = [random_cluster(7, seed=1), random_cluster(9, seed=2)]
    bound, positions = committee(acceleration="off").bind(frames), stacked(frames)
    members = [bound.energy_and_forces(positions, member) for member in range(3)]
    energies, forces = bound.energy_and_forces(positions, None)
    torch.testing.assert_close(energies, sum(energy for energy, _ in members) / 3, rtol=1e-14, atol=0)
    torch.testing.assert_close(forces, bound.member_forces(positions).mean(0), rtol=0, atol=1e-14)


def test_the_driver_is_not_evaluated_again_where_it_was_just_evaluated(committee, random_cluster, monkeypatch):
    made, frames = committee(acceleration="off"), [random_cluster(9)]
    bound, positions, evaluated = made.bind(frames), stacked(frames), []
    expected = bound.member_forces(positions)
    original = bound._evaluate
    monkeypatch.setattr(bound, "_evaluate", lambda member, *args: evaluated.append(member) or original(member, *args))
    bound.energy_and_forces(positions, 1)
    assert torch.equal(bound.member_forces(positions), expected)
    assert evaluated == [1, 0, 2]
    assert not torch.equal(bound.member_forces(positions + torch.rand_like(positions)), expected)
    assert evaluated[3:] == [0, 1, 2]


def test_lists_with_a_skin_are_rebuilt_before_they_miss_a_pair(committee, random_cluster):
    frames = [random_cluster(ALL_PAIRS_ATOMS + 4, seed=seed, side=7.0) for seed in range(2)]
    assert len(frames[0]) > ALL_PAIRS_ATOMS
    made = committee(acceleration="off", skin_ang=0.4)
    bound, positions, rng = made.bind(frames), stacked(frames), np.random.default_rng(0)
    graphs = set()
    for _ in range(30):
        positions = positions + 0.03 * torch.from_numpy(rng.normal(size=positions.shape))
        _, forces = bound.energy_and_forces(positions, 0)
        graphs.add(bound.graph(positions))
        _, fresh = made.bind(frames).energy_and_forces(positions, 0)
        torch.testing.assert_close(forces, fresh, rtol=0, atol=1e-11)
    assert 1 < len(graphs) < 30


def test_a_frame_has_the_same_bits_whatever_the_others_do(committee, random_cluster):
    """With the kernels, on a CPU: lists of a frame are rebuilt, and the other frame keeps its order and rounding."""
    mine, other = (random_cluster(ALL_PAIRS_ATOMS + 4, seed=seed, side=7.0) for seed in (3, 4))
    made, rng = committee(acceleration="kernels", skin_ang=0.4), np.random.default_rng(1)
    calm, wild = made.bind([mine, other]), made.bind([mine, other])
    positions, squeezed = mine.positions, other.positions
    rebuilt = set()
    for _ in range(12):
        positions = positions + 0.03 * rng.normal(size=positions.shape)
        squeezed = 0.95 * squeezed  # rebuilt all the time, and wider lists
        results = [
            bound.energy_and_forces(torch.from_numpy(np.concatenate([positions, others])), 1)
            for bound, others in ((calm, other.positions), (wild, squeezed))
        ]
        rebuilt.add(wild.graph(torch.from_numpy(np.concatenate([positions, squeezed]))))
        assert results[0][0][0] == results[1][0][0]
        np.testing.assert_array_equal(results[0][1][: len(mine)], results[1][1][: len(mine)])
    assert len(rebuilt) > 3


@pytest.mark.parametrize("acceleration", ["off", "kernels"])
def test_a_committee_leaves_the_models_of_its_caller_as_they_are(tiny_config, tiny_model, random_cluster, acceleration):
    """The committee's forces have the bits of a model that is itself frozen and accelerated."""
    given = tiny_model(tiny_config("zbl")).requires_grad_()
    treated = tiny_model(tiny_config("zbl"))
    if acceleration == "kernels":
        assert accelerate(treated)
    made = Committee([given], acceleration=acceleration)
    frames = [random_cluster(9), random_cluster(ALL_PAIRS_ATOMS + 4, side=7.0)]
    expected = Committee([treated], acceleration="off").predict(frames)
    for ours, theirs in zip(made.predict(frames)[1], expected[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(made.predict(frames)[0], expected[0])
    assert is_plain(given)
    assert is_plain(made.models[0]) == (acceleration == "off")
    assert all(weight.requires_grad for weight in given.parameters())
    assert not any(weight.requires_grad for weight in made.models[0].parameters())
    for ours, theirs in zip(made.models[0].parameters(), given.parameters(), strict=True):
        assert ours.data_ptr() == theirs.data_ptr()


def test_a_committee_follows_weights_that_change_in_place(tiny_config, tiny_model, random_cluster):
    given, frames = tiny_model(tiny_config()), [random_cluster(9)]
    made = Committee([given], acceleration="kernels")
    made.predict(frames)
    given.load_state_dict(tiny_model(tiny_config(), seed=5).state_dict())
    changed, fresh = (committee.predict(frames)[0] for committee in (made, Committee([given], acceleration="kernels")))
    np.testing.assert_array_equal(changed, fresh)
