"""Bonds, the fragments that they hold together, and frames that have come apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.structures.frames import FloatArray, Frame, IntArray
from al_engine.structures.periodic import nearest_image


@dataclass(frozen=True, slots=True, eq=False)
class Bonds:
    """Bonds and their equilibrium lengths.

    Attributes:
        pairs: Atom indices, shape (n_bonds, 2).
        lengths: Equilibrium lengths in Å, shape (n_bonds,).
    """

    pairs: IntArray
    lengths: FloatArray

    @classmethod
    def at(cls, frame: Frame, pairs: IntArray) -> "Bonds":
        """The bonds with their lengths in a frame."""
        return cls(pairs=pairs, lengths=bond_lengths(frame.positions, pairs))


def bond_lengths(positions: FloatArray, pairs: IntArray) -> FloatArray:
    """Distances in Å, shape (n_bonds,), of atom pairs, shape (n_bonds, 2); no periodic images."""
    i, j = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    lengths: FloatArray = np.linalg.norm(positions[i] - positions[j], axis=1)
    return lengths


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
