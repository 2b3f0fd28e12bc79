"""Geometries and MD by the reference method: where it contradicts a classical field, and the frames it draws."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from al_engine.config import InitialConfig, LabelsConfig, SystemConfig
from al_engine.errors import InputError
from al_engine.structures.bonds import bond_lengths
from al_engine.structures.frames import Frame
from labelers import LabelError, create_labeler
from samplers.building.system import build_system
from samplers.classical.anneal_checkpoint import AnnealCheckpoint
from samplers.classical.classical import force_field_of, minimised_positions
from samplers.initial.initial import initial_frames
from samplers.initial.reference_geometry import (
    Outcome,
    covalent_kinds,
    geometry_disagreement,
    relaxation_outcome,
    relaxed,
    relaxed_system,
    spread_out,
)
from samplers.initial.reference_md import _chosen, _starts, reference_frames
from samplers.initial.reference_plan import SETTLING_STRIDES, plan, single_points

GFN2 = create_labeler(LabelsConfig(backend="tblite"))
BOLTZMANN_EV = 8.617333e-5


def gfn2(frames):
    labels = []
    for frame in frames:
        try:
            labels.append(GFN2.label(frame))
        except LabelError:
            labels.append(None)
    return labels


def system_of(smiles, molecules=1, **more):
    return build_system(SystemConfig(smiles=smiles, molecules=molecules, **more), base_dir=Path(), seed=1)


def contradiction(smiles, **more):
    system = system_of(smiles)
    (kind,) = covalent_kinds(system.molecule)
    field = force_field_of(system)
    return geometry_disagreement(
        kind, minimised_positions(kind), field=field, unpaired_electrons=0, reference=gfn2, **more
    )


# -- geometry ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smiles", "bond", "right"),
    [
        ("O=C=O", None, 1.14),
        ("N#N", "N0-N1", 1.10),
        ("O=S=O", None, 1.43),
        ("S=C=S", None, 1.54),
        ("[N-]=[N+]=O", None, None),
        ("O=C=S", None, None),
        ("CN=C=S", "C2-S3", 1.57),
        ("CCN=C=S", None, None),
        ("O=S(=O)=O", None, None),
        ("FB(F)F", None, 1.31),
    ],
)
def test_molecules_that_classical_fields_have_wrong_are_named_with_both_lengths(smiles, bond, right):
    why = contradiction(smiles)
    assert "Å by the reference method" in why
    assert bond is None or f"the bond {bond} of SMILES" in why
    assert right is None or float(re.findall(r"([\d.]+) Å", why)[-1]) == pytest.approx(right, abs=0.02)


@pytest.mark.parametrize(
    "smiles",
    [
        "O",
        "CCO",
        "CC(=O)N",
        "c1ccccc1",
        "CS(=O)C",
        "FC(F)(F)N(C(F)(F)F)C(F)(F)F",
        "CC(=O)[O-]",
        "[NH4+]",
        "CC#N",
        "ClCCl",
    ],
)
def test_ordinary_molecules_are_confirmed(smiles):
    assert contradiction(smiles) == ""


def test_without_relaxation_only_the_forces_decide():
    labels = []

    def dear(frames):
        labels.extend(frames)
        return gfn2(frames)

    system = system_of("O=C=O")
    (kind,) = covalent_kinds(system.molecule)
    why = geometry_disagreement(
        kind, minimised_positions(kind), field="MMFF94", unpaired_electrons=0, reference=dear, relax=False
    )
    assert "has forces of 13" in why
    assert len(labels) == 1
    assert contradiction("CS(=O)C", relax=False) == ""


def test_a_relaxation_whose_every_label_fails_ends_where_it_began():
    """The method has labelled the frame once, and fails on it and on all others afterwards."""
    frame = Frame(numbers=[1, 1], positions=[[0, 0, 0], [0.8, 0, 0]])
    answers = [[(-1.0, np.array([[0.5, 0, 0], [-0.5, 0, 0]]))]]
    found = relaxed(frame, np.array([[0, 1]]), lambda frames: answers.pop() if answers else [None] * len(frames))
    assert found.frame.content_hash() == frame.content_hash()
    assert (found.energy_drop, found.largest_force) == (0.0, 0.5)


def test_atoms_that_lie_on_each_other_are_spread_out():
    """Six fluorines in a heap on one side of a phosphorus become an octahedron."""
    rng = np.random.default_rng(2)
    frame = Frame(
        numbers=[15, *[9] * 6], positions=[[0, 0, 0], *(rng.normal(0, 0.3, (6, 3)) + np.array([1.5, 0, 0]))], charge=-1
    )
    bonds = np.array([[0, k] for k in range(1, 7)])
    arms = spread_out(frame, bonds)[1:] - spread_out(frame, bonds)[0]
    cosines = (arms @ arms.T / np.outer(*[np.linalg.norm(arms, axis=1)] * 2))[np.triu_indices(6, 1)]
    assert np.sort(np.abs(cosines)).round(2).tolist() == [0.0] * 12 + [1.0] * 3
    found = relaxed(frame, bonds, gfn2)
    lengths = np.linalg.norm(found.frame.positions[1:] - found.frame.positions[0], axis=1)
    np.testing.assert_allclose(lengths, lengths.mean(), atol=0.01)
    assert 1.55 < lengths.mean() < 1.70


def test_each_kind_of_ion_and_molecule_is_checked_once(tmp_path):
    from ase import Atoms
    from ase.build import molecule

    water = molecule("H2O")
    cluster = Atoms("Na", [[0, 0, 0]]) + sum(
        (Atoms(water.symbols, water.positions + np.array([0, 0, 3.0 * k])) for k in (1, 2, 3)), Atoms()
    )
    cluster += Atoms("Cl", [[4.0, 0, 0]])
    cluster.write(tmp_path / "salt.xyz")
    system = build_system(SystemConfig(structure="salt.xyz"), base_dir=tmp_path, seed=1)
    assert [len(kind) for kind in covalent_kinds(system.molecule)] == [3]


# -- MD ---------------------------------------------------------------------------------------------------------


def springs(frames):
    """Atoms on springs to the places of the first frame: its mean energy is known."""
    labels = []
    for frame in frames:
        moved = frame.positions - frame.positions.mean(axis=0) - REST
        labels.append((float(2.5 * (moved**2).sum()), -5.0 * moved))
    return labels


WATER = system_of("O")
REST = WATER.frame.positions - WATER.frame.positions.mean(axis=0)


def config(**more):
    return InitialConfig(**{"source": "reference", "frames": 30, "test_frames": 6, "hot_kelvin": 900.0, **more})


def test_the_plan_gives_at_least_the_wanted_frames_at_their_temperatures():
    planned = plan(config(frames=400, test_frames=40), [300.0, 500.0])
    kept = planned.strides - 4
    assert len(planned.train_kelvin) * kept >= 400
    assert planned.train_kelvin[0] == 900.0
    assert planned.train_kelvin[-1] == 280.0
    for kelvin in (300.0, 500.0):
        assert planned.test_kelvin.count(kelvin) * kept >= 20
    assert (
        single_points(config(), [300.0]) == len(plan(config(), [300.0]).kelvins) * plan(config(), [300.0]).strides * 40
    )


@pytest.mark.parametrize(
    ("frames", "test_frames"), [(800, 50), (800, 25), (160, 10), (800, 100), (160, 20), (800, 40), (500, 100)]
)
def test_every_temperature_has_its_share_of_the_test_set(frames, test_frames):
    kelvins = [300.0, 500.0, 700.0, 900.0]
    own = config(frames=frames, test_frames=test_frames)
    planned = plan(own, kelvins)
    kept = np.zeros((planned.strides - SETTLING_STRIDES, 3 * len(planned.kelvins), 3))
    found = _chosen(kept, planned, WATER.frame, own)
    counts = [int(np.sum(found.test_kelvin == kelvin)) for kelvin in kelvins]
    assert sum(counts) == test_frames
    assert max(counts) - min(counts) <= 1
    per_trajectory = [int(np.sum(found.train_kelvin == kelvin)) for kelvin in planned.train_kelvin]
    assert sum(per_trajectory) == frames
    assert max(per_trajectory) - min(per_trajectory) <= 1


def test_a_few_lost_frames_do_not_fail_the_initial_set():
    """A label that failed, or a trajectory that ended early."""
    own = config(frames=800, test_frames=40)
    planned = plan(own, [300.0, 900.0])
    kept = np.zeros((planned.strides - SETTLING_STRIDES, 3 * len(planned.kelvins), 3))
    kept[-2:, :3] = np.nan
    assert len(_chosen(kept, planned, WATER.frame, own).train) == 800


def test_frames_have_the_energy_of_their_temperature():
    found = reference_frames(
        WATER,
        config(frames=640, test_frames=320, hot_kelvin=400.0, cold_kelvin=400.0, reference_stride_steps=30),
        [800.0],
        reference=springs,
        seed=3,
    )
    for frames, kelvins, kelvin in ((found.train, found.train_kelvin, 400.0), (found.test, found.test_kelvin, 800.0)):
        assert set(kelvins.tolist()) == {kelvin}
        energies = [energy for energy, _ in springs(frames)]
        assert np.mean(energies) == pytest.approx(0.5 * 6 * BOLTZMANN_EV * kelvin, rel=0.12)


def test_an_interrupted_run_gives_the_frames_of_an_uninterrupted_run(tmp_path):
    few = config(frames=32, test_frames=4, reference_stride_steps=5)
    atoms = len(plan(few, [300.0]).kelvins) * 3

    def frames(reference, path):
        checkpoint = AnnealCheckpoint(path, key="k", n_atoms=atoms)
        return reference_frames(WATER, few, [300.0], reference=reference, seed=3, checkpoint=checkpoint)

    alone = frames(springs, tmp_path / "alone.h5")
    calls, calls_resumed = [], []

    def dying(frames):
        calls.append(len(frames))
        if sum(count > 1 for count in calls) > 25:  # the others are relaxations
            raise KeyboardInterrupt
        return springs(frames)

    with pytest.raises(KeyboardInterrupt):
        frames(dying, tmp_path / "cut.h5")
    resumed = frames(lambda own: calls_resumed.append(len(own)) or springs(own), tmp_path / "cut.h5")
    assert len(calls_resumed) < 31  # 6 strides of 5 steps and one for each round, but not those done before
    assert 1 in calls
    assert 1 not in calls_resumed
    for ours, theirs in ((resumed.train, alone.train), (resumed.test, alone.test)):
        assert [frame.content_hash() for frame in ours] == [frame.content_hash() for frame in theirs]


def test_trajectories_of_the_test_set_start_from_relaxed_conformers_of_their_own():
    system = system_of("OCCO")
    planned = plan(config(), [300.0, 900.0])
    train = len(planned.train_kelvin)
    starts = _starts(system, planned, reference=gfn2, seed=1, checkpoint=None)
    hashes = [start.content_hash() for start in starts]
    assert hashes[:train] == [system.frame.content_hash()] * train
    assert len(planned.test_kelvin) == 2
    assert len(set(hashes)) == 3
    for start in starts[train:]:
        assert np.linalg.norm(gfn2([start])[0].forces, axis=1).max() < 0.5
        lengths = bond_lengths(start.positions, system.bonds.pairs)
        np.testing.assert_allclose(lengths, system.bonds.lengths, atol=0.05)


def test_rare_failures_of_the_method_cost_a_trajectory_and_constant_failures_the_set():
    def faulty(frames):
        return [
            None if frame.positions[0, 0] > REST[0, 0] + 0.35 else label
            for frame, label in zip(frames, springs(frames), strict=True)
        ]

    found = reference_frames(WATER, config(frames=64, reference_stride_steps=10), [300.0], reference=faulty, seed=3)
    assert len(found.train) == 64
    assert all(np.isfinite(frame.positions).all() for frame in found.train)
    with pytest.raises(InputError, match=r"gave 0 sound frames, initial\.frames asks for 30"):
        reference_frames(WATER, config(), [300.0], reference=lambda frames: [None] * len(frames), seed=3)


def test_carbon_dioxide_gets_the_bonds_of_the_reference_method():
    system = relaxed_system(gfn2, system_of("O=C=O", 2), SystemConfig(smiles="O=C=O", molecules=2), seed=1)
    np.testing.assert_allclose(system.bonds.lengths, 1.143, atol=0.005)
    found = initial_frames(
        system,
        config(frames=16, test_frames=4, hot_kelvin=600.0, reference_stride_steps=10),
        [300.0],
        base_dir=Path(),
        seed=1,
        reference=gfn2,
    )
    assert found.force_field == "reference"
    lengths = [np.linalg.norm(f.positions[i] - f.positions[j]) for f in found.train for i, j in system.bonds.pairs]
    assert np.mean(lengths) == pytest.approx(1.15, abs=0.02)
    assert np.max(lengths) < 1.35


def test_a_molecule_that_leaves_its_crystal_is_relaxed_without_images(tmp_path):
    water = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=[5.0, 5.0, 5.0], pbc=True)
    write(tmp_path / "crystal.xyz", water)
    config = SystemConfig(structure="crystal.xyz", molecules=2, shape="cluster")
    system = build_system(config, base_dir=tmp_path, seed=1)
    asked = []

    def watched(frames):
        asked.extend(frames)
        return gfn2(frames)

    assert relaxation_outcome(system, watched) is Outcome.KEPT
    relaxed_system(watched, system, config, seed=1)
    assert asked
    assert not any(frame.is_periodic for frame in asked)
