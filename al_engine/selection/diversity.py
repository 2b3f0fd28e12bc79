"""Farthest-point selection: picks the points that are least similar to a reference set and to each other.

The greedy k-centre algorithm (Gonzalez, Theor. Comput. Sci. 38, 293 (1985); known as farthest-point sampling from
Eldar et al., IEEE Trans. Image Process. 6, 1305 (1997)): take the point whose nearest neighbour in the reference is
farthest away, add it to the reference, repeat. Memory grows linearly with points and reference.
"""

import numpy as np

from al_engine.structures.frames import FloatArray, IntArray

BLOCK = 4096
"""Number of rows and columns of the distance matrix that are computed at a time: 128 MiB."""
SMALLEST_SPREAD = 1e-3
"""Smallest standard deviation that a feature is divided by, as a share of the largest: features that hardly vary keep a
small weight."""


def farthest_points(
    points: FloatArray,
    reference: FloatArray,
    count: int,
    *,
    kinds: IntArray | None = None,
    reference_kinds: IntArray | None = None,
) -> IntArray:
    """Pick points one by one, each the farthest from the reference and from the points picked before.

    A smaller `count` gives the first picks of a larger `count`. Of equally distant points, the first is picked. A point
    is infinitely far if neither the reference nor the picks so far contain a point of its kind.

    Args:
        points: The points in Euclidean space, shape (F, D).
        reference: The reference points, shape (R, D); may be empty.
        count: Number of points to pick; if it is F or more, all points are picked.
        kinds: Kind of each point, shape (F,); only points of the same kind are compared. None: all have one kind.
        reference_kinds: Kind of each reference point, shape (R,).

    Returns:
        Indices of the picks in the order they were picked, shape (min(count, F),).
    """
    kinds = np.zeros(len(points), dtype=np.int64) if kinds is None else kinds
    reference_kinds = np.zeros(len(reference), dtype=np.int64) if reference_kinds is None else reference_kinds
    nearest = np.full(len(points), np.inf)  # squared distances
    members = {kind: np.flatnonzero(kinds == kind) for kind in np.unique(kinds).tolist()}
    alike = {kind: points[rows] for kind, rows in members.items()}
    for kind, rows in members.items():
        nearest[rows] = _nearest_squares(alike[kind], reference[reference_kinds == kind])
    picks = np.empty(min(count, len(points)), dtype=np.int64)
    for number in range(len(picks)):
        pick = picks[number] = np.argmax(nearest)
        kind = int(kinds[pick])
        vectors = alike[kind] - points[pick]
        nearest[members[kind]] = np.minimum(nearest[members[kind]], np.einsum("ij,ij->i", vectors, vectors))
        nearest[pick] = -np.inf  # never picked twice, even if all other points coincide with the reference
    return picks


def _nearest_squares(points: FloatArray, reference: FloatArray) -> FloatArray:
    """Squared distance of each point to the nearest reference point, shape (F,); infinite without reference points."""
    nearest = np.full(len(points), np.inf)
    squares = np.einsum("ij,ij->i", reference, reference)
    for start in range(0, len(points), BLOCK):
        rows = slice(start, start + BLOCK)
        own = np.einsum("ij,ij->i", points[rows], points[rows])
        for first in range(0, len(reference), BLOCK):
            columns = slice(first, first + BLOCK)
            distances = squares[columns] - 2.0 * points[rows] @ reference[columns].T
            nearest[rows] = np.minimum(nearest[rows], distances.min(axis=1) + own)
    np.maximum(nearest, 0.0, out=nearest)  # rounding may give negative values
    return nearest


def standardised(
    points: FloatArray, reference: FloatArray, *, kinds: IntArray, reference_kinds: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Shift and scale points and reference to zero mean and unit standard deviation per feature, kind by kind.

    Mean and standard deviation are computed from the reference; for a kind that it lacks, from the points.

    Args:
        points: The points, shape (F, D).
        reference: The reference, shape (R, D).
        kinds: Kind of each point, shape (F,).
        reference_kinds: Kind of each reference point, shape (R,).

    Returns:
        Scaled points, shape (F, D), and scaled reference, shape (R, D). The standard deviation that a feature is
        divided by is at least a thousandth of the largest among the features.
    """
    scaled_points, scaled_reference = np.array(points, dtype=np.float64), np.array(reference, dtype=np.float64)
    for kind in np.unique(kinds):
        of_points, of_reference = kinds == kind, reference_kinds == kind
        measure = scaled_reference[of_reference] if of_reference.any() else scaled_points[of_points]
        mean, spread = measure.mean(axis=0), measure.std(axis=0)
        unit = np.maximum(spread, SMALLEST_SPREAD * spread.max())
        unit[unit == 0.0] = 1.0
        scaled_points[of_points] = (scaled_points[of_points] - mean) / unit
        scaled_reference[of_reference] = (scaled_reference[of_reference] - mean) / unit
    return scaled_points, scaled_reference
