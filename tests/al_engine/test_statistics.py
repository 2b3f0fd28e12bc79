"""Decorrelated frames and bounds: against processes and formulas whose answer is known."""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binomtest, multivariate_normal, norm, spearmanr, theilslopes

from al_engine.statistics import (
    decorrelated_frames,
    design_effect,
    frames_needed,
    lower_bound,
    quantile_bound,
    rank_correlation,
    rarer_correlation,
    split_r_hat,
    statistical_inefficiency,
    theil_sen_line,
    upper_bound,
)


def autoregressive(phi: float, n: int, *, series: int, seed: int) -> list[np.ndarray]:
    """x_t = phi x_{t-1} + noise, started from its stationary distribution: autocorrelation phi^k."""
    noise = np.random.default_rng(seed).normal(size=(series, n))
    noise[:, 0] /= np.sqrt(1.0 - phi**2)
    return list(lfilter([1.0], [1.0, -phi], noise, axis=1))


@pytest.mark.parametrize("phi", [0.3, 0.6, 0.8, 0.9, 0.95])
def test_autoregressive_process(phi):
    """g = 1 + 2 sum phi^k = (1 + phi) / (1 - phi); the window's bias and noise are a few per cent here."""
    found = [statistical_inefficiency(autoregressive(phi, 4000, series=8, seed=s)) for s in range(10)]
    assert np.mean(found) == pytest.approx((1.0 + phi) / (1.0 - phi), rel=0.07)


def test_it_is_what_the_mean_of_a_series_needs():
    """Independent of autocorrelations: the variance of a mean over n frames is g var / n."""
    series = np.array(autoregressive(0.8, 1000, series=2000, seed=0))
    from_means = series.mean(axis=1).var() * 1000 / series.var()
    assert statistical_inefficiency(list(series)) == pytest.approx(from_means, rel=0.15)


def test_white_noise_is_uncorrelated():
    found = [statistical_inefficiency(autoregressive(0.0, 500, series=8, seed=s)) for s in range(20)]
    assert np.mean(found) == pytest.approx(1.0, abs=0.05)
    assert min(found) >= 1.0


def test_anticorrelation_is_never_counted_as_more_frames_than_there_are():
    assert statistical_inefficiency(autoregressive(-0.8, 2000, series=4, seed=0)) == 1.0


def test_replicas_stuck_at_different_values_count_about_once_each():
    """Slow differences between trajectories are correlation too: the mean is that of all of them."""
    rng = np.random.default_rng(0)
    stuck = [level + 0.01 * rng.normal(size=100) for level in rng.normal(size=8)]
    assert 8 * 100 / statistical_inefficiency(stuck) < 16


def test_sampling_twice_as_often_gives_no_more_decorrelated_frames():
    fine = autoregressive(0.95, 8000, series=8, seed=1)
    coarse = [series[::2] for series in fine]
    count_fine = 8 * 8000 / statistical_inefficiency(fine)
    count_coarse = 8 * 4000 / statistical_inefficiency(coarse)
    assert count_fine == pytest.approx(count_coarse, rel=0.05)


@pytest.mark.parametrize(
    "trajectories",
    [[], [np.array([])], [np.array([0.3])], [np.full(50, 0.1)], [np.zeros(50)], [np.full(9, np.nan)]],
)
def test_series_that_say_nothing_give_one(trajectories):
    assert statistical_inefficiency(trajectories) == 1.0


def test_non_finite_values_are_left_out():
    series = autoregressive(0.7, 3000, series=1, seed=2)[0]
    spoilt = np.concatenate([series, [np.nan, np.inf]])
    assert statistical_inefficiency([spoilt]) == statistical_inefficiency([series])


def test_scale_and_offset_do_not_matter():
    series = autoregressive(0.7, 3000, series=3, seed=3)
    moved = [4.0 - 2.5 * x for x in series]
    assert statistical_inefficiency(moved) == pytest.approx(statistical_inefficiency(series), rel=1e-9)


def test_frames_needed_for_half_a_per_cent():
    assert frames_needed(0.005, 0.95) == 598


