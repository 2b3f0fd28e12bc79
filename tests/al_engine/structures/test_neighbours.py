"""Pairs of atoms against ASE's, and what looking for them loads."""

import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from al_engine.structures.frames import Frame
from al_engine.structures.neighbours import pairs_within

SKEWED = np.array([[4.0, 0.0, 0.0], [1.5, 5.0, 0.0], [-1.0, 2.0, 6.0]])
ISOLATED = """
import sys
from al_engine.structures.frames import Frame
from labelers import screen_frame
from al_engine.structures.identity import duplicates
water = Frame(numbers=[8, 1, 1], positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
assert screen_frame(water, min_distance_ang=0.6) is None
assert duplicates([water], [water]).all()
print(sorted({"torch", "vesin"} & set(sys.modules)))
"""


def described(first, second, distances):
    """Pairs in an order of their own, so that two lists can be compared; a pair may be named from either end."""
    rows = np.column_stack([np.minimum(first, second), np.maximum(first, second), np.round(distances, 9)])
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("pbc", [(0, 0, 0), (1, 1, 1), (1, 1, 0), (0, 1, 0)])
@pytest.mark.parametrize("cutoff", [0.5, 2.5, 7.0])
def test_pairs_are_those_of_ase(pbc, cutoff):
    """Beyond the cell's width too, where an atom meets its own images."""
    positions = np.random.default_rng(1).uniform(0.0, 5.0, (12, 3))
    cell = SKEWED * np.array(pbc)[:, None]
    frame = Frame(numbers=[6] * 12, positions=positions, cell=cell, pbc=np.array(pbc, dtype=bool))
    whole = neighbor_list("ijd", Atoms("C12", positions, cell=SKEWED, pbc=pbc), cutoff)  # each pair from both ends
    ours = described(*pairs_within(frame, cutoff))
    np.testing.assert_allclose(np.repeat(ours, 2, axis=0), described(*whole), atol=1e-8)
    assert len(ours) > 0 or cutoff < 1.0


@pytest.mark.parametrize("n_atoms", [0, 1])
def test_fewer_than_two_atoms_make_no_pair(n_atoms):
    first, second, distances = pairs_within(Frame(numbers=[1] * n_atoms, positions=np.zeros((n_atoms, 3))), 3.0)
    assert len(first) == len(second) == len(distances) == 0


def test_a_pair_exactly_at_the_cutoff_is_none():
    frame = Frame(numbers=[1, 1, 1], positions=[[0, 0, 0], [2, 0, 0], [3.5, 0, 0]])
    assert pairs_within(frame, 2.0)[2].tolist() == [1.5]


def test_looking_at_isolated_frames_loads_no_torch():
    done = subprocess.run([sys.executable, "-c", ISOLATED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
