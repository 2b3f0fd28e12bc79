"""Statistics of sampled frames: number of decorrelated frames, confidence bounds on the acceptance and on quantiles."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, IntArray

WINDOW = 5.0  # Sokal's self-consistent window: sum until the lag exceeds five correlation times
TAIL = 0.05
"""Largest share of the frames that count as near the window."""
NEAR = 0.5
"""Deviation from which a frame counts as near the window, as a share of the window's lower end."""
ENOUGH = 50
"""Number of frames near the window from which their correlation can be estimated."""
SAFETY = 3.0
"""Factor on the share of candidates whose correlation is derived from frames near the window. It makes up for two
errors. Correlations estimated from few trajectories are too low: by a third if the trajectories are not much longer
than the correlation time. The mean correlation within a trajectory gives too low a value for the rarer property,
because the relation between the two correlations is convex."""
ANGLES = 721
"""Points of the integral over the correlation in `rarer_correlation`."""
MOST_POINTS = 1000
"""Largest number of points between whose pairs slopes are computed; the pairs of 1000 points take 50 MB."""
MOST_FRAMES = 2**40  # upper end of the search for a number of frames


def statistical_inefficiency(trajectories: Sequence[FloatArray], *, own_means: bool = False) -> float:
    """Frames per decorrelated frame: g = 1 + 2 * (sum of the autocorrelation over all lags from 1), at least 1.

    The autocorrelation is averaged over the trajectories (Sokal, "Monte Carlo Methods in Statistical Mechanics", 1996;
    Chodera et al., J. Chem. Theory Comput. 3, 26 (2007)). Constant series give 1.

    Args:
        trajectories: Time series of an observable at equal spacing, each shape (n,); non-finite values are left out.
        own_means: Subtract from each trajectory its own mean, not the mean of all. Changes slower than a trajectory,
            such as those between conformers, then do not count.
    """
    return _sum_of(_autocorrelation(trajectories, own_means=own_means))


def _autocorrelation(trajectories: Sequence[FloatArray], *, own_means: bool = False) -> FloatArray:
    """Autocorrelation at a distance of 0, 1, ... frames, averaged over trajectories; empty for constant series."""
    finite = [series[np.isfinite(series)] for series in trajectories]
    finite = [series for series in finite if len(series) > 1]
    if own_means:
        finite = [series - series.mean() for series in finite]
    if not finite:
        return np.empty(0)
    pooled = np.concatenate(finite)
    variance = float(pooled.var())
    if variance <= 1e-12 * float(np.mean(pooled**2)) or not variance:
        return np.empty(0)
    mean = pooled.mean()
    products, pairs = _lagged_products([series - mean for series in finite])
    correlation: FloatArray = products / pairs / variance
    return correlation


def _sum_of(correlation: FloatArray) -> float:
    """1 + 2 * (sum of an autocorrelation from lag 1, up to Sokal's window), at least 1."""
    total = 1.0
    for lag in range(1, len(correlation)):
        total += 2.0 * float(correlation[lag])
        if lag >= WINDOW * total / 2.0:
            break
    return max(total, 1.0)


def _lagged_products(trajectories: Sequence[FloatArray]) -> tuple[FloatArray, IntArray]:
    """Sums of the products of values at a distance of 0, 1, ... frames, and the numbers of these products.

    Args:
        trajectories: Time series, each shape (n,).

    Returns:
        Two arrays of shape (longest n,).
    """
    longest = max(len(series) for series in trajectories)
    products, pairs = np.zeros(longest), np.zeros(longest, dtype=np.int64)
    for series in trajectories:
        padded = 1 << (2 * len(series) - 1).bit_length()  # zeros behind the end, so that the ends are not neighbours
        spectrum = np.fft.rfft(series, n=padded)
        products[: len(series)] += np.fft.irfft(np.abs(spectrum) ** 2, n=padded)[: len(series)]
        pairs[: len(series)] += np.arange(len(series), 0, -1)
    return products, pairs


