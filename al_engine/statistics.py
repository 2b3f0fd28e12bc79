"""How much a correlated sample says: decorrelated frames, and the bound on an acceptance."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray

WINDOW = 5.0  # Sokal's self-consistent window: sum until the lag exceeds five correlation times
MOST_FRAMES = 2**40  # nobody samples more


def statistical_inefficiency(trajectories: Sequence[FloatArray], *, own_means: bool = False) -> float:
    """Frames per decorrelated frame: g = 1 + 2 sum of the autocorrelation, at least 1.

    The autocorrelation is averaged over the trajectories (Sokal, "Monte Carlo Methods in Statistical Mechanics", 1996;
    Chodera et al., J. Chem. Theory Comput. 3, 26 (2007)). Constant series give 1.

    Args:
        trajectories: Series of one observable at equal spacing, each shape (n,); non-finite values are left out.
        own_means: Take it about the mean of each trajectory, not of all: what changes more slowly than a trajectory
            lasts, such as which conformer it is in, then does not count.
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
    """How many independent frames the frames of one temperature are worth, for counting candidates.

    Frames over the larger of two statistical inefficiencies: the deviation's, which can always be estimated, and the
    candidates' own, which can't while they are rare, but is the larger one when they come in bursts, or all in one
    trajectory. The deviation's is taken about each trajectory's mean: that one conformer's forces are known a little
    less well than another's, all of them well enough, says nothing about how often the window is reached, and would
    count every trajectory as a single frame. A deviation that does not change at all tells of trajectories that do not
    move: one frame each.

    Args:
        deviation: Deviation along each trajectory in order of time, shapes (n,).
        candidate: Whether each of those frames is a candidate, same shapes.
    """
    frames = sum(len(series) for series in deviation)
    started = [series for series in deviation if len(series)]
    if started and all((series == started[0][0]).all() for series in started):
        return float(len(started))
    indicator = [series.astype(np.float64) for series in candidate]
    return frames / max(statistical_inefficiency(deviation, own_means=True), statistical_inefficiency(indicator))


def frames_needed(acceptance: float, confidence: float, *, seen: float = 0.0) -> int:
    """Decorrelated frames that are needed to claim less than `acceptance`, if a share of `seen` is accepted.

    598 for 0.5 % at 95 % when none is accepted, from (1 - acceptance)^n <= 1 - confidence (the rule of three says
    600); 922 when one in a thousand is.

    Raises:
        ValueError: If `seen` is not below `acceptance`: no number of frames suffices.
    """
    if seen >= acceptance:
        raise ValueError(f"a share of {seen} can't be shown to be below {acceptance}")
    return bisect_left(range(MOST_FRAMES), x=True, key=lambda n: upper_bound(seen, n, confidence) < acceptance)


def upper_bound(acceptance: float, decorrelated: float, confidence: float) -> float:
    """One-sided Clopper-Pearson upper bound on the true acceptance, given so many decorrelated frames.

    Their number, and that of the candidates among them, need not be whole: Korn & Graubard, Surv. Methodol. 24, 193
    (1998).
    """
    accepted = acceptance * decorrelated
    if decorrelated <= 0 or accepted >= decorrelated:
        return 1.0
    return _beta_quantile(accepted + 1.0, decorrelated - accepted, confidence)


def lower_bound(acceptance: float, decorrelated: float, confidence: float) -> float:
    """One-sided Clopper-Pearson lower bound on the true acceptance, as `upper_bound`."""
    accepted = acceptance * decorrelated
    if decorrelated <= 0 or accepted <= 0:
        return 0.0
    return _beta_quantile(accepted, decorrelated - accepted + 1.0, 1.0 - confidence)


def _beta_quantile(a: float, b: float, probability: float) -> float:
    """The quantile of a beta distribution."""
    from scipy.special import betaincinv  # a third of a second, in every worker too

    return float(betaincinv(a, b, probability))
