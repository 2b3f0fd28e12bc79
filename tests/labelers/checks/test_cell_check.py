"""Cells that are too small for a method with only the Γ point are found by doubling them."""

import numpy as np
import pytest
from ase.build import bulk

from al_engine.config import CellCheckConfig, LabelsConfig
from al_engine.structures.frames import Frame
from labelers import create_labeler
from labelers.checks.cell_check import changes_when_doubled, doubled, heights, too_small

GFN2 = create_labeler(LabelsConfig(backend="tblite"))
CHECK = CellCheckConfig()


def gfn2(frames):
    return [GFN2.label(frame) for frame in frames]


def jiggled(atoms):
    frame = Frame.from_atoms(atoms)
    return frame.with_positions(frame.positions + np.random.default_rng(0).normal(0, 0.05, frame.positions.shape))


@pytest.mark.parametrize(
    ("atoms", "energy"),
    [(bulk("NaCl", "rocksalt", a=5.64), 0.4), (bulk("Si"), 2.0), (bulk("Si", cubic=True), 0.3)],
    ids=["salt", "silicon", "a cube of silicon"],
)
def test_crystals_in_their_smallest_cells_are_refused_with_the_numbers(atoms, energy):
    frame = jiggled(atoms)
    changes = changes_when_doubled(frame, gfn2, max_height_ang=CHECK.max_height_ang)
    assert len(changes) == 3
    assert min(abs(change.energy_ev_per_atom) for change in changes) > energy
    reason = too_small(changes, frame, CHECK)
    assert "doubled along a" in reason
    assert "Repeat the cell, to " in reason
    assert f"{1e3 * changes[0].energy_ev_per_atom:+.1f} meV/atom" in reason


def test_a_molecule_in_a_wide_cell_is_accepted():
    frame = Frame(
        numbers=[8, 1, 1], positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=8 * np.eye(3), pbc=[True] * 3
    )
    changes = changes_when_doubled(frame, gfn2, max_height_ang=CHECK.max_height_ang)
    assert max(change.force_ev_per_ang for change in changes) < 0.01
    assert too_small(changes, frame, CHECK) == ""
    assert changes_when_doubled(frame, gfn2, max_height_ang=7.9) == []


def test_a_doubled_cell_holds_everything_twice():
    frame = jiggled(bulk("Si"))
    for axis in range(3):
        twice = doubled(frame, axis)
        assert len(twice) == 2 * len(frame)
        assert np.linalg.det(twice.cell) == pytest.approx(2 * np.linalg.det(frame.cell))
        assert heights(twice.cell)[axis] == pytest.approx(2 * heights(frame.cell)[axis])


def test_a_failed_label_decides_nothing():
    frame = jiggled(bulk("Si"))
    assert changes_when_doubled(frame, lambda frames: [None] * len(frames), max_height_ang=12.0) is None
