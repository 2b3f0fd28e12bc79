"""Pairs of atoms against ASE's, the closest atoms against all images of all pairs, and what the searches load."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.geometry import get_distances
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from al_engine.structures.frames import Frame
from al_engine.structures.neighbours import closest_distance, pairs_within
from al_engine.structures.periodic import cell_heights, nearest_image

SKEWED = np.array([[4.0, 0.0, 0.0], [1.5, 5.0, 0.0], [-1.0, 2.0, 6.0]])
ISOLATED = """
import sys
import numpy as np
from al_engine.structures.frames import Frame
from al_engine.structures.neighbours import closest_distance
from labelers import screen_frame
from al_engine.structures.identity import duplicates
water = Frame(numbers=[8, 1, 1], positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
assert screen_frame(water, min_distance_ang=0.6) is None
assert duplicates([water], [water]).all()
assert np.isclose(closest_distance(water.positions, water.cell, water.pbc), 0.96, atol=1e-3)
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


# -- the closest atoms --------------------------------------------------------------------------------------------

PERIODIC = np.ones(3, dtype=bool)


def over_all_images(positions, cell, pbc, *, reach=4):
    """Smallest distance between different atoms, over all pairs and all images up to `reach` cells away."""
    i, j = np.triu_indices(len(positions), 1)
    shifts = np.array(list(itertools.product(*(range(-reach, reach + 1) if axis else [0] for axis in pbc))))
    vectors = (positions[i] - positions[j])[:, None, :] + (shifts @ cell)[None]
    return np.linalg.norm(vectors, axis=-1).min(initial=np.inf)


def over_nearest_images(positions, cell, pbc):
    """The same over nearest images by rounding, to the last bit."""
    vectors = nearest_image(positions[:, None, :] - positions[None, :, :], cell, pbc)
    squares = np.einsum("ijk,ijk->ij", vectors, vectors)
    np.fill_diagonal(squares, np.inf)
    return float(np.sqrt(squares.min()))


@st.composite
def crowds(draw):
    """2 to 20 atoms in and around a cell that may be skewed, or smaller than the search's cut-off, or absent."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = np.array(draw(st.sampled_from([(0, 0, 0), (1, 1, 1), (1, 1, 0), (0, 0, 1)])), dtype=bool)
    length, skew = draw(st.floats(1.0, 30.0)), draw(st.sampled_from([0.0, 0.1, 0.4]))
    cell = length * (np.diag(rng.uniform(0.7, 1.3, 3)) + skew * np.tril(rng.uniform(-1, 1, (3, 3)), -1)) * pbc[:, None]
    positions = length * rng.uniform(-1.0, 2.0, (draw(st.integers(2, 20)), 3)) + draw(st.sampled_from([0.0, 1e3]))
    same = draw(st.integers(0, 3))
    positions[1 : 1 + same] = positions[0] + (cell[0] if draw(st.booleans()) else 0.0)
    return positions, cell, pbc


@settings(max_examples=150, deadline=None)
@given(crowds())
def test_the_closest_atoms_are_those_of_all_pairs(crowd):
    _, cell, pbc = crowd
    found, exact, rounded = closest_distance(*crowd), over_all_images(*crowd), over_nearest_images(*crowd)
    assert found == pytest.approx(exact, rel=1e-9, abs=1e-9)
    if not pbc.any():
        assert found == rounded
    elif rounded < cell_heights(cell, pbc).min() / 2:  # where nearest images by rounding are exact
        assert found == pytest.approx(rounded, rel=1e-9, abs=1e-9)
    assert (found < 0.3) == (rounded < 0.3)


def test_closest_distance_over_a_skewed_cell():
    cell = np.array([[6.0, 0, 0], [1.5, 5.0, 0], [-1.0, 0.7, 7.0]])
    positions = np.random.default_rng(0).uniform(size=(300, 3)) @ cell * 3
    distances = get_distances(positions, cell=cell, pbc=PERIODIC)[1]
    expected = distances[np.triu_indices(300, 1)].min()
    assert closest_distance(positions, cell, PERIODIC) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("pbc", [np.zeros(3, dtype=bool), PERIODIC])
def test_an_atom_is_not_close_to_itself(pbc):
    """Nor to its own images, however small the cell."""
    assert closest_distance(np.ones((1, 3)), np.eye(3), pbc) == np.inf
    assert closest_distance(np.array([[0.0, 0, 0], [0.5, 0, 0]]), 0.6 * np.eye(3) * pbc, pbc) == pytest.approx(
        0.1 if pbc.any() else 0.5
    )


@pytest.mark.parametrize("copies", [2, 3, 5])
@pytest.mark.parametrize("pbc", [np.zeros(3, dtype=bool), PERIODIC])
def test_atoms_exactly_on_top_of_each_other(copies, pbc):
    positions = np.concatenate([np.full((copies, 3), 0.1), [[4.0, 4.0, 4.0]]])
    assert closest_distance(positions, 9.0 * np.eye(3), pbc) == 0.0


def test_looking_at_isolated_frames_loads_no_torch():
    done = subprocess.run([sys.executable, "-c", ISOLATED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