def design_effect(trajectories: Sequence[BoolArray]) -> float:
    """Frames per independent frame if the trajectory is the unit of sampling, for the share of frames with a property.

    It is the variance of the share, estimated from the differences between trajectories, divided by the variance that
    independent frames would have (Kish, "Survey Sampling", 1965, sections 5.4 and 8.2). It sees every process that
    makes trajectories differ, however slow.

    Args:
        trajectories: Whether the frames of each trajectory have the property, each shape (n,).

    Returns:
        The design effect, at least 1; 1 for fewer than two trajectories, and if all frames or no frame have the
        property.
    """
    sizes = np.array([len(series) for series in trajectories if len(series)])
    counts = np.array([np.sum(series) for series in trajectories if len(series)])
    if len(sizes) < 2:  # noqa: PLR2004 (a variance needs two values)
        return 1.0
    share = counts.sum() / sizes.sum()
    if not 0.0 < share < 1.0:
        return 1.0
    between = float(np.sum((counts - share * sizes) ** 2)) * len(sizes) / (len(sizes) - 1)
    return max(float(between / (share * (1.0 - share) * sizes.sum())), 1.0)


def _intraclass(design: float, trajectories: Sequence[BoolArray]) -> float:
    """Correlation within trajectories that gives a design effect: deff = 1 + (n - 1) rho for trajectories of n frames.

    For unequal lengths n is their mean weighted by length (Kish, section 5.4).
    """
    sizes = np.array([len(series) for series in trajectories], dtype=np.float64)
    if design <= 1.0 or sizes.max() <= 1.0:
        return 0.0
    length = float(np.sum(sizes**2) / np.sum(sizes))
    return min((design - 1.0) / (length - 1.0), 1.0)


def rarer_correlation(correlation: FloatArray, *, share: float, rarer: float) -> FloatArray:
    """Correlation of a rare property, from the correlation of a more frequent property of the same process.

    Both properties are that a Gaussian process exceeds a threshold; any monotone function of a Gaussian process will
    do. The correlation of the property determines that of the process (Pearson's tetrachoric correlation, Phil. Trans.
    R. Soc. A 195, 1 (1900)), which determines that of the rarer property. The probability that two values with
    correlation r both exceed a threshold u is (1 - Phi(u))^2 plus the integral of the bivariate density at (u, u) over
    the correlation from 0 to r (Plackett, Biometrika 41, 351 (1954)).

    Args:
        correlation: Correlations of the property, any shape. Negative correlations are scaled by the ratio at zero.
        share: Share of the frames with the property.
        rarer: Share of the frames with the rarer property; where it is not rarer, nothing changes.
    """
    if not 0.0 < rarer < share < 1.0:
        return correlation
    angle = np.linspace(0.0, np.pi / 2, ANGLES)  # r = sin(angle): the integrand has no singularity at r = 1
    frequent, rare = (_exceedance_correlation(p, angle) for p in (share, rarer))
    positive = np.interp(correlation, frequent, rare)
    return np.where(correlation > 0.0, positive, correlation * rare[1] / frequent[1])


def _exceedance_correlation(share: float, angle: FloatArray) -> FloatArray:
    """Correlation of the exceedances of a threshold by two Gaussian values of correlation sin(angle)."""
    from scipy.special import ndtri  # as in `_beta_quantile`

    threshold = float(ndtri(1.0 - share))
    density = np.exp(-(threshold**2) / (1.0 + np.sin(angle))) / (2.0 * np.pi)
    both = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(angle))])
    correlation: FloatArray = both / both[-1]  # exactly 1 for values that are equal
    return correlation