@pytest.mark.parametrize(("acceptance", "confidence"), [(0.005, 0.95), (0.01, 0.99), (0.1, 0.9), (0.5, 0.75)])
def test_frames_needed_is_the_smallest_number_that_suffices(acceptance, confidence):
    needed = frames_needed(acceptance, confidence)
    assert upper_bound(0.0, needed, confidence) < acceptance <= upper_bound(0.0, needed - 1, confidence)


@pytest.mark.parametrize("seen", [0.0005, 0.001, 0.0025, 0.004])
def test_frames_needed_at_an_acceptance_seen_is_the_smallest_number_too(seen):
    needed = frames_needed(0.005, 0.95, seen=seen)
    assert upper_bound(seen, needed, 0.95) < 0.005 <= upper_bound(seen, needed - 1, 0.95)
    assert needed > frames_needed(0.005, 0.95)


def test_no_number_of_frames_shows_that_the_acceptance_is_below_what_is_seen():
    with pytest.raises(ValueError, match="can't be shown"):
        frames_needed(0.005, 0.95, seen=0.005)


@pytest.mark.parametrize(("accepted", "n"), [(0, 10), (0, 598), (1, 50), (3, 600), (30, 40), (99, 100)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_upper_bound_is_clopper_and_pearsons(accepted, n, confidence):
    exact = binomtest(accepted, n, alternative="less").proportion_ci(confidence_level=confidence, method="exact").high
    assert upper_bound(accepted / n, n, confidence) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("accepted", "n"), [(0, 10), (1, 50), (3, 600), (30, 40), (99, 100)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_lower_bound_is_clopper_and_pearsons(accepted, n, confidence):
    exact = binomtest(accepted, n, alternative="greater").proportion_ci(confidence_level=confidence, method="exact").low
    assert lower_bound(accepted / n, n, confidence) == pytest.approx(exact, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("truth", [0.002, 0.01, 0.1])
def test_each_bound_misses_the_truth_no_more_often_than_promised(truth):
    """5 % of 20,000 samples, of which the standard deviation is 0.15 %; discreteness only makes it rarer."""
    accepted = np.random.default_rng(0).binomial(400, truth, size=20_000)
    counts, frequency = np.unique(accepted, return_counts=True)
    missed_above = sum(n for c, n in zip(counts, frequency, strict=True) if upper_bound(c / 400, 400, 0.95) < truth)
    missed_below = sum(n for c, n in zip(counts, frequency, strict=True) if lower_bound(c / 400, 400, 0.95) > truth)
    assert missed_above / 20_000 <= 0.0545
    assert missed_below / 20_000 <= 0.0545


def test_rule_of_three():
    assert upper_bound(0.0, 1000, 0.95) == pytest.approx(3.0 / 1000, rel=0.01)


@pytest.mark.parametrize(("acceptance", "n"), [(0.0, 0.0), (1.0, 10.0), (0.2, -1.0)])
def test_no_evidence_bounds_nothing(acceptance, n):
    assert upper_bound(acceptance, n, 0.95) == 1.0
    assert lower_bound(0.0, n, 0.95) == 0.0


# -- decorrelated frames ----------------------------------------------------------------------------------------


def share_of_candidates(rng, *, slow_share, strides, length, trajectories=16):
    """Candidates and deviations of trajectories whose deviation has a fast part and a slow part, as AR(1) processes."""
    parts = []
    for phi in (0.3, np.exp(-1.0 / strides)):
        noise = np.sqrt(1.0 - phi**2) * rng.normal(size=(trajectories, length))
        parts.append(lfilter([1.0], [1.0, -phi], noise, axis=1, zi=phi * rng.normal(size=(trajectories, 1)))[0])
    x = np.sqrt(1.0 - slow_share) * parts[0] + np.sqrt(slow_share) * parts[1]
    return x > norm.ppf(0.995), 0.05 * np.exp(0.3 * x)


@pytest.mark.parametrize(
    ("slow_share", "strides", "length"),
    [(0.0, 10, 60), (0.4, 10, 240), (0.4, 100, 480), (0.8, 100, 480), (0.6, 1000, 480), (0.8, 1000, 1600)],
)
def test_slow_processes_count(slow_share, strides, length):
    """The variance of the share of candidates over many samples is that of the decorrelated frames, or smaller."""
    rng = np.random.default_rng(1)
    shares, found = [], []
    for number in range(300):
        candidate, deviation = share_of_candidates(rng, slow_share=slow_share, strides=strides, length=length)
        shares.append(candidate.mean())
        if number < 30:
            found.append(decorrelated_frames(list(deviation), list(candidate), lower=0.1, limit=0.005))
    true = 0.005 * 0.995 / np.var(shares)
    assert 0.5 * true < np.median(found) < 1.1 * true


@pytest.mark.parametrize("correlation", [0.02, 0.3, 0.6, 0.9])
def test_a_rarer_property_has_the_correlation_of_a_gaussian_process(correlation):
    """Both shares by the cumulative distribution of two Gaussian values, from SciPy."""

    def of_share(share):
        threshold = norm.ppf(share)  # the lower tail: by symmetry as likely as the upper
        both = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]]).cdf([threshold, threshold])
        return (both - share**2) / (share * (1 - share))

    found = rarer_correlation(np.array([of_share(0.05)]), share=0.05, rarer=0.005)
    assert found[0] == pytest.approx(of_share(0.005), rel=2e-3)


def test_correlations_without_a_rarer_property_stay_as_they_are():
    correlation = np.array([-0.1, 0.0, 0.5, 1.0])
    for share, rarer in ((0.05, 0.05), (0.05, 1.0), (0.0, 0.005)):
        np.testing.assert_array_equal(rarer_correlation(correlation, share=share, rarer=rarer), correlation)
    changed = rarer_correlation(correlation, share=0.05, rarer=0.005)
    assert changed[0] < 0.0 == changed[1]
    assert changed[-1] == 1.0
    near_zero = rarer_correlation(np.array([-1e-4, 1e-4]), share=0.05, rarer=0.005)
    assert near_zero[1] == pytest.approx(-near_zero[0], rel=0.05)  # noise about zero stays noise about zero


def test_candidates_that_come_in_bursts_are_worth_fewer_frames_than_the_deviation_says():
    rng = np.random.default_rng(0)
    deviation = list(rng.normal(size=(4, 3000)))
    bursts = [np.repeat(rng.random(150) < 0.2, 20) for _ in range(4)]
    assert statistical_inefficiency(deviation) == pytest.approx(1.0, abs=0.1)
    assert decorrelated_frames(deviation, bursts) == pytest.approx(4 * 3000 / 20, rel=0.25)


def test_trajectories_that_do_not_move_are_worth_one_frame_each():
    frozen = [np.full(100, 0.08)] * 3
    assert decorrelated_frames(frozen, [np.zeros(100, dtype=bool)] * 3) == 3.0


@pytest.mark.parametrize("trajectories", [[], [np.array([])], [np.array([]), np.array([])]])
def test_no_frames_are_worth_none(trajectories):
    assert decorrelated_frames(trajectories, [np.zeros(len(x), dtype=bool) for x in trajectories]) == 0.0


def test_conformers_that_differ_far_below_the_window_make_no_trajectory_a_single_frame():
    """Levels of 15 to 30 meV/Å with a window from 100: the deviation's changes count. With one from 40, the levels."""
    series = autoregressive(0.5, 2000, series=4, seed=3)
    levels = [0.015, 0.018, 0.022, 0.028]
    deviation = [level + 0.001 * x for x, level in zip(series, levels, strict=True)]
    nothing = [np.zeros(2000, dtype=bool)] * 4
    fast = 8000 / 3.0  # g = (1 + phi) / (1 - phi)
    assert decorrelated_frames(deviation, nothing, lower=0.1) == pytest.approx(fast, rel=0.15)
    assert decorrelated_frames(deviation, nothing, lower=0.04) < 50
    one_trajectorys = [np.ones(2000, dtype=bool), *nothing[1:]]
    assert decorrelated_frames(deviation, one_trajectorys, lower=0.1) < 8


def test_design_effect_of_trajectories_that_differ():
    """The intraclass correlation decides (Kish 1965): 1 + (n - 1) rho."""
    rng = np.random.default_rng(0)
    shares = rng.beta(2.0, 18.0, size=400)  # rho = 1 / (2 + 18 + 1)
    trajectories = [rng.random(100) < share for share in shares]
    assert design_effect(trajectories) == pytest.approx(1 + 99 / 21, rel=0.15)
    assert design_effect([rng.random(100) < 0.1 for _ in range(400)]) == pytest.approx(1.0, abs=0.2)
    assert design_effect([np.ones(5, dtype=bool)]) == design_effect([]) == 1.0


def test_split_r_hat_sees_trajectories_that_differ_or_drift():
    rng = np.random.default_rng(0)
    alike = list(rng.normal(size=(8, 500)))
    assert split_r_hat(alike) == pytest.approx(1.0, abs=0.02)
    assert split_r_hat([series + k for k, series in enumerate(alike)]) > 2.0
    drifting = [series + np.linspace(-2, 2, 500) for series in alike]  # means of -1 and 1, variance 1 + 1/3 within
    assert split_r_hat(drifting) == pytest.approx(np.sqrt(1.0 + 16 / 15 / (4 / 3)), rel=0.03)
    assert np.isnan(split_r_hat([np.ones(3)]))


# -- bounds on a quantile ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "needed"), [(1, 59), (2, 93), (3, 124), (4, 153), (5, 181)])
def test_sizes_are_those_of_wilks(order, needed):
    """Published sizes from which the k-th largest value bounds the 0.95 quantile at 95 % confidence."""
    values = np.arange(needed, dtype=float)
    assert quantile_bound(values, 0.95, 0.95) == needed - order
    fewer = quantile_bound(values[:-1], 0.95, 0.95)
    assert fewer is None if order == 1 else fewer == needed - order  # one order statistic higher


@pytest.mark.parametrize(("quantile", "confidence", "needed"), [(0.9, 0.95, 29), (0.95, 0.99, 90), (0.99, 0.95, 299)])
def test_the_largest_value_bounds_other_quantiles(quantile, confidence, needed):
    assert quantile_bound(np.arange(needed, dtype=float), quantile, confidence) == needed - 1
    assert quantile_bound(np.arange(needed - 1, dtype=float), quantile, confidence) is None
    assert quantile_bound(np.empty(0), quantile, confidence) is None


@pytest.mark.parametrize("sizes", [(60,), (150,), (15, 15, 15, 15), (75, 75)])
def test_a_bound_on_a_quantile_holds_as_often_as_it_says(sizes):
    """Also for equal numbers from several distributions, and the quantile of their mixture."""
    rng = np.random.default_rng(1)
    scales = np.exp(0.4 * np.arange(len(sizes)))
    true = np.quantile(np.concatenate([rng.lognormal(size=400_000) * scale for scale in scales]), 0.95)
    held = [
        quantile_bound(
            np.concatenate([rng.lognormal(size=n) * s for n, s in zip(sizes, scales, strict=True)]), 0.95, 0.95
        )
        >= true
        for _ in range(2000)
    ]
    assert binomtest(sum(held), len(held), 0.95, alternative="less").pvalue > 1e-3
    assert np.mean(held) < 0.995  # and it is no looser than it must be


@pytest.mark.parametrize("repeated", [False, True])
def test_ranks_and_robust_lines_are_scipys(repeated):
    x, y = np.random.default_rng(3).normal(size=(2, 101))
    if repeated:
        x, y = np.round(x, 1), np.round(y, 1)
    y += 0.3 * x
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    theirs = theilslopes(y, x)
    assert theil_sen_line(x, y) == pytest.approx((theirs.slope, theirs.intercept), abs=1e-12)


def test_the_robust_line_of_many_points_is_that_of_a_sample():
    x, noise = np.random.default_rng(4).normal(size=(2, 50_000))
    slope, intercept = theil_sen_line(x, 0.5 * x + 2.0 + 0.1 * noise)
    assert slope == pytest.approx(0.5, abs=0.02)
    assert intercept == pytest.approx(2.0, abs=0.02)
