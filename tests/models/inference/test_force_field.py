"""A force field says where it is not to be trusted, and uses few threads for small structures."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from al_engine.campaign.card import Card, CardSystem
from al_engine.errors import InputError
from models.inference.batches import batches
from models.inference.calculator import CommitteeCalculator
from models.inference.committee import BoundCommittee, Committee
from models.inference.force_field import SINGLE_THREAD_ATOMS, ForceField, ForceFieldWarning

CARD = Card(
    campaign="tiny",
    method="GFN2-xTB (tblite 0.8.0)",
    systems=(CardSystem("", "CH4O", 6, 0, 0, periodic=False),),
    temperatures_kelvin=(300.0, 900.0),
    iterations=2,
    n_labels=40,
    verdict="converged",
    evidence="0 of 60 frames",
    test_force_mae_mev_per_ang=12.3,
    audit="",
    trusted_mev_per_ang=1e-6,
)


@pytest.fixture
def committee(tiny_model, tiny_config):
    return Committee([tiny_model(tiny_config(), seed=seed) for seed in range(3)])


def test_it_warns_once_of_a_deviation_and_once_of_a_charge(committee, random_cluster):
    atoms = random_cluster(6).to_atoms()
    atoms.info["charge"] = 1
    atoms.calc = CommitteeCalculator(ForceField(committee, card=CARD))
    with pytest.warns(ForceFieldWarning) as caught:
        atoms.get_forces()
    messages = sorted(str(each.message) for each in caught)
    assert len(messages) == 2
    assert messages[0].startswith("the members disagree by")
    assert "charge +1" in messages[1]
    assert "CH4O" in messages[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.positions += 0.01
        atoms.get_forces()


def test_it_is_silent_where_it_is_trusted_or_nothing_is_known(committee, random_cluster):
    neutral = random_cluster(6).to_atoms()
    del neutral.info["charge"], neutral.info["unpaired_electrons"]  # as in most of a user's structures
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for card in (None, replace(CARD, trusted_mev_per_ang=1e9, systems=(replace(CARD.systems[0], charge=1),))):
            neutral.calc = CommitteeCalculator(ForceField(committee, card=card))
            neutral.get_forces()


def test_small_structures_use_a_single_thread_and_leave_the_setting(committee, random_cluster, monkeypatch):
    seen, predict, threads = [], BoundCommittee.prediction, torch.get_num_threads()
    monkeypatch.setattr(
        BoundCommittee, "prediction", lambda *args: seen.append(torch.get_num_threads()) or predict(*args)
    )
    force_field = ForceField(committee)
    torch.set_num_threads(2)
    try:
        for n_atoms, expected in ((6, 1), (SINGLE_THREAD_ATOMS, 2)):
            seen.clear()
            force_field.evaluate(random_cluster(n_atoms, side=30.0))
            assert set(seen) == {expected}
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("options", [{"members": []}, {"members": [3]}, {"stride": 0}, {"stride": 2}])
def test_members_that_do_not_exist_are_refused(committee, options):
    with pytest.raises(InputError, match=next(iter(options))):
        ForceField(committee, **options)


def test_the_card_in_words():
    text = CARD.text()
    for part in ("tiny", "40 labels", "GFN2-xTB (tblite 0.8.0)", "CH4O", "300, 900 K", "converged", "12.3 meV/Å"):
        assert part in text
    assert "none" in replace(CARD, verdict=None).text()
    ion = CardSystem("salt", "C6H11N2", 19, 1, 2, periodic=True)
    assert str(ion) == "salt: C6H11N2, charge +1, 2 unpaired electrons, periodic"


def test_positions_that_are_not_finite_are_refused_and_leave_nothing_behind(committee, random_cluster):
    frame, force_field = random_cluster(6), ForceField(committee)
    lost = frame.positions.copy()
    lost[2] = np.nan
    with pytest.raises(InputError, match="atom 2 has a position that is not finite"):
        force_field.evaluate(frame.with_positions(lost))
    assert force_field.evaluate(frame).energy == ForceField(committee).evaluate(frame).energy


def test_lists_are_built_again_after_atoms_were_lost(committee, random_cluster):
    frame = random_cluster(6)
    good = torch.tensor(frame.positions)
    for lost in (torch.full_like(good, torch.nan), good * 3000.0):
        bound = committee.bind([frame])
        bound.energy_and_forces(lost, 0)
        torch.testing.assert_close(bound.energy_and_forces(good, 0), committee.bind([frame]).energy_and_forces(good, 0))


def test_the_virial_of_a_slab_is_the_derivative_of_its_energy_by_strain_in_the_plane(committee, random_cluster):
    frame = random_cluster(8, side=6.0)
    slab = replace(frame, cell=np.diag([6.0, 6.0, 0.0]), pbc=np.array([True, True, False]))
    found = ForceField(committee).evaluate(slab)
    assert found.stress is None
    step = 1e-4
    for axis in range(2):
        energies = []
        for sign in (-1, 1):
            strain = np.eye(3)
            strain[axis, axis] += sign * step
            moved = replace(slab, positions=slab.positions @ strain, cell=slab.cell @ strain)
            energies.append(ForceField(committee).evaluate(moved).energy)
        slope = (energies[1] - energies[0]) / (2 * step)
        assert found.virial[axis, axis] == pytest.approx(-slope, rel=1e-3, abs=1e-4)


def test_a_calculator_can_be_sent_to_another_process(committee, random_cluster):
    atoms = random_cluster(6).to_atoms()
    atoms.calc = CommitteeCalculator(ForceField(committee))
    energy = atoms.get_potential_energy()
    again = pickle.loads(pickle.dumps(atoms.calc))  # noqa: S301 (our own)
    again.reset()
    assert again.get_potential_energy(atoms) == energy


def test_batches_are_bounded_by_atoms_and_change_nothing(committee, random_cluster, monkeypatch):
    frames = [random_cluster(n, seed=n) for n in (4, 9, 5, 6, 12)]
    energies, forces = committee.predict(frames)
    monkeypatch.setattr("models.inference.batches.BATCH_ATOMS", 12)
    assert [len(batch) for batch in batches(frames)] == [1, 1, 2, 1]
    again, own = committee.predict(frames)
    np.testing.assert_allclose(again, energies, rtol=1e-6)
    monkeypatch.setattr("models.inference.committee.largest_whole_frame", lambda _: 8)  # larger ones by domains
    domains, _ = committee.predict(frames)
    np.testing.assert_allclose(domains, energies, rtol=1e-5)
    for first, second in zip(own, forces, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)
