"""Models that reproduce given energies of isolated atoms: the cohesion of bonded atoms, in all ways of evaluation."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from ase.build import molecule

from al_engine.config import TrainingConfig
from al_engine.structures.frames import Frame, LabelledFrame
from models.inference.chunked import evaluate_chunked
from models.inference.committee import Committee
from models.inference.compiled import CompiledForces
from models.layers.cohesion import Cohesion
from models.ms_mace import MSMACE
from models.storage.weights import TrainedMember, read_member, write_member
from models.training.constants import constants_from_data
from models.training.dataset import TrainingSet
from models.training.training import MemberTask, train_members

ATOMS = {1: -12.0, 6: -150.0, 8: -400.0}
"""Energies of isolated atoms in eV."""
TRAINING = TrainingConfig(batch_size=4, validation_interval=20, optimizer="adam")


def cohesion_energy(term, distances):
    """Energy of an atom with neighbours at these distances, and its derivative by the first distance."""
    vectors = torch.zeros(1, len(distances), 3, dtype=torch.float64)
    vectors[0, :, 2] = torch.tensor(distances, dtype=torch.float64)
    vectors.requires_grad_()
    (energy,) = term.bonded(vectors)
    (gradient,) = torch.autograd.grad(energy, vectors)
    return float(energy.detach()), float(gradient[0, 0, 2])


def test_it_is_one_for_bonded_atoms_zero_for_isolated_ones_and_smooth_between():
    term = Cohesion([1.0], cutoff=4.0, envelope_power=6)
    bonded, slope = cohesion_energy(term, [1.5])
    assert bonded == pytest.approx(1.0, abs=1e-4)
    assert abs(slope) < 1e-3
    assert cohesion_energy(term, [4.0, 7.0]) == (0.0, 0.0)
    values = [cohesion_energy(term, [r])[0] for r in np.linspace(1.0, 4.0, 61)]
    assert np.all(np.diff(values) <= 0.0)
    step = 1e-5
    for r in (2.3, 3.0, 3.6):
        numerical = (cohesion_energy(term, [r + step, 2.9])[0] - cohesion_energy(term, [r - step, 2.9])[0]) / (2 * step)
        assert cohesion_energy(term, [r, 2.9])[1] == pytest.approx(numerical, rel=1e-6, abs=1e-9)


def shifted(constants, alone):
    """Constants with other energies of isolated atoms and the same energies of bonded atoms."""
    pairs = zip(constants.elements, constants.reference_energies, strict=True)
    cohesion = tuple(e0 - alone[z] for z, e0 in pairs)
    return replace(constants, reference_energies=tuple(alone[z] for z in constants.elements), cohesion=cohesion)


@pytest.fixture
def with_cohesion(model):
    """A random model of each kind whose E0s are given and whose energies of bonded atoms are unchanged."""
    given = dict(zip(model.constants.elements, (-10.0, -20.0, -30.0, -40.0), strict=False))
    changed = MSMACE(model.config, shifted(model.constants, given), seed=0)
    changed.load_state_dict(model.state_dict())
    return changed, given


def test_only_energies_of_isolated_atoms_change(model, with_cohesion, evaluate):
    changed, given = with_cohesion
    for number, energy in given.items():
        assert evaluate(changed, Frame(numbers=[number], positions=np.zeros((1, 3))))[0] == pytest.approx(energy)
    water = Frame.from_atoms(molecule("H2O"))
    for before, after in zip(evaluate(model, water), evaluate(changed, water), strict=True):
        np.testing.assert_allclose(after, before, atol=0.02)


def test_a_broken_bond_gives_forces_that_are_the_derivative_of_the_energy(with_cohesion, evaluate):
    changed, _ = with_cohesion
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.3, 2.3]])
    numbers, step = changed.constants.elements[:2], 1e-4
    _, forces = evaluate(changed, Frame(numbers=numbers, positions=positions))
    moved = [positions + np.array([[0, 0, 0], [0, 0, sign * step]]) for sign in (1, -1)]
    energies = [evaluate(changed, Frame(numbers=numbers, positions=each))[0] for each in moved]
    assert forces[1, 2] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), rel=1e-3, abs=1e-3)
    assert abs(forces[1, 2]) > 0.1


def test_domains_give_the_same(with_cohesion, random_cluster):
    changed, _ = with_cohesion
    frame = random_cluster(12, seed=2, side=9.0)
    bound = Committee([changed], acceleration="off").bind([frame])
    positions = torch.from_numpy(frame.positions.copy())
    energy, forces = bound.energy_and_forces(positions, 0)
    in_domains = evaluate_chunked(changed.weight_sharing_copy().freeze(), frame, domain_atoms=4)
    torch.testing.assert_close(in_domains.energies, energy, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(in_domains.forces, forces, rtol=1e-4, atol=1e-3)


def test_a_compiled_graph_serves_members_of_other_cohesion(tiny_config, tiny_model, random_cluster):
    frame = random_cluster(7)
    plain = tiny_model(tiny_config("mace"))
    models = []
    for shift in (-10.0, 30.0):
        constants = shifted(plain.constants, {z: shift * z for z in plain.constants.elements})
        models.append(MSMACE(plain.config, constants, seed=3).freeze())
    compiled = CompiledForces(compiler=lambda graph: graph)
    for model in [*models, *models]:
        bound = Committee([model], acceleration="off").bind([frame])
        positions = torch.from_numpy(frame.positions.copy())
        expected, given = bound.energy_and_forces(positions, 0), compiled(model, bound.graph(positions), positions)
        torch.testing.assert_close(given, expected)
    assert compiled.ready


def labelled(count):
    """Distorted molecules of three compositions, with energies that contain the isolated atoms'."""
    rng = np.random.default_rng(0)
    frames = []
    for k in range(count):
        atoms = molecule(("H2O", "CH4", "CH3OH")[k % 3])
        shift = rng.normal(scale=0.05, size=atoms.positions.shape)
        frame = Frame(numbers=atoms.numbers, positions=atoms.positions + shift)
        energy = sum(ATOMS[int(z)] for z in atoms.numbers) - 5.0 * len(atoms) + 10.0 * float((shift**2).sum())
        frames.append(LabelledFrame(frame, energy, -20.0 * shift))
    return frames


