"""How much a correlated sample says: decorrelated frames, and the bound on an acceptance."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from al_engine.frames import FloatArray

WINDOW = 5.0  # Sokal's self-consistent window: sum until the lag exceeds five correlation times


def statistical_inefficiency(trajectories: Sequence[FloatArray]) -> float:
    """Frames per decorrelated frame: g = 1 + 2 sum of the autocorrelation, at least 1.

    The autocorrelation is taken about the mean of all trajectories and averaged over them (Sokal, "Monte Carlo Methods
    in Statistical Mechanics", 1996; Chodera et al., J. Chem. Theory Comput. 3, 26 (2007)). Constant series give 1.

    Args:
        trajectories: Series of one observable at equal spacing, each shape (n,); non-finite values are left out.
    """
    finite = [series[np.isfinite(series)] for series in trajectories]
    finite = [series for series in finite if len(series) > 1]
    if not finite:
        return 1.0
    pooled = np.concatenate(finite)
    variance = float(pooled.var())
    if variance <= 1e-12 * float(np.mean(pooled**2)):
        return 1.0
    centred = [series - pooled.mean() for series in finite]
    total = 1.0
    for lag in range(1, max(len(series) for series in centred)):
        products = [series[:-lag] * series[lag:] for series in centred if len(series) > lag]
        total += 2.0 * float(np.concatenate(products).mean()) / variance
        if lag >= WINDOW * total / 2.0:
            break
    return max(total, 1.0)


def frames_needed(acceptance: float, confidence: float) -> int:
    """Decorrelated frames, none of them accepted, that are needed to claim less than `acceptance`.

    From (1 - acceptance)^n <= 1 - confidence; 598 for 0.5 % at 95 % (the rule of three says 600).
    """
    return math.ceil(math.log(1.0 - confidence) / math.log(1.0 - acceptance))


def upper_bound(acceptance: float, decorrelated: float, confidence: float) -> float:
    """One-sided Clopper-Pearson bound on the true acceptance, given so many decorrelated frames."""
    if decorrelated <= 0:
        return 1.0
    accepted = acceptance * decorrelated
    if accepted >= decorrelated:
        return 1.0
    return float(betaincinv(accepted + 1.0, decorrelated - accepted, confidence))
