"""Calibration: the true force error that a given force deviation corresponds to, from existing labels.

The true error of a frame is the force error of the committee's mean on its worst atom, max_i |F_i - F_i(label)|. The
deviation of a frame is also that of its worst atom, so both can be compared with a threshold. Two sets of labelled
frames are used:

- the test set. It was not selected by deviation, and it covers deviations below the window, where no frames are chosen
  for labels. But its frames come from the initial sampling, not from the committee's MD;
- the new labels of an iteration, scored by the committee that chose them. They were chosen by their deviation. That
  leaves the error at a given deviation unchanged, but narrows the range of deviations. So their rank correlation is
  lower than that of all sampled frames, and their errors do not describe frames outside the window.

The two sets are therefore described separately, and joined only to estimate the error at a given deviation.

Of clusters cut from boxes, only the atoms that stand for the box count, in deviation and error alike
(`al_engine.selection.cutting.Cutting.interior`).
"""

from dataclasses import dataclass

import numpy as np

from al_engine.statistics import rank_correlation, theil_sen_line
from al_engine.structures.frames import BoolArray, FloatArray
from al_engine.units import MEV_PER_EV

LEAST_FRAMES = 10
"""Fewest labelled frames from which the relation of error and deviation is estimated."""
NEAR, LEAST_NEAR = 2.0, 5
"""The error at a deviation is stated if at least `LEAST_NEAR` labelled frames are within the factor `NEAR` of it."""
ONE_SIGMA = (0.16, 0.5, 0.84)
"""Quantiles of a spread: two thirds of the values lie between the outer two, as within one standard deviation."""
OFF = 2.0
"""The lower end of the window is off if the typical true error at it differs by more than this factor. Healthy
committees show factors of 1.0-1.6."""
LEAST_RANK_CORRELATION = 0.25
"""Spearman rank correlation below which the deviation hardly ranks frames. Healthy committees show 0.6-0.8 on a test
set over all temperatures."""
LEAST_RANKED = 30
"""Frames needed to tell a rank correlation of 0.6 from `LEAST_RANK_CORRELATION`: the standard error is then about
0.15."""
LEAST_SLOPE = 0.2
"""Slope of `ErrorLine` below which its inverse is ill-conditioned, so that no threshold is suggested."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Distribution of a quantity: its median, and the range that contains two thirds of the values around it."""

    low: float
    typical: float
    high: float

    def times(self, factor: float) -> "Spread":
        """The spread of a multiple of the quantity."""
        return Spread(factor * self.low, factor * self.typical, factor * self.high)

    def __str__(self) -> str:
        low, high, typical = (f"{float(f'{value:.3g}'):g}" for value in (self.low, self.high, self.typical))
        return f"{low}-{high} (typically {typical})"  # three digits, without an exponent


@dataclass(frozen=True, slots=True)
class Agreement:
    """Relation of force deviation and true error over some frames.

    Attributes:
        frames: Number of frames F.
        error_over_deviation: Ratio of the true error of the committee's mean to the deviation.
        member_error_over_deviation: Median ratio of a single member's true error to the deviation. It applies to MD
            driven by one member.
        rank_correlation: Spearman's rank correlation of error and deviation; None if one of them does not vary.
    """

    frames: int
    error_over_deviation: Spread
    member_error_over_deviation: float
    rank_correlation: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """The thresholds of an iteration expressed as true errors, in meV/Å.

    Attributes:
        test: Agreement over the test set; None with too few frames.
        new: Agreement over the iteration's new labels; None with too few labels.
        lower_means: True error at the window's lower end; None if too few labelled frames are near it.
        upper_means: True error at the window's upper end; None if too few labelled frames are near it.
        suggested_lower: Deviation at which the typical true error equals the lower end; None if the lower end is not
            off, or if the labels do not suffice for a suggestion.
    """

    test: Agreement | None
    new: Agreement | None
    lower_means: Spread | None
    upper_means: Spread | None
    suggested_lower: float | None


@dataclass(frozen=True, slots=True, eq=False)
class ScoredFrames:
    """Force deviations and true errors of a committee on F labelled frames.

    Attributes:
        deviation: Force deviation, eV/Å, shape (F,).
        error: True error of the committee's mean, eV/Å, shape (F,).
        member_error: True error of a single member, averaged over the members, eV/Å, shape (F,).
    """

    deviation: FloatArray
    error: FloatArray
    member_error: FloatArray

    def where(self, keep: BoolArray) -> "ScoredFrames":
        """The frames for which `keep`, shape (F,), is true."""
        return ScoredFrames(self.deviation[keep], self.error[keep], self.member_error[keep])

    def where_finite(self) -> "ScoredFrames":
        """The frames whose deviation and errors are finite and positive, so that their logarithms exist."""
        columns = np.stack([self.deviation, self.error, self.member_error])
        return self.where(np.asarray((np.isfinite(columns) & (columns > 0.0)).all(axis=0)))

    def __add__(self, other: "ScoredFrames") -> "ScoredFrames":
        return ScoredFrames(
            np.concatenate([self.deviation, other.deviation]),
            np.concatenate([self.error, other.error]),
            np.concatenate([self.member_error, other.member_error]),
        )

    def __len__(self) -> int:
        return len(self.deviation)


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """True error as a function of deviation: a straight line in the logarithms of both, with the scatter about it.

    Attributes:
        slope: Exponent of the deviation; 1 if error and deviation are proportional.
        intercept: Natural logarithm of the error in eV/Å at a deviation of 1 eV/Å.
        scatter: Ratio of the frames' errors to the line.
    """

    slope: float
    intercept: float
    scatter: Spread

    def error_at(self, deviation: float) -> Spread:
        """True error at a deviation, both in eV/Å."""
        error = float(np.exp(self.intercept + self.slope * np.log(deviation)))
        return self.scatter.times(error)

    def deviation_at(self, error: float) -> float:
        """Deviation at which the typical true error has a given value, both in eV/Å."""
        return float(np.exp((np.log(error / self.scatter.typical) - self.intercept) / self.slope))