@pytest.mark.parametrize("members", [1, 2])
def test_members_reproduce_the_isolated_atoms_and_fit_the_molecules(tiny_config, members, evaluate):
    frames, config = labelled(24), tiny_config("mace")
    tasks = [MemberTask(seed=seed) for seed in range(members)]
    settings = {"frames": frames, "model": config, "training": TRAINING, "updates": 40, "kernels": False}
    fitted = train_members(**settings, tasks=tasks)
    given = train_members(**settings, tasks=tasks, isolated_atoms=ATOMS)
    starts = [MemberTask(seed=3 + m, start=member) for m, member in enumerate(given)]
    again = train_members(**settings, tasks=starts, isolated_atoms=ATOMS)
    for member in [*given, *again]:
        assert member.model.constants.reference_energies == pytest.approx(tuple(ATOMS.values()))
        assert member.model.constants.cohesion == pytest.approx((-5.0, -5.0, -5.0), abs=1.0)
        alone, _ = evaluate(member.model, Frame(numbers=[6], positions=np.zeros((1, 3))))
        assert alone == pytest.approx(ATOMS[6])
    errors = [
        np.mean([abs(evaluate(member[0].model, item.frame)[0] - item.energy) for item in frames])
        for member in (fitted, given, again)
    ]
    assert errors[1] < 2.0 * errors[0] + 0.05
    assert errors[2] < 2.0 * errors[0] + 0.05


