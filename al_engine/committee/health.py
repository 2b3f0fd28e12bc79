"""Committee health: members too close to each other to know what they do not know, and one that is far off.

All numbers are ratios within a frame, of which the median over frames counts, so that neither one odd frame nor the
hardest temperature decides. Of M members with forces F^m and mean F, per force component (root mean squares):

- spread s, with s^2 = mean_m |F^m - F|^2, and error e = |F - F(label)|. Krogh & Vedelsby (Adv. Neural Inf. Process.
  Syst. 7, 231 (1995)): mean_m |F^m - F(label)|^2 = e^2 + s^2. Members that err independently have
  e / s = 1 / sqrt(M - 1), 0.6 for four; members whose errors correlate by rho have
  e^2 / s^2 = (rho + (1 - rho) / M) / ((1 - rho) (1 - 1/M)).
- healthy committees of four (ethanol, acetamide, glycine, two N(CF3)3; 15-150 labelled frames) had e / s 0.8-1.5, a
  member's error at 0.9-1.4 times the others', and the closest pair at 0.8-1.0 of the median distance between pairs.
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
"""Fewer labelled frames tell nothing: with three, healthy members' errors differ by a factor of 1.7."""
COLLAPSED = 3.0
"""e / s from which a committee has collapsed: with four members, errors that correlate by 0.87."""
IDENTICAL = 0.25
"""Distance of two members, as a share of the median pair's, below which they count as one."""
ROGUE = 2.0
"""Error of a member, as a multiple of the others', from which it is rogue: with four members, the deviation is then
1.4 times what the other three give."""
LARGEST_FACTOR = 1000.0  # reported for members that agree exactly, for which it would be infinite


class MemberForces(NamedTuple):
    """One labelled frame as each member sees it.

    Attributes:
        predicted: Forces of M members, eV/Å, shape (M, N, 3).
        reference: Forces of the label, eV/Å, shape (N, 3).
    """

    predicted: FloatArray
    reference: FloatArray


@dataclass(frozen=True, slots=True)
class CommitteeHealth:
    """How M members stand to each other and to the truth; members are counted from 0.

    Attributes:
        frames: Labelled frames that were looked at.
        error_over_spread: e / s on the test set; None with too few test frames.
        member_error_mev_per_ang: Typical root mean square error of each member's force components; None where its
            forces are no numbers.
        member_error_ratio: Each member's error as a multiple of the others' median; None as above.
        deviation_without: What is left of the deviation without each member, as a share; None for fewer than three.
        identical: Pairs of members that are nearly the same.
        rogue: A member far off, or None.
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
        """Whether the deviation understates the error so much that low values of it prove nothing."""
        return bool(self.identical) or (self.error_over_spread or 0.0) > COLLAPSED

    def warnings(self) -> list[str]:
        """What is wrong with the committee, a sentence each."""
        found = [
            f"members {i} and {j} are nearly identical: the committee has {len(self.member_error_ratio)} members, but "
            "not as many opinions; look at their seeds and at what they start from"
            for i, j in self.identical
        ]
        if (self.error_over_spread or 0.0) > COLLAPSED:
            found.append(
                f"the committee has collapsed: on the test set its error is {self.error_over_spread:.3g} times the "
                "spread of its members, so that the deviation understates the error; train its members apart (from "
                "scratch, longer), or select at lower thresholds"
            )
        if self.rogue is not None:
            found.append(self._rogue_warning(self.rogue))
        return found

    def _rogue_warning(self, member: int) -> str:
        ratio, without = self.member_error_ratio[member], self.deviation_without[member]
        if ratio is None:
            return f"member {member} is rogue: its forces are no numbers; its training diverged"
        left = "" if without is None else f", and without it {without:.0%} of the deviation are left"
        return (
            f"member {member} is rogue: its force error is {ratio:.1f} times that of the others "
            f"({self.member_error_mev_per_ang[member]:.0f} meV/Å per component){left}; frames are chosen for its sake"
        )


def committee_health(test: Sequence[MemberForces], new: Sequence[MemberForces]) -> CommitteeHealth | None:
    """Look at a committee through labelled frames.

    Whether it has collapsed is asked of the test set alone: new labels were chosen because their spread is large.

    Args:
        test: The test set.
        new: New labels of the iteration.

    Returns:
        The committee's health; None with fewer than two members or too few frames.
    """
    frames = [*test, *new]
    if len(frames) < LEAST_FRAMES or len(frames[0].predicted) < 2:  # noqa: PLR2004 (one member is no committee)
        return None
    error = np.array([_member_errors(frame) for frame in frames])  # (F, M)
    with np.errstate(divide="ignore", invalid="ignore"):  # perfect members: no ratio, no warning
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
    return np.asarray(np.sqrt(np.mean(values**2, axis=axis)))


def _median(rows: FloatArray) -> FloatArray:
    """Median over frames, shape (M,) of (F, M); NaN for a member that has any."""
    return np.asarray(np.median(rows, axis=0))


def _numbers(values: FloatArray) -> tuple[float | None, ...]:
    return tuple(float(value) if np.isfinite(value) else None for value in values)


def _member_errors(frame: MemberForces) -> FloatArray:
    """Root mean square error of each member's force components, eV/Å, shape (M,)."""
    return _rms(frame.predicted - frame.reference, axis=(1, 2))


def _medians_of_others(row: FloatArray) -> FloatArray:
    """Median over the other members that give numbers, shape (M,)."""
    others = [np.delete(row, member) for member in range(len(row))]
    return np.array([np.median(other[np.isfinite(other)]) if np.isfinite(other).any() else np.nan for other in others])


def _deviations_without(frames: Sequence[MemberForces]) -> FloatArray:
    """Largest deviation without each member, as a share of that with it, shape (M,); NaN for fewer than three."""
    members = len(frames[0].predicted)
    if members < 3:  # noqa: PLR2004 (of one member alone there is no deviation)
        return np.full(members, np.nan)
    shares = np.empty((len(frames), members))
    for index, frame in enumerate(frames):
        full = force_deviation(frame.predicted).norm.max()
        for member in range(members):
            fewer = force_deviation(np.delete(frame.predicted, member, axis=0)).norm.max()
            shares[index, member] = fewer / full if full > 0 else np.nan
    return _median(shares)


def _rogue(ratio: FloatArray, without: FloatArray) -> int | None:
    """The member with an error far above the others' whose removal takes most of the deviation, if there is one."""
    broken = np.flatnonzero(~np.isfinite(ratio))
    if 0 < len(broken) < len(ratio):
        return int(broken[0])
    if len(broken):
        return None
    worst = int(np.argmax(ratio))
    matters = not np.isfinite(without).all() or int(np.argmin(without)) == worst
    return worst if ratio[worst] >= ROGUE and matters else None


def _error_over_spread(test: Sequence[MemberForces]) -> float | None:
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
    """Pairs closer than `IDENTICAL` of the median pair; of two members, than that share of their error."""
    pairs = list(combinations(range(error.shape[1]), 2))
    distance = np.array([[float(_rms(f.predicted[i] - f.predicted[j])) for i, j in pairs] for f in frames])  # (F, P)
    yardstick = np.median(distance if len(pairs) > 1 else error, axis=1)
    close = np.median(distance <= IDENTICAL * yardstick[:, None], axis=0)  # in most frames
    return tuple(pair for pair, is_close in zip(pairs, close, strict=True) if is_close > 0.5)  # noqa: PLR2004 (most)
