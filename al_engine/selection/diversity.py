"""Farthest-point selection: of many points, those least like a reference set and each other.

The greedy k-centre algorithm (Gonzalez, Theor. Comput. Sci. 38, 293 (1985); known as farthest-point sampling from
Eldar et al., IEEE Trans. Image Process. 6, 1305 (1997)): take the point whose nearest neighbour in the reference is
farthest away, add it to the reference, repeat. Memory grows linearly with points and reference.
"""

import numpy as np

from al_engine.structures.frames import FloatArray, IntArray

BLOCK = 4096  # rows and columns of the distance matrix at a time: 128 MiB
SMALLEST_SPREAD = 1e-3  # of the largest: a feature that hardly varies is not blown up to matter as much as the others


def farthest_points(
    points: FloatArray,
    reference: FloatArray,
    count: int,
    *,
    kinds: IntArray | None = None,
    reference_kinds: IntArray | None = None,
) -> IntArray:
    """Pick points one by one, each the farthest from the reference and from those picked before.

    The picks of a smaller count are the first ones of a larger. Of equally far points the first is picked; a point
    whose kind neither the reference nor a pick has is infinitely far.

    Args:
        points: The points, Euclidean, shape (F, D).
        reference: What is there already, shape (R, D); may be empty.
        count: How many to pick; all of them, in order, if there are no more.
        kinds: Kind of each point, shape (F,): only points of one kind are compared. None: all are of one kind.
        reference_kinds: Kind of each reference point, shape (R,).

    Returns:
        Indices of the picks in the order they were picked, shape (min(count, F),).
    """
    kinds = np.zeros(len(points), dtype=np.int64) if kinds is None else kinds
    reference_kinds = np.zeros(len(reference), dtype=np.int64) if reference_kinds is None else reference_kinds
    nearest = np.full(len(points), np.inf)  # squared
    members = {kind: np.flatnonzero(kinds == kind) for kind in np.unique(kinds).tolist()}
    alike = {kind: points[here] for kind, here in members.items()}
    for kind, here in members.items():
        nearest[here] = _nearest_squares(alike[kind], reference[reference_kinds == kind])
    picks = np.empty(min(count, len(points)), dtype=np.int64)
    for place in range(len(picks)):
        pick = picks[place] = np.argmax(nearest)
        kind = int(kinds[pick])
        vectors = alike[kind] - points[pick]
        nearest[members[kind]] = np.minimum(nearest[members[kind]], np.einsum("ij,ij->i", vectors, vectors))
        nearest[pick] = -np.inf  # never again, not even where all others coincide with the reference
    return picks


def _nearest_squares(points: FloatArray, reference: FloatArray) -> FloatArray:
    """Squared distance of each point, shape (F, D), to the nearest of the reference, shape (R, D); inf without one."""
    nearest = np.full(len(points), np.inf)
    squares = np.einsum("ij,ij->i", reference, reference)
    for start in range(0, len(points), BLOCK):
        rows = slice(start, start + BLOCK)
        own = np.einsum("ij,ij->i", points[rows], points[rows])
        for first in range(0, len(reference), BLOCK):
            columns = slice(first, first + BLOCK)
            distances = squares[columns] - 2.0 * points[rows] @ reference[columns].T
            nearest[rows] = np.minimum(nearest[rows], distances.min(axis=1) + own)
    np.maximum(nearest, 0.0, out=nearest)  # rounding may leave less
    return nearest


def standardised(
    points: FloatArray, reference: FloatArray, *, kinds: IntArray, reference_kinds: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Points and reference in units of each feature's standard deviation, kind by kind.

    Mean and deviation are those of the reference; of a kind that it lacks, the points'.

    Args:
        points: The points, shape (F, D).
        reference: The reference, shape (R, D).
        kinds: Kind of each point, shape (F,).
        reference_kinds: Kind of each reference point, shape (R,).

    Returns:
        Both, shape (F, D) and (R, D). Features that vary less than a thousandth of the one that varies most are
        divided by that thousandth.
    """
    scaled_points, scaled_reference = np.array(points, dtype=np.float64), np.array(reference, dtype=np.float64)
    for kind in np.unique(kinds):
        here, there = kinds == kind, reference_kinds == kind
        measure = scaled_reference[there] if there.any() else scaled_points[here]
        mean, spread = measure.mean(axis=0), measure.std(axis=0)
        unit = np.maximum(spread, SMALLEST_SPREAD * spread.max())
        unit[unit == 0.0] = 1.0
        scaled_points[here] = (scaled_points[here] - mean) / unit
        scaled_reference[there] = (scaled_reference[there] - mean) / unit
    return scaled_points, scaled_reference
