"""Fates: why each sampled frame was or was not labelled.

The fate is decided in steps: the window, the sanity gate, duplicates, thinning in time, the cap on labels. The first
reason against a label stays. A candidate without such a reason has the fate `OVER_CAP` until it is chosen.
An audit may draw accurate frames afterwards.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from al_engine.selection.window import Window
from al_engine.structures.frames import BoolArray, FloatArray, IntArray


class Fate(IntEnum):
    """Why a sampled frame was or was not labelled. The numbers are stored: never reuse one."""

    ACCURATE = 0
    """Deviation below the window: nothing to learn."""
    REJECTED = 1
    """Deviation above the window, or not finite: not trusted."""
    LABELLED = 2
    """Candidate, chosen and labelled."""
    OVER_CAP = 3
    """Candidate, not chosen: there were more candidates than labels per iteration."""
    TOO_CLOSE = 4
    """Candidate with atoms closer than the gate allows."""
    REFUSED = 5
    """Candidate that no labeler takes (element, electrons, cell)."""
    LABEL_FAILED = 6
    """Candidate, chosen, but its label failed."""
    UNSOUND = 7
    """Frame at which a trajectory was stopped; counts as rejected."""
    CORRELATED = 8
    """Candidate too close in time to another candidate of its trajectory."""
    DUPLICATE = 9
    """Candidate that equals a frame of the data set or the test set, or an earlier candidate."""
    FRAGMENTED = 10
    """Candidate with a bond longer than the gate allows."""
    AUDITED = 11
    """Accurate frame that was drawn for an audit; counts as accurate."""


ACCURATE_FATES = (Fate.ACCURATE, Fate.AUDITED)
REJECTED_FATES = (Fate.REJECTED, Fate.UNSOUND)
CANDIDATE_FATES = tuple(fate for fate in Fate if fate not in {*ACCURATE_FATES, *REJECTED_FATES})
UNLABELABLE_FATES = (Fate.REFUSED, Fate.TOO_CLOSE, Fate.FRAGMENTED)
"""Fates of candidates that can never be labelled, whatever the committee learns."""
FateArray: TypeAlias = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of frames; `sampled = accurate + candidate + rejected`."""

    sampled: int
    accurate: int
    candidate: int
    rejected: int

    @property
    def acceptance(self) -> float:
        """Candidates / sampled; 0 where nothing was sampled."""
        return self.candidate / self.sampled if self.sampled else 0.0

    @property
    def rejected_share(self) -> float:
        """Rejected / sampled; 0 where nothing was sampled."""
        return self.rejected / self.sampled if self.sampled else 0.0


def count(fates: NDArray[np.integer]) -> Counts:
    """Counts of an array of fates. A candidate is counted as a candidate whether or not it was labelled."""
    accurate = int(np.isin(fates, ACCURATE_FATES).sum())
    rejected = int(np.isin(fates, REJECTED_FATES).sum())
    return Counts(sampled=len(fates), accurate=accurate, candidate=len(fates) - accurate - rejected, rejected=rejected)


def count_fates(fates: NDArray[np.integer]) -> dict[str, int]:
    """How many frames have each fate, by its name in lower case; fates that no frame has are left out."""
    numbers, counts = np.unique(fates, return_counts=True)
    return {Fate(number).name.lower(): n for number, n in zip(numbers.tolist(), counts.tolist(), strict=True)}


def count_candidates(fates: NDArray[np.integer]) -> dict[str, int]:
    """How many candidates have each fate, as `count_fates`."""
    return count_fates(fates[np.isin(fates, CANDIDATE_FATES)])


def window_fates(deviation: FloatArray, net_force: FloatArray, *, sound: BoolArray, window: Window) -> FateArray:
    """Fates by the window: accurate, rejected or unsound; candidates get `OVER_CAP` for now.

    Args:
        deviation: Force deviation of S frames in eV/Å, shape (S,), as `selection.deviation` defines it.
        net_force: Largest deviation of a molecule's net force in eV/Å, shape (S,).
        sound: False for frames at which a trajectory was stopped, shape (S,).
        window: The window.
    """
    fates = np.full(len(deviation), Fate.OVER_CAP, dtype=np.int8)
    fates[window.accurate(deviation, net_force)] = Fate.ACCURATE
    fates[~window.trusted(deviation, net_force)] = Fate.REJECTED
    fates[~sound] = Fate.UNSOUND
    return fates


def open_candidates(fates: FateArray) -> IntArray:
    """Indices, ascending, of the candidates without a reason against a label so far."""
    return np.flatnonzero(fates == Fate.OVER_CAP)


def choose(fates: FateArray, order: IntArray, max_labels: int) -> IntArray:
    """Choose frames to label and set their fate to `LABELLED`, which means "chosen" until the labels are computed.

    Args:
        fates: Fates of S frames, shape (S,); changed in place.
        order: Candidates in the order in which they would be labelled, shape (C,).
        max_labels: Largest number of frames to choose.

    Returns:
        Indices of the chosen frames, ascending.
    """
    chosen = np.sort(order[:max_labels])
    fates[chosen] = Fate.LABELLED
    return chosen
