"""Neighbours in space: compact pieces of a frame, what surrounds them, and pairs by a k-d tree. Without torch.

Periodic images are points in their own right, so a piece with its surroundings is an open system: any cell is as good
as any other, and a cell may be smaller than the cut-off.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, IntArray

ROUNDING = 1e-6
"""In units of the cell: atoms may have been wrapped to either side of a face."""


class Pieces:
    """Atoms in compact groups, by cutting at medians until a group is small enough; equally large, whatever the shape.

    Attributes:
        positions: Of all atoms in Å, wrapped into the cell along periodic axes, shape (N, 3).
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
        """Atoms that are not in piece k but in its bounding box grown by `reach`, images included, and where, in Å."""
        low, high = self.lowest[k] - reach, self.highest[k] + reach
        corners = np.array(list(product(*zip(low, high, strict=True)))) @ self.inverse_cell
        first = np.floor(corners.min(0) - ROUNDING).astype(int) * self.pbc
        last = np.floor(corners.max(0) + ROUNDING).astype(int) * self.pbc
        atoms, positions = [np.zeros(0, dtype=np.int64)], [np.zeros((0, 3))]
        for image in product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))):
            shift = np.array(image) @ self.cell
            touching = ((self.lowest + shift <= high) & (self.highest + shift >= low)).all(1)
            if not any(image):
                touching[k] = False
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
    """Neighbours of the first points among all of them.

    Args:
        points: Positions in Å, shape (P, 3).
        n_own: Of how many points the neighbours are wanted.
        cutoffs: Distances in Å, ascending.
        padding: What stands where a point has no more neighbours.

    Returns:
        Their indices (n_own, K), neighbours within the shortest cut-off first, and for each cut-off the number of
        leading columns that hold all within it. The order is a function of the points alone.
    """
    from scipy.spatial import cKDTree

    pairs = cKDTree(points[:n_own]).sparse_distance_matrix(cKDTree(points), cutoffs[-1], output_type="ndarray")
    i, j, distances = (np.ascontiguousarray(pairs[column]) for column in "ijv")
    wanted = np.flatnonzero((i != j) & (distances < cutoffs[-1]))
    i, j, distances = i[wanted], j[wanted], distances[wanted]
    key = i * len(cutoffs)
    for cutoff in cutoffs[:-1]:
        key += distances >= cutoff
    counts = np.bincount(key, minlength=n_own * len(cutoffs)).reshape(n_own, -1).cumsum(1)  # within each cut-off
    columns = tuple(max(1, int(most)) for most in counts.max(0))  # at least one keeps shapes non-empty
    order = np.argsort(key.astype(np.min_scalar_type(n_own * len(cutoffs))), kind="stable")  # few bits: a radix sort
    i, j = i[order], j[order]
    before = counts[:, -1].cumsum() - counts[:, -1]
    table = np.full((n_own, columns[-1]), padding)
    table[i, np.arange(len(i)) - before[i]] = j
    return table, columns


def _complete(cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """The cell with unit vectors, orthogonal to the periodic ones, along axes that are not periodic."""
    result = np.array(cell)
    _, _, basis = np.linalg.svd(cell[pbc].reshape(-1, 3))
    result[~pbc] = basis[int(pbc.sum()) :]
    return result


def _cut(positions: FloatArray, size: int) -> list[IntArray]:
    """Atoms in groups of at most `size`, about equally many in each, by cutting across the longest side."""
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
