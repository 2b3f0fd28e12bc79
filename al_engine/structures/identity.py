"""Finds copies of known structures, also if they are rotated, shifted, or their identical atoms renumbered.

Two structures count as the same if they have the same atoms, charge, unpaired electrons and periodic axes, cells of the
same shape and, for every pair of elements, the same sorted distances between atoms, up to a tolerance. Sorted distances
change by no more than the distances of the atoms do, so that no copy within the tolerance is missed; there are no bins
at whose edges rounding could decide. Covered and not covered are:

- rotated, shifted, wrapped (periodic) and renumbered copies are found, also after rounding in a file with few digits;
- mirror images count as copies: their energy is the same and their forces are mirrored, as in an O(3)-equivariant
  model by construction;
- in periodic frames only distances up to `CUTOFF_ANG` are compared; a cell described by other vectors (a supercell,
  a, b and c in another order) counts as another structure;
- two different structures can have the same distances (homometric sets), but only by construction: almost every set of
  points is fixed by its distances up to rotation and reflection (Boutin & Kemper, Adv. Appl. Math. 32, 709 (2004)).
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray
from al_engine.structures.neighbours import pairs_within

TOLERANCE_ANG = 2e-3
"""Largest difference of the distances of two copies. Coordinates rounded to three decimals stay within it. Forces of
structures within it differ by about 0.1 eV/Å at most, along the stiffest bonds."""
CUTOFF_ANG = 6.0
"""Largest distance that is compared in periodic frames."""


def duplicates(frames: Sequence[Frame], known: Sequence[Frame], *, tolerance_ang: float = TOLERANCE_ANG) -> BoolArray:
    """Find the frames that are copies of a known frame, or of an earlier frame that is not a copy itself.

    A frame of 120 atoms costs about a millisecond. A few distances of each frame are compared with all other frames (in
    a k-d tree); where they agree, all distances are compared.

    Args:
        frames: F frames, in order of preference.
        known: The known frames.
        tolerance_ang: Largest difference of two distances, and of the measures of two cells, that count as equal, Å.

    Returns:
        Whether each frame is a copy, shape (F,).
    """
    copy: BoolArray = originals([*known, *frames], first=len(known), tolerance_ang=tolerance_ang)[len(known) :] >= 0
    return copy


def originals(frames: Sequence[Frame], *, first: int = 0, tolerance_ang: float = TOLERANCE_ANG) -> IntArray:
    """Find the earlier frame, itself no copy, that each frame is a copy of.

    Args:
        frames: F frames, in order of preference.
        first: Index of the first frame that may be a copy.
        tolerance_ang: As in `duplicates`.

    Returns:
        Index of the original of each copy; -1 for a frame that is no copy, shape (F,).
    """
    from scipy.spatial import KDTree  # importing scipy.spatial takes a third of a second

    original = np.full(len(frames), -1, dtype=np.int64)
    for members in _alike(frames):
        landmarks = np.array([_landmarks(frames[index]) for index in members])
        pairs = KDTree(landmarks).query_pairs(tolerance_ang, p=np.inf, output_type="ndarray")
        for earlier, later in sorted((members[min(pair)], members[max(pair)]) for pair in pairs.tolist()):
            # A copy of a copy is a copy of the original too, or it differs by more than the tolerance and is new.
            if (
                later >= first
                and max(original[earlier], original[later]) < 0
                and same_structure(frames[earlier], frames[later], tolerance_ang=tolerance_ang)
            ):
                original[later] = earlier
    return original


def same_structure(first: Frame, second: Frame, *, tolerance_ang: float = TOLERANCE_ANG) -> bool:
    """Whether two frames are the same structure, in the sense of this module."""
    if _identity(first) != _identity(second):
        return False
    cells = np.abs(_cell_measures(first) - _cell_measures(second))
    return bool(cells.max(initial=0.0) <= tolerance_ang) and all(
        _largest_difference(distances, others) <= tolerance_ang
        for distances, others in zip(_sorted_distances(first), _sorted_distances(second), strict=True)
    )


def _alike(frames: Sequence[Frame]) -> Iterator[list[int]]:
    """Groups of indices, ascending, of frames that are equal in all exact properties."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        groups[_identity(frame)].append(index)
    yield from groups.values()


def _identity(frame: Frame) -> Hashable:
    """The exact properties that copies have in common."""
    return (np.sort(frame.numbers).tobytes(), frame.charge, frame.unpaired_electrons, frame.pbc.tobytes())


def _cell_measures(frame: Frame) -> FloatArray:
    """Lengths in Å of the periodic cell vectors and of the sums of each two: they fix the cell up to rotation."""
    vectors = frame.cell[frame.pbc]
    i, j = np.triu_indices(len(vectors), 1)
    measures: FloatArray = np.linalg.norm(np.concatenate([vectors, vectors[i] + vectors[j]]), axis=1)
    return measures


def _sorted_distances(frame: Frame) -> list[FloatArray]:
    """Distances in Å, ascending, an array for every pair of elements."""
    from scipy.spatial.distance import pdist

    kinds, kind = np.unique(frame.numbers, return_inverse=True)
    if frame.is_periodic:
        i, j, distances = pairs_within(frame, CUTOFF_ANG)
    else:
        i, j = np.triu_indices(len(frame), 1)
        distances = pdist(frame.positions)
    first, second = kind[i], kind[j]
    pair = np.minimum(first, second) * len(kinds) + np.maximum(first, second)
    order = np.lexsort((distances, pair))
    bounds = np.searchsorted(pair[order], np.arange(1, len(kinds) ** 2))
    return [array for k, array in enumerate(np.split(distances[order], bounds)) if k // len(kinds) <= k % len(kinds)]


def _landmarks(frame: Frame) -> FloatArray:
    """The 1st, 2nd, 4th, 8th, ... shortest distance of every pair of elements, Å, and the cell's measures.

    For a pair of elements, the number of landmarks depends on the number of atoms alone; missing distances are replaced
    by `CUTOFF_ANG`.
    """
    ranks = 2 ** np.arange(len(frame).bit_length() * 2) - 1
    landmarks = []
    for distances in _sorted_distances(frame):
        padded = np.full(len(ranks), CUTOFF_ANG)
        exists = ranks < len(distances)
        padded[exists] = distances[ranks[exists]]
        landmarks.append(padded)
    return np.concatenate([*landmarks, _cell_measures(frame)])


def _largest_difference(first: FloatArray, second: FloatArray) -> float:
    """Largest difference of two ascending arrays; the shorter array is continued with the cut-off."""
    common = min(len(first), len(second))
    rest = max(first[common:], second[common:], key=len)
    differences = np.concatenate([np.abs(first[:common] - second[:common]), CUTOFF_ANG - rest])
    return float(differences.max(initial=0.0))
