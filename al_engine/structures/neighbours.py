"""Atoms that are close to each other."""

import numpy as np

from al_engine.structures.frames import FloatArray, Frame, IntArray
from al_engine.structures.periodic import nearest_image


def pairs_within(frame: Frame, cutoff_ang: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Every pair of atoms closer than a cut-off, once; in periodic frames once for each image that is.

    Args:
        frame: N atoms at finite positions.
        cutoff_ang: Distance in Å.

    Returns:
        Indices of the first atoms and of the second, and their distances in Å, each of shape (P,).
    """
    if frame.is_periodic:
        from vesin import NeighborList  # loads torch where it is installed: two seconds, 150 MB

        first, second, distances = NeighborList(cutoff=cutoff_ang, full_list=False).compute(
            points=frame.positions, box=frame.cell, periodic=frame.pbc, quantities="ijd"
        )
        return first.astype(np.int64), second.astype(np.int64), distances
    from scipy.spatial import KDTree  # takes a third of a second

    first, second = KDTree(frame.positions).query_pairs(cutoff_ang, output_type="ndarray").T
    distances = np.linalg.norm(frame.positions[first] - frame.positions[second], axis=1)
    within = distances < cutoff_ang  # the tree takes those exactly at it too
    return first[within], second[within], distances[within]


_ROWS = 256  # rows of the distance matrix at a time, to bound memory in large boxes


def closest_distance(positions: FloatArray, cell: FloatArray, pbc: np.ndarray) -> float:
    """Smallest distance in Å between two atoms, over minimum images where periodic; inf for a single atom.

    Exact where it is below half the smallest cell height (`nearest_image`), which is what a check for atoms on top of
    each other needs.
    """
    n_atoms = len(positions)
    closest = np.inf
    for start in range(0, n_atoms, _ROWS):
        rows = positions[start : start + _ROWS]
        vectors = rows[:, None, :] - positions[None, start:, :]
        vectors = nearest_image(vectors, cell, pbc)
        squares = np.einsum("ijk,ijk->ij", vectors, vectors)
        diagonal = np.arange(len(rows))
        squares[diagonal, diagonal] = np.inf
        closest = min(closest, float(squares.min()))
    return float(np.sqrt(closest))
