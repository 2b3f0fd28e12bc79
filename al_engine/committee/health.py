"""Committee health: detects members that are too similar, and a member whose errors are far above the others'.

Members that are too similar agree where they are wrong, so that the force deviation understates the error. Every
quantity that is judged is a ratio of two values of the same frame. The median over the frames is used, so that neither
an outlier nor the hardest temperature decides.

For M members with forces F^m, mean force F, and |x| the root mean square of the components of x over a frame:

- The spread s of the members has s^2 = mean_m |F^m - F|^2. The error of their mean is e = |F - F(label)|.
- mean_m |F^m - F(label)|^2 = e^2 + s^2 (Krogh & Vedelsby, Adv. Neural Inf. Process. Syst. 7, 231 (1995)). It follows
  that e^2 / s^2 = (rho + (1 - rho) / M) / ((1 - rho) (1 - 1/M)) for members whose errors have the correlation rho. For
  independent errors, e / s = 1 / sqrt(M - 1), which is 0.6 for four members.

Healthy committees of four members (ethanol, acetamide, glycine, two of N(CF3)3; 15-150 labelled frames) had e / s from
0.8 to 1.5. A member's error was 0.9-1.4 times the median of the others' errors. The distance of the closest pair was
0.8-1.0 times the median distance of pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from al_engine.committee.deviation import force_deviation
from al_engine.structures.frames import FloatArray
from al_engine.units import MEV_PER_EV

LEAST_FRAMES = 10
"""Fewest labelled frames for a judgement. On three frames, even the errors of healthy members differ by a factor of
1.7."""
COLLAPSED = 3.0
"""Ratio e / s above which a committee has collapsed: four members' errors then have a correlation of 0.87."""
IDENTICAL = 0.25
"""Distance of two members, relative to the median distance of pairs, up to which they count as identical. The distance
is the root mean square of the difference of their force components on a frame."""
ROGUE = 2.0
"""Error of a member, relative to the median error of the others, from which the member counts as rogue. The deviation
of a committee of four is then 1.4 times the deviation of the three other members."""
LARGEST_FACTOR = 1000.0
"""Largest ratio e / s of a frame that is used; members that agree exactly would give infinity."""


class MemberForces(NamedTuple):
    """Predicted and reference forces of one labelled frame.

    Attributes:
        predicted: Forces of M members, eV/Å, shape (M, N, 3).
        reference: Forces of the label, eV/Å, shape (N, 3).
    """

    predicted: FloatArray
    reference: FloatArray


@dataclass(frozen=True, slots=True)
class CommitteeHealth:
    """Spread and errors of a committee of M members on labelled frames; members are counted from 0.

    Attributes:
        frames: Number of labelled frames used.
        error_over_spread: Ratio e / s on the test set (median over the frames); None with fewer than `LEAST_FRAMES`
            test frames.
        member_error_mev_per_ang: Median root mean square error of each member's force components, meV/Å; None for a
            member whose forces are not finite.
        member_error_ratio: Each member's error divided by the median error of the others (median over the frames); None
            for a member whose forces are not finite.
        deviation_without: Deviation of the committee without each member, as a share of the deviation of the whole
            committee (median over the frames); None for fewer than three members, or if it is not finite.
        identical: Pairs of members that are nearly identical.
        rogue: A member whose error is far above the others'; None if there is no such member.
    """

    frames: int
    error_over_spread: float | None
    member_error_mev_per_ang: tuple[float | None, ...]
    member_error_ratio: tuple[float | None, ...]
    deviation_without: tuple[float | None, ...]
    identical: tuple[tuple[int, int], ...]
    rogue: int | None

    @property
    def collapsed(self) -> bool:
        """Whether the members are too similar: the deviation understates the error, and if low, proves nothing."""
        return bool(self.identical) or (self.error_over_spread or 0.0) > COLLAPSED

    def warnings(self) -> list[str]:
        """What is wrong with the committee, one sentence each."""
        found = [
            f"members {i} and {j} are nearly identical, so that the deviation understates the error; look at their "
            "seeds and at the models that they start from"
            for i, j in self.identical
        ]
        if (self.error_over_spread or 0.0) > COLLAPSED:
            found.append(
                f"the committee has collapsed: on the test set its error is {self.error_over_spread:.3g} times the "
                "spread of its members, so that the deviation understates the error; in a fork (`al-engine "
                "fork`), train the members from scratch or for more updates, or use lower thresholds"
            )
        if self.rogue is not None:
            found.append(self._rogue_warning(self.rogue))
        return found

    def _rogue_warning(self, member: int) -> str:
        ratio, without = self.member_error_ratio[member], self.deviation_without[member]
        if ratio is None:
            return f"member {member} is rogue: its forces are not finite, because its training diverged"
        effect = "" if without is None else f"; without this member, the deviation would be {without:.0%} of its value"
        return (
            f"member {member} is rogue: its force error is {ratio:.1f} times that of the other members "
            f"({self.member_error_mev_per_ang[member]:.0f} meV/Å per component){effect}; its errors decide "
            "which frames are labelled"
        )