def decorrelated_frames(
    deviation: Sequence[FloatArray], candidate: Sequence[BoolArray], *, lower: float = 0.0, limit: float = 0.0
) -> float:
    """Number of independent frames that give the same information on the share of candidates at one temperature.

    It is the number of frames divided by the largest of the statistical inefficiency and the design effect of two
    properties: to be a candidate, and to be near the window (`near_window`). Candidates are too rare to show their
    correlation when the verdict is asked. Frames near the window are more frequent, and more correlated; from their
    correlation that of candidates near the limit of the acceptance follows (`rarer_correlation`). Both are taken about
    the mean of all trajectories, so that a process slower than a trajectory counts.

    With few frames near the window, their correlation cannot be estimated either; the statistical inefficiency of the
    deviation within trajectories then counts too. If the deviation never changes, the trajectories do not move, and
    count as one frame each.

    Args:
        deviation: Force deviation along each trajectory in order of time, eV/Å, each shape (n,). A trajectory that goes
            on in the next iteration is one trajectory.
        candidate: Whether each of these frames is a candidate, same shapes.
        lower: Lower end of the window, eV/Å.
        limit: Limit of the acceptance. The correlation counts that frames near the window imply for candidates of
            `SAFETY` times this share, or of the share seen if it is larger; 0: the correlation of these frames.
    """
    frames = sum(len(series) for series in deviation)
    started = [series for series in deviation if len(series)]
    if started and all((series == started[0][0]).all() for series in started):
        return float(len(started))
    near = near_window(deviation, lower)
    near_frames, candidates = (sum(int(series.sum()) for series in found) for found in (near, candidate))
    rarer = SAFETY * max(limit, candidates / frames) if limit and frames else 1.0
    worst = max(
        _frames_per_independent_frame(candidate, share=0.0, rarer=1.0),
        _frames_per_independent_frame(near, share=near_frames / max(frames, 1), rarer=rarer),
    )
    if near_frames < ENOUGH:
        worst = max(worst, statistical_inefficiency(deviation, own_means=True))
    return frames / worst


def _frames_per_independent_frame(found: Sequence[BoolArray], *, share: float, rarer: float) -> float:
    """The larger of statistical inefficiency and design effect, for a property or for a rarer property.

    Args:
        found: Whether the frames of each trajectory have the property, each shape (n,).
        share: Share of the frames with the property.
        rarer: Share of the frames with the rarer property, see `rarer_correlation`.
    """
    correlation = _autocorrelation([series.astype(np.float64) for series in found])
    inefficiency = _sum_of(rarer_correlation(correlation, share=share, rarer=rarer))
    design = design_effect(found)
    within = np.array(_intraclass(design, found))
    if within > 0.0:
        design = 1.0 + (design - 1.0) * float(rarer_correlation(within, share=share, rarer=rarer) / within)
    return max(inefficiency, design)


def near_window(deviation: Sequence[FloatArray], lower: float) -> list[BoolArray]:
    """Whether each frame is near the window from below: above `NEAR` times its lower end, and among the largest `TAIL`.

    The second condition keeps the property rare, like that of being a candidate. The first keeps differences between
    trajectories far below the window, such as those between conformers that the committee knows well, from counting.

    Args:
        deviation: Force deviations, eV/Å, each shape (n,).
        lower: Lower end of the window, eV/Å.
    """
    finite = np.concatenate([series[np.isfinite(series)] for series in deviation] or [np.empty(0)])
    largest = np.quantile(finite, 1.0 - TAIL) if len(finite) else 0.0
    return [series > max(largest, NEAR * lower) for series in deviation]


def split_r_hat(trajectories: Sequence[FloatArray]) -> float:
    """Ratio of the spread between half trajectories to the spread within them: split R-hat.

    Gelman et al., "Bayesian Data Analysis", 3rd ed. (2013), section 11.4: sqrt(((n - 1) / n W + B / n) / W). It is near
    1 if the trajectories have forgotten their beginnings, and larger if they differ or drift.

    Args:
        trajectories: Time series of an observable, each shape (n,); each is cut to the length of the shortest.

    Returns:
        The ratio; NaN for fewer than four frames per trajectory, or without any spread.
    """
    half = min((len(series) for series in trajectories), default=0) // 2
    if half < 2:  # noqa: PLR2004 (a variance needs two values)
        return float("nan")
    halves = np.array([part for series in trajectories for part in (series[:half], series[half : 2 * half])])
    within = float(halves.var(axis=1, ddof=1).mean())
    if not within > 0.0:
        return float("nan")
    between = float(halves.mean(axis=1).var(ddof=1))
    return float(np.sqrt((half - 1) / half + between / within))


def frames_needed(acceptance: float, confidence: float, *, seen: float = 0.0) -> int:
    """Number of decorrelated frames needed to show that the true acceptance is below a limit.

    For 0.5 % at 95 % confidence, 598 frames are needed without candidates, from (1 - acceptance)^n <= 1 - confidence
    (the rule of three gives 600), and 922 frames with one candidate in a thousand.

    Args:
        acceptance: The limit.
        confidence: Confidence of the upper bound that has to be below the limit.
        seen: Share of candidates among the frames.

    Raises:
        ValueError: If `seen` is not below `acceptance`: no number of frames suffices.
    """
    if seen >= acceptance:
        raise ValueError(f"a share of {seen} can't be shown to be below {acceptance}")
    return bisect_left(range(MOST_FRAMES), x=True, key=lambda n: upper_bound(seen, n, confidence) < acceptance)


