"""Pairs of atoms that are close to each other, and the two closest atoms, found with cell lists and k-d trees.

Periodic frames are searched with a cell list (vesin), isolated frames with a k-d tree (scipy); the time grows with the
number of atoms, not with its square.
"""

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray

SEARCH_ANG = 3.0
"""Smallest cut-off of a periodic search in Å: a smaller cut-off would make more cells than there are atoms."""
_ROUNDING = 1e-6
"""Largest relative difference between a distance that a search reports and the exact distance."""


def pairs_within(frame: Frame, cutoff_ang: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Find every pair of atoms closer than a cut-off.

    Each pair is given once; in a periodic frame, once for every pair of images closer than the cut-off. An atom forms
    pairs with its own images.

    Args:
        frame: N atoms at finite positions.
        cutoff_ang: Cut-off distance in Å.

    Returns:
        Indices of the first atoms, indices of the second atoms, and distances in Å, each of shape (P,).
    """
    if frame.is_periodic:
        first, second, _, distances = _periodic_pairs(
            frame.positions, frame.cell, frame.pbc, max(cutoff_ang, SEARCH_ANG)
        )
    else:
        from scipy.spatial import KDTree  # importing scipy.spatial takes a third of a second

        first, second = KDTree(frame.positions).query_pairs(cutoff_ang, output_type="ndarray").T
        distances = np.linalg.norm(frame.positions[first] - frame.positions[second], axis=1)
    within = distances < cutoff_ang  # both searches reach farther or include pairs exactly at the cut-off
    return first[within], second[within], distances[within]


def closest_distance(positions: FloatArray, cell: FloatArray, pbc: BoolArray) -> float:
    """Find the smallest distance between two different atoms, over all periodic images.

    Distances between an atom and its own images do not count.

    Args:
        positions: Finite positions in Å, shape (N, 3).
        cell: Cell vectors as rows in Å, shape (3, 3).
        pbc: Periodicity along each cell vector, shape (3,).

    Returns:
        The distance in Å; infinity for fewer than two atoms.
    """
    if len(positions) < 2:  # noqa: PLR2004 - a distance takes two atoms
        return np.inf
    vectors = _shortest_periodic(positions, cell, pbc) if np.any(pbc) else _shortest_isolated(positions)
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).min()))


def _shortest_isolated(positions: FloatArray) -> FloatArray:
    """Vectors in Å, shape (n, 3), between the closest atoms: all pairs within rounding of the smallest distance."""
    from scipy.spatial import KDTree

    distances, nearest = KDTree(positions).query(positions, k=2)
    atoms = np.flatnonzero(distances[:, 1] <= (1.0 + _ROUNDING) * distances[:, 1].min())
    # An atom is its own nearest neighbour, unless other atoms coincide with it.
    others = np.where(nearest[atoms, 0] == atoms, nearest[atoms, 1], nearest[atoms, 0])
    vectors: FloatArray = positions[atoms] - positions[others]
    return vectors


def _shortest_periodic(positions: FloatArray, cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """Vectors in Å, shape (n, 3), between the closest images of different atoms, as `_shortest_isolated`."""
    cutoff = SEARCH_ANG
    while True:
        first, second, shifts, distances = _periodic_pairs(positions, cell, pbc, cutoff)
        different = np.flatnonzero(first != second)
        if different.size:
            break
        cutoff *= 2.0
    distances = distances[different]
    closest = different[distances <= (1.0 + _ROUNDING) * distances.min()]
    vectors: FloatArray = (positions[first[closest]] - positions[second[closest]]) - shifts[closest] @ cell
    return vectors


def _periodic_pairs(
    positions: FloatArray, cell: FloatArray, pbc: BoolArray, cutoff_ang: float
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """Every pair of images within a cut-off, once.

    Returns:
        Indices i and j, shape (P,); lattice shifts S, shape (P, 3), so that the vector of a pair is r_j - r_i + S cell;
        and distances in Å, shape (P,).
    """
    from vesin import NeighborList  # loads torch where torch is installed: two seconds and 150 MB

    first, second, shifts, distances = NeighborList(cutoff=cutoff_ang, full_list=False).compute(
        points=positions, box=cell, periodic=pbc, quantities="ijSd"
    )
    return first.astype(np.int64), second.astype(np.int64), shifts.astype(np.int64), distances
