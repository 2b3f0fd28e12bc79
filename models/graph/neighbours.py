"""Neighbour search: compact pieces of a frame, their surroundings, and pairs by a k-d tree. Needs no torch.

Periodic images are points of their own, so the search in a piece with its surroundings needs no periodicity. The cell
may therefore have any shape, and may be smaller than the cut-off.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, IntArray

ROUNDING = 1e-6
"""Tolerance of fractional coordinates: an atom on a face of the cell may have been wrapped to either side."""


class Pieces:
    """A partition of atoms into compact groups of about equal size, by recursive bisection at medians.

    Attributes:
        positions: Positions of all atoms in Å, wrapped into the cell along periodic axes, shape (N, 3).
        atoms: The atoms of every piece.
        lowest: Corner of every piece's bounding box, shape (P, 3).
        highest: The opposite corner, shape (P, 3).
    """

    def __init__(self, positions: FloatArray, cell: FloatArray, pbc: BoolArray, *, size: int) -> None:
        """Cut atoms at positions (N, 3) in Å, N > 0, into pieces of at most `size`."""
        self.pbc, self.cell = pbc, _complete(cell, pbc)
        self.inverse_cell = np.linalg.inv(self.cell)
        self.positions = positions - np.floor(positions @ self.inverse_cell) * pbc @ self.cell
        self.atoms = _cut(self.positions, size)
        self.lowest = np.array([self.positions[piece].min(0) for piece in self.atoms])
        self.highest = np.array([self.positions[piece].max(0) for piece in self.atoms])

    def surroundings(self, k: int, reach: float) -> tuple[IntArray, FloatArray]:
        """Atoms and periodic images outside piece k, but inside its bounding box grown by `reach` in Å.

        Returns:
            Indices of M atoms, shape (M,), and the positions of these atoms or images in Å, shape (M, 3).
        """
        low, high = self.lowest[k] - reach, self.highest[k] + reach
        # the range of cells that the grown box overlaps, along each cell vector
        corners = np.array(list(product(*zip(low, high, strict=True)))) @ self.inverse_cell
        first = np.floor(corners.min(0) - ROUNDING).astype(int) * self.pbc
        last = np.floor(corners.max(0) + ROUNDING).astype(int) * self.pbc
        atoms, positions = [np.zeros(0, dtype=np.int64)], [np.zeros((0, 3))]
        for translation in product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))):
            shift = np.array(translation) @ self.cell
            touching = ((self.lowest + shift <= high) & (self.highest + shift >= low)).all(1)
            if not any(translation):
                touching[k] = False  # the piece itself
            for piece in np.flatnonzero(touching):
                candidates = self.atoms[piece]
                x = self.positions[candidates] + shift
                inside = ((x >= low) & (x <= high)).all(1)
                atoms.append(candidates[inside])
                positions.append(x[inside])
        return np.concatenate(atoms), np.concatenate(positions)


def neighbour_table(
    points: FloatArray, n_own: int, cutoffs: Sequence[float], *, padding: int
) -> tuple[IntArray, tuple[int, ...]]:
    """Neighbours of the leading points among all points.

    Args:
        points: Positions in Å, shape (P, 3).
        n_own: Number of leading points whose neighbours are found.
        cutoffs: Distances in Å, ascending.
        padding: Index that fills unused slots.

    Returns:
        Indices of neighbours (n_own, K), and for each cut-off the number of leading columns that hold all neighbours
        within it. The neighbours of a point are ordered by cut-off interval. Within an interval, the order depends only
        on the points.
    """
    from scipy.spatial import cKDTree

    pairs = cKDTree(points[:n_own]).sparse_distance_matrix(cKDTree(points), cutoffs[-1], output_type="ndarray")
    i, j, distances = (np.ascontiguousarray(pairs[column]) for column in "ijv")
    wanted = np.flatnonzero((i != j) & (distances < cutoffs[-1]))
    i, j, distances = i[wanted], j[wanted], distances[wanted]
    key = i * len(cutoffs)  # by point, then by cut-off interval
    for cutoff in cutoffs[:-1]:
        key += distances >= cutoff
    counts = np.bincount(key, minlength=n_own * len(cutoffs)).reshape(n_own, -1).cumsum(1)  # within each cut-off
    columns = tuple(max(1, int(most)) for most in counts.max(0))  # at least 1, so that no shape is empty
    order = np.argsort(key.astype(np.min_scalar_type(n_own * len(cutoffs))), kind="stable")  # few bits: radix sort
    i, j = i[order], j[order]
    start = counts[:, -1].cumsum() - counts[:, -1]  # index in j of the first neighbour of each point
    table = np.full((n_own, columns[-1]), padding)
    table[i, np.arange(len(i)) - start[i]] = j
    return table, columns


def _complete(cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """The cell with its non-periodic vectors replaced by unit vectors orthogonal to the periodic vectors."""
    result = np.array(cell)
    _, _, basis = np.linalg.svd(cell[pbc].reshape(-1, 3))
    result[~pbc] = basis[int(pbc.sum()) :]
    return result


def _cut(positions: FloatArray, size: int) -> list[IntArray]:
    """Groups of at most `size` atoms and about equal size, by recursive bisection across the longest side."""
    pending, done = [np.arange(len(positions))], []
    while pending:
        atoms = pending.pop()
        n_pieces = -(-len(atoms) // size)
        if n_pieces <= 1:
            done.append(atoms)
            continue
        x = positions[atoms]
        cut = len(atoms) * (n_pieces // 2) // n_pieces
        order = np.argpartition(x[:, np.argmax(np.ptp(x, axis=0))], cut)
        pending += [atoms[order[cut:]], atoms[order[:cut]]]
    return done