def upper_bound(acceptance: float, decorrelated: float, confidence: float) -> float:
    """One-sided Clopper-Pearson upper bound on the true acceptance.

    The numbers of decorrelated frames and of candidates need not be integers: Korn & Graubard, Surv. Methodol. 24, 193
    (1998).

    Args:
        acceptance: Acceptance seen.
        decorrelated: Number of decorrelated frames.
        confidence: Probability that the bound holds.
    """
    accepted = acceptance * decorrelated
    if decorrelated <= 0 or accepted >= decorrelated:
        return 1.0
    return _beta_quantile(accepted + 1.0, decorrelated - accepted, confidence)


def lower_bound(acceptance: float, decorrelated: float, confidence: float) -> float:
    """One-sided Clopper-Pearson lower bound on the true acceptance; arguments as in `upper_bound`."""
    accepted = acceptance * decorrelated
    if decorrelated <= 0 or accepted <= 0:
        return 0.0
    return _beta_quantile(accepted, decorrelated - accepted + 1.0, 1.0 - confidence)


def quantile_bound(values: FloatArray, quantile: float, confidence: float) -> float | None:
    """Upper confidence bound on a quantile of any continuous distribution, from independent values.

    The bound is the smallest order statistic that is above the quantile with the given probability. The r-th smallest
    of n values is above the quantile if fewer than r values are below it, and the number of values below it is binomial
    (Wilks, Ann. Math. Stat. 12, 91 (1941); Conover, "Practical Nonparametric Statistics", 3rd ed. (1999), section 3.3).
    For instance, the largest of 59 values is above the 0.95 quantile with a probability of 0.95. Values drawn in equal
    numbers from several distributions may be used too: the bound then holds for the quantile of their mixture
    (Hoeffding, Ann. Math. Stat. 27, 713 (1956)).

    Args:
        values: The values, shape (n,).
        quantile: The quantile, between 0 and 1.
        confidence: Probability that the bound holds.

    Returns:
        The bound; None if there are too few values.
    """
    from scipy.special import bdtr  # as in `_beta_quantile`

    n = len(values)
    holds = np.flatnonzero(bdtr(np.arange(n, dtype=np.float64), n, quantile) >= confidence)
    return float(np.sort(values)[holds[0]]) if len(holds) else None


def rank_correlation(x: FloatArray, y: FloatArray) -> float:
    """Spearman's rank correlation of two arrays of shape (n,), equal values at their mean rank.

    As `scipy.stats.spearmanr`, whose import takes more than a second in every process of a campaign.
    """
    return float(np.corrcoef(_mean_ranks(x), _mean_ranks(y))[0, 1])


def _mean_ranks(values: FloatArray) -> FloatArray:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    result: FloatArray = (np.cumsum(counts) - 0.5 * (counts - 1))[where]
    return result


def theil_sen_line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Slope and intercept of the line through points of shape (n,) with the median slope of all pairs of points.

    Sen, J. Am. Stat. Assoc. 63, 1379 (1968), with the intercept of `scipy.stats.theilslopes`, whose import takes more
    than a second. At least two values of `x` must differ. Of more than `MOST_POINTS` points, this number of points is
    drawn at random, because the memory grows with the number of pairs.
    """
    if len(x) > MOST_POINTS:
        drawn = np.sort(np.random.default_rng(0).choice(len(x), MOST_POINTS, replace=False))
        x, y = x[drawn], y[drawn]
    first, second = np.triu_indices(len(x), 1)
    run, rise = x[second] - x[first], y[second] - y[first]
    slope = float(np.median(rise[run != 0.0] / run[run != 0.0]))
    return slope, float(np.median(y) - slope * np.median(x))


def _beta_quantile(a: float, b: float, probability: float) -> float:
    """The quantile of a beta distribution."""
    from scipy.special import betaincinv  # the import takes a third of a second, in every worker too

    return float(betaincinv(a, b, probability))
