"""Stacked members equal members that are trained one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from al_engine.config import PathConfig, TrainingConfig
from al_engine.structures.frames import LabelledFrame
from models.ms_mace import MSMACE
from models.training.constants import constants_from_data
from models.training.dataset import TrainingSet
from models.training.stacked import StackedTrainer, isolated_atom_frames, pad_to_equal_species_counts
from models.training.trainer import Trainer
from models.training.training import MemberTask, train_member, train_members

TRAINING = TrainingConfig(batch_size=3, validation_interval=4, validation_share=0.2, patience=100)
SETTINGS = {"updates": 20, "kernels": False}


@pytest.fixture
def frames(random_cluster):
    """Clusters of different sizes and compositions with random labels."""
    rng = np.random.default_rng(0)
    clusters = [random_cluster(n, seed=n) for n in (5, 9, 7, 9, 6, 8, 11, 4, 9, 10)]
    return [LabelledFrame(frame, rng.normal(), 0.1 * rng.normal(size=(len(frame), 3))) for frame in clusters]


def same(member, other):
    """Weights, E0s and histories agree to rounding."""
    for ours, theirs in zip(member.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    energies, others = member.model.constants.reference_energies, other.model.constants.reference_energies
    np.testing.assert_allclose(energies, others, rtol=0, atol=1e-8)
    assert np.array_equal(member.history.updates, other.history.updates)
    for name in ("train_loss", "validation_loss", "validation_force_mae", "validation_energy_mae"):
        np.testing.assert_allclose(getattr(member.history, name), getattr(other.history, name), rtol=1e-7, atol=1e-10)


def test_a_stacked_update_is_every_members_own(config, frames):
    """For every kind of model: two updates on batches of different sizes and compositions."""
    training = TRAINING.model_copy(update={"gradient_clip": 1e-3})
    networks = [MSMACE(config, constants_from_data(frames, config), seed=seed) for seed in range(3)]
    elements = networks[0].constants.elements
    data = TrainingSet([*frames, *isolated_atom_frames(elements)], *networks, device=torch.device("cpu"))
    trainers = [Trainer(network, training, peak=0.01, updates=20) for network in networks]
    stacked = StackedTrainer(trainers)
    chosen = [np.array(k) + m * len(data) for m, k in enumerate(([0, 6], [5, 2], [1, 3]))]
    assert len({len(frames[k[0] % len(data)]) + len(frames[k[1] % len(data)]) for k in chosen}) == 3
    for _ in range(2):
        losses = stacked.update(data, chosen)
        alone = [trainer.update(data.batch(k)) for trainer, k in zip(trainers, chosen, strict=True)]
        torch.testing.assert_close(losses, torch.stack(alone), rtol=1e-10, atol=0)
    for ours, theirs in zip(stacked.optimizer.weights, trainers, strict=True):
        torch.testing.assert_close(ours, theirs.optimizer.weights, rtol=0, atol=1e-8)


def test_a_stacked_update_with_stresses_is_every_members_own(tiny_config, frames):
    """Of frames with a stress and without, of unequal weights, padded with isolated atoms."""
    rng = np.random.default_rng(1)
    boxed = [
        replace(
            item,
            frame=replace(item.frame, cell=6.0 * np.eye(3), pbc=[True] * 3),
            stress=rng.normal(size=(3, 3)),
            weight=rng.uniform(0.1, 10.0),
        )
        for item in frames[:7]
    ]
    mixed, config = [*boxed, *frames[7:]], tiny_config()
    networks = [MSMACE(config, constants_from_data(mixed, config), seed=seed) for seed in range(2)]
    elements = networks[0].constants.elements
    data = TrainingSet([*mixed, *isolated_atom_frames(elements)], *networks, device=torch.device("cpu"))
    trainers = [Trainer(network, TRAINING, peak=0.01, updates=20) for network in networks]
    stacked = StackedTrainer(trainers)
    chosen = [np.array(k) + m * len(data) for m, k in enumerate(([0, 8], [5, 2]))]
    losses = stacked.update(data, chosen)
    alone = [trainer.update(data.batch(k)) for trainer, k in zip(trainers, chosen, strict=True)]
    torch.testing.assert_close(losses, torch.stack(alone), rtol=1e-10, atol=0)
    without = Trainer(networks[0], TRAINING.model_copy(update={"stress_weight": 0.0}), peak=0.01, updates=20)
    batch = data.batch(chosen[0])
    assert trainers[0].loss(batch, *batch.predict_with_virials(networks[0], differentiable=False)) > without.loss(
        batch, *batch.predict_with_virials(networks[0], differentiable=False)
    )


def test_every_member_gets_as_many_nodes_of_each_species(frames, tiny_config):
    config = tiny_config()
    network = MSMACE(config, constants_from_data(frames, config), seed=0)
    data = TrainingSet(
        [*frames, *isolated_atom_frames(network.constants.elements)], network, network, device=torch.device("cpu")
    )
    batch = data.batch(pad_to_equal_species_counts(data, [np.array([0, 1]), np.array([2, 6]) + len(data)]))
    species = batch.graph.species.view(2, -1)
    assert torch.equal(species[0], species[1])
    assert torch.equal(species[0], species[0].sort().values)
    assert species[0].bincount().tolist() == batch.graph.species_counts
    real = [sum(len(frames[k]) for k in chosen) for chosen in ((0, 1), (2, 6))]
    assert species.shape[1] >= max(real)
    assert real[0] != real[1]


@pytest.mark.parametrize("kind", ["message", "ms-nequip"])
def test_members_side_by_side_are_members_alone(kind, tiny_config, frames):
    """Frames of different sizes, members that stop early, from random weights and from a start."""
    config = tiny_config(kind)
    patient = TRAINING.model_copy(update={"patience": 2, "learning_rate": 0.05})
    settings = {"frames": frames, "model": config, "training": patient, **SETTINGS}
    seeds = [4, 0, 9, 2]
    alone = [train_member(seed=seed, **settings) for seed in seeds]
    together = train_members(tasks=[MemberTask(seed) for seed in seeds], **settings)
    assert len({member.history.updates[-1] for member in alone}) > 1  # they stop at different times
    for ours, theirs in zip(together, alone, strict=True):
        same(ours, theirs)
    turned = train_members(tasks=[MemberTask(seed) for seed in reversed(seeds)], **settings)
    for ours, theirs in zip(turned, reversed(alone), strict=True):
        same(ours, theirs)
    warm = {**settings, "updates": 6, "frames": [LabelledFrame(f.frame, f.energy - 5.0, f.forces) for f in frames]}
    starts = [alone[1], alone[0]]
    tasks = [MemberTask(seed, start=start) for seed, start in zip((7, 8), starts, strict=True)]
    for ours, task in zip(train_members(tasks=tasks, **warm), tasks, strict=True):
        same(ours, train_member(seed=task.seed, start=task.start, **warm))


def test_interrupted_members_go_on_from_their_checkpoints(frames, tiny_config, tmp_path):
    """A kill between two checkpoints leaves members at different updates; the least advanced is trained first."""

    class Killed(Exception):  # noqa: N818  # stands for a kill, not for an error
        pass

    def kill(done, total, note=""):
        del total, note
        if done == 8:
            raise Killed

    path = PathConfig(cutoff_ang=3.0, channels=3, l_max=1, radial_mlp=[])
    config = tiny_config("mace", short=path, layers=1, hidden_l_max=0)
    settings = {"frames": frames, "model": config, "training": TRAINING, **SETTINGS}
    tasks = [MemberTask(seed, checkpoint=tmp_path / f"{seed}.checkpoint", key="a") for seed in range(3)]
    with pytest.raises(Killed):
        train_members(tasks=tasks, progress=kill, **settings)
    (tmp_path / "1.checkpoint").unlink()
    reported = []
    resumed = train_members(tasks=tasks, progress=lambda done, _total, _note="": reported.append(done), **settings)
    assert reported == [4, 8, 12, 16, 20]  # 4 and 8 by the second member alone
    for seed, member in enumerate(resumed):
        same(member, train_member(seed=seed, **settings))