def test_training_goes_on_from_a_model_of_another_level(tiny_config, evaluate):
    """The start has no cohesion and other energies: the members have the given atoms and the molecules' energies."""
    frames, config = labelled(24), tiny_config("mace")
    settings = {"frames": frames, "model": config, "training": TRAINING, "kernels": False}
    shifted = [replace(item, energy=item.energy + 7.0 * len(item)) for item in frames]
    (start,) = train_members(**{**settings, "frames": shifted}, updates=40, tasks=[MemberTask(seed=0)])
    (member,) = train_members(**settings, updates=20, tasks=[MemberTask(seed=1, start=start)], isolated_atoms=ATOMS)
    assert member.model.constants.reference_energies == pytest.approx(tuple(ATOMS.values()))
    errors = [abs(evaluate(member.model, item.frame)[0] - item.energy) for item in frames]
    assert np.mean(errors) < 0.5


def test_a_single_molecule_shares_its_energy_of_atomization_equally(tiny_config):
    """Its composition determines a sum only: no element may get an energy that a broken bond would set free."""
    atoms = molecule("H2CO")
    rng = np.random.default_rng(0)
    energy = sum(ATOMS[int(z)] for z in atoms.numbers) - 16.0
    frames = [
        LabelledFrame(Frame.from_atoms(atoms), energy + 0.1 * rng.normal(), rng.normal(size=(4, 3))) for _ in range(10)
    ]
    constants = constants_from_data(frames, tiny_config("mace"), isolated_atoms=ATOMS)
    assert constants.cohesion == pytest.approx((-4.0, -4.0, -4.0), abs=0.1)


def test_fitted_energies_replace_the_cohesion_of_a_start(tiny_config):
    """The start is of another level, whose atoms differ by hundreds of eV: nothing of them remains."""
    frames, config = labelled(24), tiny_config("mace")
    settings = {"model": config, "training": TRAINING, "updates": 20, "kernels": False}
    other = [replace(item, energy=item.energy + 100.0 * len(item)) for item in frames]
    atoms = {number: energy + 100.0 for number, energy in ATOMS.items()}
    (start,) = train_members(**settings, frames=other, tasks=[MemberTask(seed=0)], isolated_atoms=atoms)
    (member,) = train_members(**settings, frames=frames, tasks=[MemberTask(seed=1, start=start)])
    assert member.model.constants.cohesion == ()
    assert member.model.constants.reference_energies == pytest.approx((-17.0, -155.0, -405.0), abs=3.0)


def test_targets_of_a_member_are_renewed_exactly(tiny_config):
    """Also stresses, and without touching the other member's."""
    config, rng = tiny_config("mace"), np.random.default_rng(1)
    cell = {"cell": 9.0 * np.eye(3), "pbc": np.ones(3, bool)}
    frames = [replace(item, frame=replace(item.frame, **cell), stress=rng.normal(size=(3, 3))) for item in labelled(6)]
    constants = constants_from_data(frames, config, isolated_atoms=ATOMS)
    models = [MSMACE(config, constants, seed=seed) for seed in range(2)]
    data = TrainingSet(frames, *models, device=torch.device("cpu"))
    models[1].add_to_offsets([0.5, -0.25, 1.0])
    data.renew_targets(member=1)
    fresh = TrainingSet(frames, *models, device=torch.device("cpu"))
    for ours, theirs in ((data.energies, fresh.energies), (data.forces, fresh.forces), (data.virials, fresh.virials)):
        assert torch.equal(ours, theirs)


def test_it_is_kept_on_disk_and_absent_without(tmp_path, model, with_cohesion):
    changed, _ = with_cohesion
    with h5py.File(tmp_path / "members.h5", "w") as file:
        write_member(file.create_group("with"), TrainedMember(changed))
        write_member(file.create_group("without"), TrainedMember(model))
        assert read_member(file["with"]).model.constants == changed.constants
        assert read_member(file["without"]).model.constants.cohesion == ()
        assert "cohesion" not in json.loads(file["without"].attrs["constants"])