def committee_health(test: Sequence[MemberForces], new: Sequence[MemberForces]) -> CommitteeHealth | None:
    """Assess a committee on labelled frames.

    The ratio e / s is computed on the test set alone, because new labels were chosen for their large spread.

    Args:
        test: The test set.
        new: The new labels of the iteration.

    Returns:
        The committee's health; None with fewer than two members, or fewer than `LEAST_FRAMES` frames in all.
    """
    frames = [*test, *new]
    if len(frames) < LEAST_FRAMES or len(frames[0].predicted) < 2:  # noqa: PLR2004 (a committee has two members)
        return None
    error = np.array([_member_errors(frame) for frame in frames])  # (F, M)
    with np.errstate(divide="ignore", invalid="ignore"):  # members without errors have no ratio
        ratio = _median(error / np.array([_medians_of_others(row) for row in error]))
    without = _deviations_without(frames)
    rogue = _rogue(ratio, without)
    return CommitteeHealth(
        frames=len(frames),
        error_over_spread=_error_over_spread(test),
        member_error_mev_per_ang=_numbers(MEV_PER_EV * _median(error)),
        member_error_ratio=_numbers(ratio),
        deviation_without=_numbers(without),
        identical=_identical_pairs(frames, error),
        rogue=rogue,
    )


def _rms(values: FloatArray, *, axis: tuple[int, ...] | None = None) -> FloatArray:
    """Root mean square over some axes; None: over all."""
    return np.asarray(np.sqrt(np.mean(values**2, axis=axis)))


def _median(rows: FloatArray) -> FloatArray:
    """Median over the frames of an array of shape (F, M), shape (M,); NaN for a member with any NaN."""
    return np.asarray(np.median(rows, axis=0))


def _numbers(values: FloatArray) -> tuple[float | None, ...]:
    """The values as a tuple, with None in place of values that are not finite."""
    return tuple(float(value) if np.isfinite(value) else None for value in values)


def _member_errors(frame: MemberForces) -> FloatArray:
    """Root mean square error of each member's force components, eV/Å, shape (M,)."""
    return _rms(frame.predicted - frame.reference, axis=(1, 2))


def _medians_of_others(row: FloatArray) -> FloatArray:
    """For each member, the median of the other members' finite values, shape (M,)."""
    others = [np.delete(row, member) for member in range(len(row))]
    return np.array([np.median(other[np.isfinite(other)]) if np.isfinite(other).any() else np.nan for other in others])


def _deviations_without(frames: Sequence[MemberForces]) -> FloatArray:
    """For each member, the deviation without it divided by the deviation of all members, shape (M,); NaN if M < 3.

    The deviation of a frame is the largest over its atoms; the median of the quotient over the frames is returned.
    """
    members = len(frames[0].predicted)
    if members < 3:  # noqa: PLR2004 (a single member has no deviation)
        return np.full(members, np.nan)
    shares = np.empty((len(frames), members))
    for index, frame in enumerate(frames):
        of_all = force_deviation(frame.predicted).norm.max()
        for member in range(members):
            of_others = force_deviation(np.delete(frame.predicted, member, axis=0)).norm.max()
            shares[index, member] = of_others / of_all if of_all > 0 else np.nan
    return _median(shares)


def _rogue(ratio: FloatArray, without: FloatArray) -> int | None:
    """The rogue member; None if there is none.

    If some but not all members have non-finite forces, the first of them is the rogue member. If all are finite, it is
    the member with the largest error, on two conditions: its error ratio reaches `ROGUE`, and its removal lowers the
    deviation more than the removal of any other member. The second condition is left out where `without` is not finite,
    as in a committee of two.

    Args:
        ratio: Error of each member divided by the median error of the others, shape (M,).
        without: Result of `_deviations_without`, shape (M,).
    """
    broken = np.flatnonzero(~np.isfinite(ratio))
    if len(broken) == len(ratio):
        return None
    if len(broken):
        return int(broken[0])
    worst = int(np.argmax(ratio))
    decides = not np.isfinite(without).all() or int(np.argmin(without)) == worst
    return worst if ratio[worst] >= ROGUE and decides else None


def _error_over_spread(test: Sequence[MemberForces]) -> float | None:
    """Median of e / s over the test set, at most `LARGEST_FACTOR`; None with too few frames or if it is not finite."""
    if len(test) < LEAST_FRAMES:
        return None
    ratios = []
    for predicted, reference in test:
        mean = predicted.mean(axis=0)
        error, spread = float(_rms(mean - reference)), float(_rms(predicted - mean))
        ratios.append(error / max(spread, error / LARGEST_FACTOR) if error > 0 else 0.0)
    typical = float(np.median(ratios))
    return typical if np.isfinite(typical) else None


def _identical_pairs(frames: Sequence[MemberForces], error: FloatArray) -> tuple[tuple[int, int], ...]:
    """Pairs of members that are nearly identical in most frames.

    In a frame, two members are nearly identical if their distance is at most `IDENTICAL` times the median distance of
    all pairs. A committee of two has one pair only; there, the median error of the two members takes the place of the
    median distance.

    Args:
        frames: The F labelled frames.
        error: Error of each member on each frame, eV/Å, shape (F, M).
    """
    pairs = list(combinations(range(error.shape[1]), 2))
    distance = np.array([[float(_rms(f.predicted[i] - f.predicted[j])) for i, j in pairs] for f in frames])
    scale = np.median(distance if len(pairs) > 1 else error, axis=1)
    close = distance <= IDENTICAL * scale[:, None]
    most_frames = np.median(close, axis=0) > 0.5  # noqa: PLR2004 (the median of False and True is above 0.5: most)
    return tuple(pair for pair, identical in zip(pairs, most_frames, strict=True) if identical)
