"""Calibration: what true error a deviation meant, from labels that are already paid for.

The true error of a frame is that of its worst atom, max_i |F_i - F_i(label)|, of the committee's mean; the deviation is
also its worst atom's, so that both are what a threshold is compared with. Two sets of labelled frames tell:

- the test set, which nobody selected, and which covers deviations below the window, where labels are otherwise not
  bought; but its frames come from the initial sampling, not from the committee's MD;
- the new labels of an iteration, scored by the committee that chose them. They were chosen by their deviation. That
  leaves the error at a given deviation as it is, but it narrows the range of deviations, so their rank correlation is
  lower than that of all sampled frames would be, and their errors say nothing of frames outside the window.

So the two are described apart, and taken together only for the error at a given deviation.
"""

from dataclasses import dataclass

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray
from al_engine.units import MEV_PER_EV

LEAST_FRAMES = 10
"""Fewer labelled frames tell nothing of how error and deviation go together."""
NEAR, LEAST_NEAR = 2.0, 5
"""The error at a deviation is told where so many labelled frames have one within this factor."""
ONE_SIGMA = (0.16, 0.5, 0.84)
"""Quantiles: of two frames in three, the error lies between the outer ones."""
OFF = 2.0
"""A threshold is off if the typical true error there is another by this factor; healthy committees show 1.0-1.6."""
LEAST_RANK_CORRELATION = 0.25
"""Below, the deviation hardly ranks frames. Healthy committees show 0.6-0.8 on a test set over all temperatures."""
LEAST_RANKED = 30
"""Frames that it takes to tell 0.6 from that: their rank correlation has a standard error of about 0.15."""
LEAST_SLOPE = 0.2
"""Flatter, the deviation at which the error has a given value is anyone's guess."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Where a quantity lies: its median, and the range of two values in three around it."""

    low: float
    typical: float
    high: float

    def times(self, factor: float) -> "Spread":
        """The spread of a multiple of the quantity."""
        return Spread(factor * self.low, factor * self.typical, factor * self.high)

    def __str__(self) -> str:
        return f"{self.low:.3g}-{self.high:.3g} (typically {self.typical:.3g})"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How deviation and true error go together over some frames.

    Attributes:
        frames: Number of frames F.
        error_over_deviation: True error of the committee's mean per deviation: the factor to scale a deviation by.
        member_error_over_deviation: Median of the same for one member's error, as of the one that drives.
        rank_correlation: Spearman's; None if one of the two does not vary.
    """

    frames: int
    error_over_deviation: Spread
    member_error_over_deviation: float
    rank_correlation: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """The thresholds of an iteration in units of true error, in meV/Å.

    Attributes:
        test: Agreement over the test set; None with too few frames.
        new: Agreement over the iteration's new labels; None with too few.
        lower_means: True error at the window's lower end; None where no labels are near.
        upper_means: True error at its upper end; None where no labels are near.
        suggested_lower: The deviation at which the typical true error is what the lower end says; None if that is not
            off, or the labels can't tell.
    """

    test: Agreement | None
    new: Agreement | None
    lower_means: Spread | None
    upper_means: Spread | None
    suggested_lower: float | None


@dataclass(frozen=True, slots=True, eq=False)
class ScoredFrames:
    """Labelled frames as a committee sees them.

    Attributes:
        deviation: Their deviation, eV/Å, shape (F,).
        error: True error of the committee's mean, eV/Å, shape (F,).
        member_error: True error of one member, eV/Å, shape (F,): the mean of it over members.
    """

    deviation: FloatArray
    error: FloatArray
    member_error: FloatArray

    def where(self, keep: BoolArray) -> "ScoredFrames":
        """Only some of the frames; `keep` has shape (F,)."""
        return ScoredFrames(self.deviation[keep], self.error[keep], self.member_error[keep])

    def where_finite(self) -> "ScoredFrames":
        """Only the frames of which all three are positive numbers, so that they have a logarithm."""
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
    """True error at a given deviation: a straight line in their logarithms, and the scatter about it.

    Attributes:
        slope: Power of the deviation; 1 where error and deviation are proportional.
        intercept: Logarithm of the error in eV/Å at a deviation of 1 eV/Å.
        scatter: Where the error lies about the line, as multiples of it.
    """

    slope: float
    intercept: float
    scatter: Spread

    def error_at(self, deviation: float) -> Spread:
        """True error at a deviation, both in eV/Å."""
        error = float(np.exp(self.intercept + self.slope * np.log(deviation)))
        return self.scatter.times(error)

    def deviation_at(self, error: float) -> float:
        """The deviation at which the typical error has a value, both in eV/Å."""
        return float(np.exp((np.log(error / self.scatter.typical) - self.intercept) / self.slope))


def _spread(values: FloatArray) -> Spread:
    return Spread(*(float(value) for value in np.quantile(values, ONE_SIGMA)))


def agreement(frames: ScoredFrames) -> Agreement | None:
    """How deviation and true error go together; None with too few frames to tell."""
    from scipy.stats import spearmanr  # takes most of a second

    frames = frames.where_finite()
    if len(frames) < LEAST_FRAMES:
        return None
    varies = np.ptp(frames.deviation) > 0 and np.ptp(frames.error) > 0
    return Agreement(
        frames=len(frames),
        error_over_deviation=_spread(frames.error / frames.deviation),
        member_error_over_deviation=float(np.median(frames.member_error / frames.deviation)),
        rank_correlation=float(spearmanr(frames.deviation, frames.error).statistic) if varies else None,
    )


def error_line(frames: ScoredFrames) -> ErrorLine | None:
    """The Theil-Sen line, which a few odd frames do not bend; None with too few frames or one deviation only."""
    from scipy.stats import theilslopes  # takes most of a second

    frames = frames.where_finite()
    if len(frames) < LEAST_FRAMES or np.ptp(frames.deviation) == 0.0:
        return None
    x, y = np.log(frames.deviation), np.log(frames.error)
    fit = theilslopes(y, x)
    slope, intercept = float(fit.slope), float(fit.intercept)
    return ErrorLine(slope=slope, intercept=intercept, scatter=_spread(np.exp(y - intercept - slope * x)))


def calibrate(
    test: ScoredFrames, new: ScoredFrames, *, lower_mev_per_ang: float, upper_mev_per_ang: float
) -> Calibration:
    """Restate the window in units of true error, and say what its lower end should be if that is off.

    The lower end is off if the typical true error there is more than twice what it says, or less than half: frames
    are then left that had something to teach, or labelled that had not.

    Args:
        test: The test set.
        new: The new labels of one iteration, as the committee saw them that chose them.
        lower_mev_per_ang: Lower end of the window.
        upper_mev_per_ang: Its upper end.
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
    """The error at a deviation, if labelled frames are near it."""
    near = (frames.deviation > deviation / NEAR) & (frames.deviation < deviation * NEAR)
    return None if line is None or near.sum() < LEAST_NEAR else line.error_at(deviation)


def _milli(spread: Spread | None) -> Spread | None:
    return None if spread is None else spread.times(1e3)


def calibration_warnings(calibration: Calibration, *, lower_mev_per_ang: float) -> list[str]:
    """What is wrong with the thresholds, a sentence each.

    Args:
        calibration: What the labels say.
        lower_mev_per_ang: Lower end of the window.
    """
    warnings = []
    if calibration.suggested_lower is not None and calibration.lower_means is not None:
        warnings.append(
            f"a deviation of {lower_mev_per_ang:g} meV/Å meant a true error of {calibration.lower_means} meV/Å on the "
            f"worst atom; to mean {lower_mev_per_ang:g}, selection.lower_mev_per_ang of a new campaign would "
            f"be about {calibration.suggested_lower:g}, and the upper end in proportion"
        )
    test = calibration.test
    rank_correlation = None if test is None or test.frames < LEAST_RANKED else test.rank_correlation
    if rank_correlation is not None and rank_correlation < LEAST_RANK_CORRELATION:
        warnings.append(
            "the deviation hardly tells large errors from small ones: on the test set their rank correlation is "
            f"{rank_correlation:.2f}"
        )
    return warnings
