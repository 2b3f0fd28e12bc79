"""Errors per molecule and along curves, in cases with known results."""

import numpy as np
import pytest

from ablation.data import LabelledSet
from ablation.metrics import (
    Predictions,
    curve_errors,
    labels,
    net_forces,
    set_errors,
    set_magnitudes,
    summary,
    torques,
    well,
)
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import Frame, LabelledFrame

WATER = np.array([8, 1, 1])
SHIFTS = np.array([-0.4, -0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 2.0, 4.0, 15.0])


def waters(rng, *, frames=3, molecules=2):
    """Molecules with the elements of water, random positions and random labels."""
    made = []
    for _ in range(frames):
        frame = Frame(numbers=np.tile(WATER, molecules), positions=rng.normal(size=(3 * molecules, 3)))
        made.append(LabelledFrame(frame, energy=rng.normal(), forces=rng.normal(size=(3 * molecules, 3))))
    return LabelledSet(tuple(made), {}, molecule_atoms=3)


def lennard_jones(separation, *, depth, place):
    ratio = (place / separation) ** 6
    return depth * (ratio**2 - 2 * ratio)


def curves(depth, place, *, contact=2.9, offset=0.0):
    """A set of Lennard-Jones curves, one for each depth, and its energies."""
    energies = np.concatenate([lennard_jones(contact + SHIFTS, depth=d, place=place) for d in depth]) + offset
    frame = Frame(numbers=[2, 2], positions=np.zeros((2, 3)))
    frames = tuple(LabelledFrame(frame, energy=e, forces=np.zeros((2, 3))) for e in energies)
    columns = {"curve": np.repeat(np.arange(len(depth)), len(SHIFTS)), "shift_ang": np.tile(SHIFTS, len(depth))}
    return LabelledSet(frames, columns, molecule_atoms=1), energies


def test_net_force_is_the_sum_over_each_molecule():
    forces = np.arange(12.0).reshape(4, 3)
    found = net_forces(forces, np.array([0, 1, 0, 1]))
    assert found.tolist() == [[6.0, 8.0, 10.0], [12.0, 14.0, 16.0]]


def test_a_couple_turns_its_molecule_and_moves_nothing():
    """Forces ±F at ±d about the centre have the torque 2 d x F for any centre."""
    arm, force, centre = np.array([0.0, 1.5, 0.0]), np.array([0.0, 0.0, 0.2]), np.array([7.0, -3.0, 2.0])
    positions, forces = centre + np.stack([arm, -arm]), np.stack([force, -force])
    molecule = np.zeros(2, dtype=int)
    assert net_forces(forces, molecule) == pytest.approx(0.0)
    assert torques(forces, positions, np.array([9, 9]), molecule)[0] == pytest.approx([0.6, 0.0, 0.0])


def test_gravity_does_not_turn_a_molecule(rng):
    """Forces proportional to masses have no torque about the centre of mass, but about other centres."""
    positions = rng.normal(size=(6, 3))
    numbers = np.tile(WATER, 2)
    forces = atomic_masses(numbers)[:, None] * np.array([0.1, -0.2, 0.3])
    assert torques(forces, positions, numbers, np.repeat([0, 1], 3)) == pytest.approx(0.0, abs=1e-12)
    assert abs(np.cross(positions[:3] - positions[:3].mean(0), forces[:3]).sum(0)).max() > 0.01


def test_the_labels_themselves_have_no_error(rng):
    data = waters(rng)
    assert set(set_errors(data, labels(data)).values()) == {0.0}


def test_an_energy_offset_per_atom_is_an_energy_error_alone(rng):
    data = waters(rng)
    true = labels(data)
    errors = set_errors(data, Predictions(true.energies + 0.002 * 6, true.forces))
    assert errors.pop("energy_mev_per_atom") == pytest.approx(2.0)
    assert list(errors.values()) == pytest.approx([0.0] * 4, abs=1e-9)


def test_forces_inside_a_molecule_cancel_in_its_net_force(rng):
    """Opposite errors along a bond are errors of atoms, but not of molecules."""
    data = waters(rng)
    wrong = []
    for item in data.frames:
        bond = item.frame.positions[1] - item.frame.positions[0]
        forces = item.forces.copy()
        forces[0] += bond
        forces[1] -= bond
        wrong.append(forces)
    errors = set_errors(data, Predictions(labels(data).energies, wrong))
    assert errors["force_mev_per_ang"] > 10.0
    assert errors["net_force_mev_per_ang"] == pytest.approx(0.0, abs=1e-9)
    assert errors["torque_mev"] == pytest.approx(0.0, abs=1e-9)


def test_pushing_one_atom_is_an_error_of_its_molecule(rng):
    data = waters(rng, frames=1)
    forces = data.frames[0].forces.copy()
    forces[4, 0] += 0.6  # second molecule
    errors = set_errors(data, Predictions(labels(data).energies, [forces]))
    assert errors["force_mev_per_ang"] == pytest.approx(600.0 / 18)  # of 18 components
    assert errors["net_force_mev_per_ang"] == pytest.approx(600.0 / 6)  # of 6


def test_magnitudes_are_the_errors_of_knowing_the_mean_alone(rng):
    data = waters(rng)
    found = set_magnitudes(data)
    assert found["force_mev_per_ang"] == pytest.approx(1000 * np.abs([item.forces for item in data.frames]).mean())
    assert found["energy_mev_per_atom"] == pytest.approx(found["energy_centred_mev_per_atom"])


def test_the_well_of_a_lennard_jones_curve_is_where_it_should_be():
    depth, position = well(SHIFTS, lennard_jones(2.9 + SHIFTS, depth=0.08, place=3.2))
    assert depth == pytest.approx(0.08, rel=0.02)
    assert position == pytest.approx(0.3, abs=0.03)


def test_curves_are_compared_relative_to_their_far_end(rng):
    data, energies = curves([0.05, 0.1], 3.2)
    offsets = np.repeat(rng.normal(size=2), len(SHIFTS))
    assert list(curve_errors(data, energies + offsets).values()) == pytest.approx([0.0] * 5, abs=1e-9)


def test_order_of_a_curves_frames_does_not_matter(rng):
    data, energies = curves([0.05, 0.1], 3.2)
    order = rng.permutation(len(energies))
    shuffled = LabelledSet(
        tuple(data.frames[k] for k in order), {name: c[order] for name, c in data.columns.items()}, molecule_atoms=1
    )
    wrong = 1.3 * energies
    assert curve_errors(shuffled, wrong[order]) == pytest.approx(curve_errors(data, wrong))


def test_a_well_too_deep_by_a_tenth_is_a_depth_error_and_no_shift():
    data, energies = curves([0.05, 0.1], 3.2)
    errors = curve_errors(data, 1.1 * energies)
    assert errors["depth_mev"] == pytest.approx(7.5, rel=0.02)  # a tenth of the mean depth
    assert errors["position_ang"] == 0.0
    assert errors["tail_mev"] < errors["binding_mev"] < errors["wall_mev"]


def test_a_well_too_far_out_is_a_position_error():
    data, _ = curves([0.05], 3.2)
    _, farther = curves([0.05], 3.4)
    assert curve_errors(data, farther)["position_ang"] == pytest.approx(0.2, abs=0.03)


def test_summary_gives_mean_and_half_the_range():
    assert summary([{"a": 1.0}, {"a": 4.0}, {"a": 2.5}]) == {"a": (2.5, 1.5)}
