"""Positions, energies and forces that do not fit each other are found, and right ones are never refused."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from al_engine.structures.frames import Frame
from samplers.reading.label_units import unit_fault
from samplers.reading.labelled_files import FileLabel

KCAL = units.mol / units.kcal


def path_of(atoms, *, seed=0, step=0.01, frames=12):
    """Labelled frames along a line, `step` Å per atom and frame, by EMT."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(scale=step, size=(len(atoms), 3))
    found = []
    for index in range(frames):
        moved = atoms.copy()
        moved.positions += (index - 2) * direction
        moved.calc = EMT()
        frame = Frame(moved.numbers, moved.positions, cell=moved.cell.array, pbc=moved.pbc)
        found.append(FileLabel(frame, f"frame {index}", moved.get_potential_energy(), moved.get_forces()))
    return found


@pytest.fixture(scope="module")
def alone():
    return path_of(molecule("CH3CH2OH"))


@pytest.fixture(scope="module")
def periodic():
    """Copper, wrapped into its cell in every frame, so that atoms jump across it."""
    found = path_of(bulk("Cu", cubic=True) * (2, 2, 1), step=0.02)
    return [replace(label, frame=label.frame.with_positions(wrapped(label.frame))) for label in found]


def wrapped(frame):
    return Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True).get_positions(wrap=True)


def scaled(labels, energy, forces):
    return [replace(label, energy=energy * label.energy, forces=forces * label.forces) for label in labels]


def test_right_labels_are_not_refused(alone, periodic):
    assert unit_fault(alone) == ""
    assert unit_fault(periodic) == ""


@pytest.mark.parametrize("system", ["alone", "periodic"])
def test_gradients_in_place_of_forces_are_named(system, request):
    fault = unit_fault(scaled(request.getfixturevalue(system), 1.0, -1.0))
    assert "wrong sign" in fault
    assert "units" not in fault


def test_gradients_in_other_units_are_both_named(alone):
    fault = unit_fault(scaled(alone, 1 / units.Hartree, -units.Bohr / units.Hartree))
    assert "wrong sign" in fault
    assert "energies in hartree and forces in hartree/bohr" in fault


def test_units_of_periodic_frames_are_compared_too(periodic):
    assert "energies in kcal/mol" in unit_fault(scaled(periodic, KCAL, 1.0))


def test_frames_of_different_cells_are_not_compared(periodic):
    strained = [
        replace(label, frame=replace(label.frame, cell=label.frame.cell * (1 + 1e-3 * index)))
        for index, label in enumerate(periodic)
    ]
    assert unit_fault(scaled(strained, KCAL, 1.0)) == ""


def test_energies_of_two_methods_by_turns_do_not_belong_to_the_forces(alone):
    mixed = [replace(label, energy=label.energy + 0.5 * (index % 2)) for index, label in enumerate(alone)]
    assert "do not belong together" in unit_fault(mixed)


def test_forces_in_another_order_of_the_atoms_do_not_belong_to_the_energies():
    rng = np.random.default_rng(5)
    labels = []
    for seed in range(20):  # many directions, so that no correlation is left by chance
        labels += path_of(molecule("CH3CH2OH"), seed=seed, step=0.02, frames=3)
    order = rng.permutation(len(labels[0].frame))
    assert unit_fault(labels) == ""
    assert unit_fault([replace(label, forces=label.forces[order]) for label in labels]) != ""


def test_energies_and_forces_that_are_both_in_kcal_are_told_by_their_size():
    hot = path_of(molecule("CH3CH2OH"), step=0.06)
    typical = float(np.median([np.sqrt(np.mean(label.forces**2)) for label in hot]))
    factor = 20.0 / typical
    assert "RMS force above 20 eV/Å" in unit_fault(scaled(hot, factor, factor))
    assert unit_fault(scaled(hot, factor, factor), sizes=False) == ""


def test_positions_in_bohr_are_told_by_the_distances(alone, periodic):
    for labels in (alone, periodic):
        in_bohr = [
            replace(
                label,
                frame=replace(
                    label.frame, positions=label.frame.positions / units.Bohr, cell=label.frame.cell / units.Bohr
                ),
            )
            for label in labels
        ]
        assert "in bohr" in unit_fault(in_bohr)


def test_a_dissociation_curve_is_not_taken_for_bohr():
    lengths = np.linspace(0.7, 3.0, 20)
    labels = [FileLabel(Frame([1, 1], [[0, 0, 0], [0, 0, r]]), f"{r}", -1.0, np.zeros((2, 3))) for r in lengths]
    assert unit_fault(labels) == ""
