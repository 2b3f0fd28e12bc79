"""Atoms that are close to each other."""

import numpy as np

from al_engine.frames import FloatArray, Frame, IntArray


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
