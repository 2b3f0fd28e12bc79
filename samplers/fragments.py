"""What bonds hold together, and frames that have come apart."""

from collections.abc import Sequence

import numpy as np

from al_engine.frames import FloatArray, Frame, IntArray
from samplers.explosion import Bonds
from samplers.periodic import nearest_image


def fragment_of_atom(n_atoms: int, bonds: IntArray) -> IntArray:
    """Index of the bonded fragment each of N atoms belongs to, counted from 0 in order of first atoms, shape (N,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j = np.asarray(bonds, dtype=np.int64).reshape(-1, 2).T
    _, found = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n_atoms, n_atoms)), directed=False)
    first = np.unique(found, return_index=True)[1]
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    fragments: IntArray = rank[found]
    return fragments


def longest_bonds(frames: Sequence[Frame], bonds: Bonds) -> FloatArray:
    """How many times its equilibrium length the most stretched bond of each frame is.

    Args:
        frames: F frames of the system that the bonds are of.
        bonds: The bonds; in periodic frames they lead to the nearest image.

    Returns:
        Shape (F,); 0 where there are no bonds.
    """
    return np.array([_stretches(frame, bonds).max(initial=0.0) for frame in frames])


def shortest_bonds(frames: Sequence[Frame], bonds: Bonds) -> FloatArray:
    """How many times its equilibrium length the least stretched bond of each frame is; as `longest_bonds`."""
    return np.array([_stretches(frame, bonds).min(initial=np.inf) for frame in frames])


def _stretches(frame: Frame, bonds: Bonds) -> FloatArray:
    i, j = bonds.pairs.reshape(-1, 2).T
    vectors = nearest_image(frame.positions[i] - frame.positions[j], frame.cell, frame.pbc)
    stretches: FloatArray = np.linalg.norm(vectors, axis=1) / bonds.lengths
    return stretches
