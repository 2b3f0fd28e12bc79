"""Molecules in periodic cells: making them whole, and which image is nearest."""

import numpy as np

from al_engine.frames import FloatArray, IntArray


def nearest_image(vectors: FloatArray, cell: FloatArray, pbc: np.ndarray) -> FloatArray:
    """Vectors in Å, shape (..., 3), shifted by lattice vectors so that their fractional coordinates are within 1/2.

    Exact for orthorhombic cells; in a skewed cell it is the true nearest image of any vector shorter than half the
    smallest cell height.
    """
    if not np.any(pbc):
        return vectors
    images = np.where(pbc, np.round(vectors @ np.linalg.inv(cell)), 0.0)
    shifted: FloatArray = vectors - images @ cell
    return shifted


def made_whole(positions: FloatArray, bonds: IntArray, cell: FloatArray, pbc: np.ndarray) -> FloatArray:
    """Positions in Å, shape (N, 3), where every bonded fragment is in one piece; its first atom stays where it is."""
    whole = np.array(positions, dtype=np.float64)
    if not np.any(pbc):
        return whole
    neighbours: list[list[int]] = [[] for _ in range(len(whole))]
    for i, j in np.asarray(bonds).reshape(-1, 2).tolist():
        neighbours[i].append(j)
        neighbours[j].append(i)
    placed = np.zeros(len(whole), dtype=bool)
    for root in range(len(whole)):
        if placed[root]:
            continue
        placed[root] = True
        stack = [root]
        while stack:
            atom = stack.pop()
            for other in neighbours[atom]:
                if not placed[other]:
                    step = nearest_image(whole[other] - whole[atom], cell, pbc)
                    whole[other] = whole[atom] + step
                    placed[other] = True
                    stack.append(other)
    return whole