def _spread(values: FloatArray) -> Spread:
    return Spread(*(float(value) for value in np.quantile(values, ONE_SIGMA)))


def agreement(frames: ScoredFrames) -> Agreement | None:
    """Relate deviation and true error; None with fewer than `LEAST_FRAMES` usable frames."""
    frames = frames.where_finite()
    if len(frames) < LEAST_FRAMES:
        return None
    varies = np.ptp(frames.deviation) > 0 and np.ptp(frames.error) > 0
    return Agreement(
        frames=len(frames),
        error_over_deviation=_spread(frames.error / frames.deviation),
        member_error_over_deviation=float(np.median(frames.member_error / frames.deviation)),
        rank_correlation=rank_correlation(frames.deviation, frames.error) if varies else None,
    )


def error_line(frames: ScoredFrames) -> ErrorLine | None:
    """Fit the Theil-Sen line, which is robust against outliers; None with too few frames or equal deviations."""
    frames = frames.where_finite()
    if len(frames) < LEAST_FRAMES or np.ptp(frames.deviation) == 0.0:
        return None
    x, y = np.log(frames.deviation), np.log(frames.error)
    slope, intercept = theil_sen_line(x, y)
    return ErrorLine(slope=slope, intercept=intercept, scatter=_spread(np.exp(y - intercept - slope * x)))


def calibrate(
    test: ScoredFrames, new: ScoredFrames, *, lower_mev_per_ang: float, upper_mev_per_ang: float
) -> Calibration:
    """Express the window as true errors, and suggest another lower end if the present one is off.

    The lower end is off if the typical true error at it is more than twice its value, or less than half (`OFF`). In the
    first case inaccurate frames are not labelled; in the second case labels are spent on accurate frames.

    Args:
        test: The test set.
        new: The new labels of one iteration, scored by the committee that chose them.
        lower_mev_per_ang: Lower end of the window, meV/Å.
        upper_mev_per_ang: Upper end of the window, meV/Å.
    """
    together = (test + new).where_finite()
    line = error_line(together)
    lower, upper = lower_mev_per_ang / MEV_PER_EV, upper_mev_per_ang / MEV_PER_EV
    at_lower, at_upper = (_error_near(line, together, deviation) for deviation in (lower, upper))
    suggested = None
    if line is not None and at_lower is not None and not lower / OFF <= at_lower.typical <= lower * OFF:
        wanted = line.deviation_at(lower) if line.slope > LEAST_SLOPE else np.nan
        suggested = float(f"{MEV_PER_EV * wanted:.2g}") if _error_near(line, together, wanted) else None
    return Calibration(
        test=agreement(test),
        new=agreement(new),
        lower_means=_milli(at_lower),
        upper_means=_milli(at_upper),
        suggested_lower=suggested,
    )


def _error_near(line: ErrorLine | None, frames: ScoredFrames, deviation: float) -> Spread | None:
    """True error at a deviation; None if too few labelled frames are near it."""
    near = (frames.deviation > deviation / NEAR) & (frames.deviation < deviation * NEAR)
    return None if line is None or near.sum() < LEAST_NEAR else line.error_at(deviation)


def _milli(spread: Spread | None) -> Spread | None:
    return None if spread is None else spread.times(1e3)


def calibration_warnings(calibration: Calibration, *, lower_mev_per_ang: float) -> list[str]:
    """What is wrong with the thresholds, one sentence each.

    Args:
        calibration: The calibration of the iteration.
        lower_mev_per_ang: Lower end of the window, meV/Å.
    """
    warnings = []
    if calibration.suggested_lower is not None and calibration.lower_means is not None:
        warnings.append(
            f"a deviation of {lower_mev_per_ang:g} meV/Å meant a true error of {calibration.lower_means} meV/Å on the "
            f"worst atom; for a true error of {lower_mev_per_ang:g}, set selection.lower_mev_per_ang to about "
            f"{calibration.suggested_lower:g} in a fork (`al-engine fork`), and change the upper end by the same factor"
        )
    test = calibration.test
    rank_correlation = None if test is None or test.frames < LEAST_RANKED else test.rank_correlation
    if rank_correlation is not None and rank_correlation < LEAST_RANK_CORRELATION:
        warnings.append(
            "the deviation hardly distinguishes large errors from small errors: on the test set their rank correlation "
            f"is {rank_correlation:.2f}"
        )
    return warnings
