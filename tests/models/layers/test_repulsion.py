"""The repulsion of nuclei: the values of mace-torch, limits, and its subtraction from training targets."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from ase.data import covalent_radii

from al_engine.errors import InputError
from al_engine.structures.frames import Frame, LabelledFrame
from models.graph.graph import AtomBatch, neighbour_graph
from models.layers.repulsion import ZBLRepulsion
from models.ms_mace import MSMACE
from models.storage.weights import TrainedMember, read_member, write_member
from models.training.constants import constants_from_data
from models.training.dataset import TrainingSet

DATA = Path(__file__).parents[1] / "data"
ELEMENTS = (1, 6, 8, 9)


def energies_and_forces(repulsion, frames):
    atoms = AtomBatch.of(frames, ELEMENTS)
    positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames]))
    graph = neighbour_graph(atoms, positions, cutoffs=(4.0,))
    vectors = graph.vectors(graph.to_nodes(positions))
    energies, gradients = repulsion.gradients(graph, vectors)
    return graph.frame_sums(energies).numpy(), graph.to_atoms(graph.forces(gradients)).numpy()


def pair(first, second, distance):
    return Frame(numbers=[first, second], positions=[[0.0, 0.0, 0.0], [0.0, 0.6 * distance, 0.8 * distance]])


@pytest.mark.parametrize("power", [5, 6])
def test_pair_energies_and_forces_are_those_of_mace(power):
    repulsion = ZBLRepulsion(ELEMENTS, cutoffs=(4.0,), envelope_power=power)
    with h5py.File(DATA / "mace_zbl.h5") as file:
        group = file[f"power_{power}"]
        numbers, distances, expected, slopes = (
            group[name][()] for name in ("numbers", "distances", "energies", "slopes")
        )
    frames = [pair(*zz, r) for zz in numbers for r in distances]
    energies, forces = energies_and_forces(repulsion, frames)
    np.testing.assert_allclose(energies.reshape(expected.shape), expected, rtol=1e-6, atol=1e-10)
    along = forces.reshape(*expected.shape, 2, 3)[:, :, 1] @ [0.0, 0.6, 0.8]
    np.testing.assert_allclose(along, -slopes, rtol=1e-6, atol=1e-8)
    assert expected.max() > 100.0  # eV


def test_it_ends_at_the_sum_of_the_covalent_radii():
    repulsion = ZBLRepulsion(ELEMENTS, cutoffs=(4.0,), envelope_power=6)
    reach = covalent_radii[6] + covalent_radii[9]
    energies, forces = energies_and_forces(repulsion, [pair(6, 9, reach - 0.05), pair(6, 9, reach + 1e-9)])
    assert energies[0] > 1e-6
    assert energies[1] == 0.0
    assert np.abs(forces[2:]).max() == 0.0


def test_atoms_that_would_be_out_of_sight_are_refused():
    with pytest.raises(InputError, match=r"model.zbl reaches 4.88 Å .* cut-off of 4.5 Å"):
        ZBLRepulsion((1, 55), cutoffs=(3.0, 4.5), envelope_power=6)
    assert ZBLRepulsion((1, 55), cutoffs=(3.0, 5.0), envelope_power=6).path == 1


def test_a_model_adds_it_in_ev_whatever_its_scale(tiny_config, tiny_model, evaluate, random_cluster):
    """With the same weights, energies with and without repulsion differ by the pair sum."""
    frame = random_cluster()
    with_it, without = (tiny_model(tiny_config("mace", zbl=zbl)) for zbl in (True, False))
    repulsion = ZBLRepulsion(ELEMENTS, cutoffs=(4.0,), envelope_power=6)
    energies, forces = energies_and_forces(repulsion, [frame])
    energy, total = evaluate(with_it, frame)
    energy_without, rest = evaluate(without, frame)
    assert energies[0] > 0.1
    assert energy - energy_without == pytest.approx(energies[0], rel=1e-10)
    np.testing.assert_allclose(total - rest, forces, atol=1e-10)


def test_training_targets_are_what_the_repulsion_leaves(tiny_config, random_cluster):
    """Labels that consist of E0s and repulsion give zero targets of energies and forces, also in a batch."""
    config = tiny_config("mace", zbl=True)
    frames = [random_cluster(n, seed=n, closest=0.6) for n in (5, 9, 7)]
    repulsion = ZBLRepulsion(ELEMENTS, cutoffs=(4.0,), envelope_power=6)
    energies, forces = energies_and_forces(repulsion, frames)
    split = np.split(forces, np.cumsum([len(frame) for frame in frames])[:-1])
    labelled = [
        LabelledFrame(frame=frame, energy=float(e), forces=f)
        for frame, e, f in zip(frames, energies, split, strict=True)
    ]
    model = MSMACE(config, constants_from_data(labelled, config), seed=0)
    model.set_reference_energies([0.0] * 3)
    data = TrainingSet(labelled, model, device=torch.device("cpu"))
    batch = data.batch(np.array([2, 0]))
    assert np.abs(forces).max() > 1.0
    assert batch.energies.abs().max() < 1e-12
    assert batch.forces.abs().max() < 1e-12
    predicted, _ = batch.predict(model, differentiable=False)
    assert predicted.abs().max() > 1e-3  # the network itself is not zero


def test_its_strength_is_kept_on_disk_and_is_one_in_files_without(tmp_path, tiny_config, tiny_model):
    model = tiny_model(tiny_config("zbl"))
    scaled = MSMACE(model.config, replace(model.constants, repulsion_strength=0.3), seed=0)
    with h5py.File(tmp_path / "member.h5", "w") as file:
        write_member(file, TrainedMember(scaled))
        assert read_member(file).model.constants.repulsion_strength == 0.3
        constants = json.loads(file.attrs["constants"])
        del constants["repulsion_strength"]
        file.attrs["constants"] = json.dumps(constants)
        assert read_member(file).model.constants.repulsion_strength == 1.0
