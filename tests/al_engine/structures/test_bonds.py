"""Frames that have come apart: bonds by their stretch, across boundaries too."""

import numpy as np

from al_engine.structures.bonds import Bonds, longest_bonds
from al_engine.structures.frames import Frame

WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
BONDS = Bonds.at(Frame(numbers=[8, 1, 1], positions=WATER), np.array([[0, 1], [0, 2]]))


def water(factor, *, cell=None, shift=0.0):
    """One O-H bond stretched; wrapped into a cell if there is one."""
    positions = WATER * np.array([[1.0], [factor], [1.0]]) + shift
    if cell is None:
        return Frame(numbers=[8, 1, 1], positions=positions)
    fractional = positions @ np.linalg.inv(cell)
    return Frame(numbers=[8, 1, 1], positions=(fractional % 1.0) @ cell, cell=cell, pbc=[True] * 3)


def test_the_most_stretched_bond_counts():
    frames = [water(factor) for factor in (1.0, 0.7, 1.4, 3.0)]
    np.testing.assert_allclose(longest_bonds(frames, BONDS), [1.0, 1.0, 1.4, 3.0], rtol=1e-12)


def test_wrapping_does_not_break_a_bond():
    """The molecule lies across every face of a skewed cell; its bond has more than half of the cell left to grow."""
    cell = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [-1.0, 1.0, 10.0]])
    for factor in (1.0, 2.5):
        frames = [
            water(factor, cell=cell, shift=shift) for shift in ([-0.1, 0.0, 0.0], [8.8, 7.9, 9.9], [0.0, -0.5, 4.0])
        ]
        np.testing.assert_allclose(longest_bonds(frames, BONDS), factor, rtol=1e-12)


def test_atoms_without_bonds_do_not_come_apart():
    nothing = Bonds(pairs=np.empty((0, 2), dtype=int), lengths=np.empty(0))
    assert longest_bonds([water(9.0)], nothing).tolist() == [0.0]
    assert longest_bonds([], BONDS).tolist() == []
