"""Statistics of correlated frames: number of decorrelated frames, and confidence bounds on the acceptance."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray

WINDOW = 5.0  # Sokal's self-consistent window: sum until the lag exceeds five correlation times
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
    finite = [series[np.isfinite(series)] for series in trajectories]
    finite = [series for series in finite if len(series) > 1]
    if own_means:
        finite = [series - series.mean() for series in finite]
    if not finite:
        return 1.0
    pooled = np.concatenate(finite)
    variance = float(pooled.var())
    if variance <= 1e-12 * float(np.mean(pooled**2)) or not variance:
        return 1.0
    centred = [series - pooled.mean() for series in finite]
    total = 1.0
    for lag in range(1, max(len(series) for series in centred)):
        products = [series[:-lag] * series[lag:] for series in centred if len(series) > lag]
        total += 2.0 * float(np.concatenate(products).mean()) / variance
        if lag >= WINDOW * total / 2.0:
            break
    return max(total, 1.0)


def decorrelated_frames(deviation: Sequence[FloatArray], candidate: Sequence[BoolArray]) -> float:
    """Number of independent frames that give the same information on the share of candidates at one temperature.

    It is the number of frames divided by the larger of two statistical inefficiencies. That of the deviation can always
    be estimated. That of `candidate` can't be estimated while candidates are rare, but it is the larger one if
    candidates come in bursts or all in one trajectory.

    The deviation is taken about the mean of each trajectory. Otherwise, small differences between the conformers of
    trajectories would count every trajectory as a single frame, although they do not affect how often the window is
    reached. If the deviation never changes, the trajectories do not move, and count as one frame each.

    Args:
        deviation: Force deviation along each trajectory in order of time, eV/Å, each shape (n,).
        candidate: Whether each of these frames is a candidate, same shapes.
    """
    frames = sum(len(series) for series in deviation)
    started = [series for series in deviation if len(series)]
    if started and all((series == started[0][0]).all() for series in started):
        return float(len(started))
    indicator = [series.astype(np.float64) for series in candidate]
    return frames / max(statistical_inefficiency(deviation, own_means=True), statistical_inefficiency(indicator))


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


def _beta_quantile(a: float, b: float, probability: float) -> float:
    """The quantile of a beta distribution."""
    from scipy.special import betaincinv  # the import takes a third of a second, in every worker too

    return float(betaincinv(a, b, probability))
