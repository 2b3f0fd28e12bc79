"""Periodic cells: their heights, and the nearest and the shortest image of a vector."""

import itertools

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, IntArray

_VECTORS_AT_A_TIME = 100_000
"""Largest number of pairs of a vector and a lattice shift that are compared at a time: bounds the memory."""


def cell_heights(cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """Distances in Å between opposite faces of a cell, for its periodic axes only, shape (number of periodic axes,).

    A sphere whose diameter is below the smallest height does not overlap its own images.
    """
    heights: FloatArray = 1.0 / np.linalg.norm(np.linalg.pinv(cell[pbc]), axis=0)
    return heights


def image_shifts(vectors: FloatArray, cell: FloatArray, pbc: BoolArray) -> IntArray:
    """Lattice shifts, shape (..., 3), that `nearest_image` adds to vectors in Å, shape (..., 3)."""
    shifts = np.zeros(vectors.shape, dtype=np.int64)
    shifts[..., pbc] = -np.round(vectors @ np.linalg.pinv(cell[pbc]))  # the cell vectors of other axes may be zero
    return shifts


def nearest_image(vectors: FloatArray, cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """Vectors in Å, shape (..., 3), shifted by lattice vectors so that their fractional coordinates are within 1/2.

    In orthorhombic cells the result is the nearest image. In a skewed cell it is the nearest image if it is shorter
    than half the smallest cell height. `shortest_image` is exact in all cells, and slower.
    """
    if not np.any(pbc):
        return vectors
    shifted: FloatArray = vectors + image_shifts(vectors, cell, pbc) @ cell
    return shifted


def shortest_image(vectors: FloatArray, cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """The shortest images of vectors in Å, shape (..., 3), in any cell, however skewed.

    The lattice shifts that can shorten a vector whose fractional coordinates are within 1/2 are all compared: along an
    axis of height h, vectors no longer than R have fractional coordinates within R / h, so that the shifts are within
    R / h + 1/2.
    """
    if not np.any(pbc):
        return vectors
    rounded = nearest_image(vectors, cell, pbc).reshape(-1, 3)
    longest = float(np.linalg.norm(rounded, axis=1).max(initial=0.0))
    reach = np.zeros(3, dtype=np.int64)
    reach[pbc] = np.floor(longest / cell_heights(cell, pbc) + 0.5)
    ranges = [sorted(range(-n, n + 1), key=abs) for n in reach.tolist()]  # shift 0 is first and wins a tie
    images = np.array(list(itertools.product(*ranges))) @ cell
    rows = max(1, _VECTORS_AT_A_TIME // len(images))
    shortest = np.concatenate(
        [_shortest_of(rounded[start : start + rows], images) for start in range(0, len(rounded), rows)]
    )
    return shortest.reshape(vectors.shape)


def _shortest_of(vectors: FloatArray, images: FloatArray) -> FloatArray:
    """The shortest sum of each vector, shape (n, 3), with a lattice vector, shape (m, 3)."""
    sums: FloatArray = vectors[:, None, :] + images
    shortest: FloatArray = sums[np.arange(len(vectors)), np.argmin(np.square(sums).sum(axis=2), axis=1)]
    return shortest
