"""Selection: the window on the force deviation, and one fate for every sampled frame."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from al_engine.config import SelectionConfig
from al_engine.frames import BoolArray, FloatArray, IntArray

MEV_PER_EV = 1000.0


class Fate(IntEnum):
    """Why a sampled frame was or was not labelled. The numbers are stored: never reuse one."""

    ACCURATE = 0
    """Deviation below the window: nothing to learn."""
    REJECTED = 1
    """Deviation above the window, or not finite: not trusted."""
    LABELLED = 2
    """Candidate, chosen and labelled."""
    OVER_CAP = 3
    """Candidate, left by lot: more candidates than labels per iteration."""
    TOO_CLOSE = 4
    """Candidate with atoms closer than the gate allows."""
    REFUSED = 5
    """Candidate that no labeler takes (element, electrons, cell)."""
    LABEL_FAILED = 6
    """Candidate, chosen, but its label failed: a recorded failure."""


CANDIDATE_FATES = (Fate.LABELLED, Fate.OVER_CAP, Fate.TOO_CLOSE, Fate.REFUSED, Fate.LABEL_FAILED)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many frames fell where; `sampled = accurate + candidate + rejected`."""

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
    """Counts of an array of fates."""
    accurate, rejected = (int(np.sum(fates == fate)) for fate in (Fate.ACCURATE, Fate.REJECTED))
    return Counts(sampled=len(fates), accurate=accurate, candidate=len(fates) - accurate - rejected, rejected=rejected)


def in_window(deviation: FloatArray, config: SelectionConfig) -> BoolArray:
    """Whether each deviation (eV/Å) lies in the window, both ends included."""
    lower, upper = _window(config)
    return np.asarray((deviation >= lower) & (deviation <= upper))


def _window(config: SelectionConfig) -> tuple[float, float]:
    """Both ends in eV/Å. The quotient is the number nearest the decimal; times 1e-3 would often miss it."""
    return config.lower_mev_per_ang / MEV_PER_EV, config.upper_mev_per_ang / MEV_PER_EV


def select(
    deviation: FloatArray,
    *,
    too_close: BoolArray,
    refused: BoolArray,
    config: SelectionConfig,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int8], IntArray]:
    """Decide every sampled frame's fate.

    Args:
        deviation: Deviation of S frames in eV/Å, shape (S,), of the kind the config asks for.
        too_close: Frames whose atoms are closer than the gate allows, shape (S,).
        refused: Frames that no labeler would take, shape (S,).
        config: Window and cap.
        rng: Draws the lots when there are more candidates than labels.

    Returns:
        Fates, shape (S,), in which `LABELLED` stands for chosen, and the indices of the chosen frames, ascending.
    """
    candidate = in_window(deviation, config)
    fates = np.full(len(deviation), Fate.REJECTED, dtype=np.int8)  # NaN is in no window
    fates[deviation < _window(config)[0]] = Fate.ACCURATE
    fates[candidate] = Fate.OVER_CAP
    fates[candidate & refused] = Fate.REFUSED
    fates[candidate & too_close] = Fate.TOO_CLOSE
    eligible = np.flatnonzero(fates == Fate.OVER_CAP)
    if len(eligible) > config.max_labels:
        eligible = np.sort(rng.choice(eligible, size=config.max_labels, replace=False))
    fates[eligible] = Fate.LABELLED
    return fates, eligible.astype(np.int64)
