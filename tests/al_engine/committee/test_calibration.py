"""Calibration: made-up Gaussian committees whose scale is known, selected by their deviation as a campaign selects."""

import numpy as np
import pytest
from scipy import stats

from al_engine.committee.calibration import (
    LEAST_FRAMES,
    Calibration,
    ScoredFrames,
    agreement,
    calibrate,
    calibration_warnings,
    error_line,
)

LOWER, UPPER = 0.1, 0.3


def frames(
    count: int, seed: int, *, scale: float = 1.3, power: float = 1.0, scatter: float = 0.4, typical: float = 0.05
):
    """Deviations about a typical one (eV/Å), and errors of `scale` x deviation^power with a lognormal scatter."""
    rng = np.random.default_rng(seed)
    deviation = typical * rng.lognormal(0.0, 0.6, count)
    error = scale * deviation**power * rng.lognormal(0.0, scatter, count)
    return ScoredFrames(deviation, error, 1.2 * error)


def in_window(scored: ScoredFrames) -> ScoredFrames:
    return scored.where((scored.deviation >= LOWER) & (scored.deviation <= UPPER))


def calibrated(test: ScoredFrames, new: ScoredFrames) -> Calibration:
    return calibrate(test, new, lower_mev_per_ang=1e3 * LOWER, upper_mev_per_ang=1e3 * UPPER)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_scale_of_a_committee_is_found(scale):
    """Median of F lognormal ratios: standard error about 1.25 x 0.4 / sqrt(F)."""
    found = agreement(frames(400, seed=0, scale=scale))
    assert found.frames == 400
    assert found.error_over_deviation.typical == pytest.approx(scale, rel=0.08)
    assert found.error_over_deviation.low == pytest.approx(scale * np.exp(-0.4), rel=0.1)
    assert found.error_over_deviation.high == pytest.approx(scale * np.exp(0.4), rel=0.1)
    assert found.member_error_over_deviation == pytest.approx(1.2 * found.error_over_deviation.typical)


def test_rank_correlation_is_spearmans():
    scored = frames(60, seed=1)
    rank = stats.rankdata
    by_hand = np.corrcoef(rank(scored.deviation), rank(scored.error))[0, 1]
    assert agreement(scored).rank_correlation == pytest.approx(by_hand)


def test_rank_correlation_does_not_ask_for_units_or_scale():
    scored = frames(60, seed=1)
    bent = ScoredFrames(scored.deviation**2, np.log1p(7.0 * scored.error), scored.member_error)
    assert agreement(bent).rank_correlation == pytest.approx(agreement(scored).rank_correlation)


@pytest.mark.parametrize("power", [0.6, 1.0, 1.4])
def test_the_line_is_the_law_behind_the_frames(power):
    line = error_line(frames(600, seed=2, scale=2.0, power=power))
    assert line.slope == pytest.approx(power, abs=0.12)
    for deviation in (0.03, 0.1):
        assert line.error_at(deviation).typical == pytest.approx(2.0 * deviation**power, rel=0.1)
        assert line.deviation_at(line.error_at(deviation).typical) == pytest.approx(deviation)


def test_a_few_odd_frames_do_not_bend_the_line():
    good = frames(100, seed=3)
    odd = ScoredFrames(np.array([0.02, 0.02, 0.5]), np.array([50.0, 80.0, 1e-4]), np.ones(3))
    plain, bent = error_line(good), error_line(good + odd)
    assert bent.error_at(LOWER).typical == pytest.approx(plain.error_at(LOWER).typical, rel=0.1)


def test_selection_by_deviation_leaves_the_error_at_a_deviation_but_not_the_rank_correlation():
    """What the docstring of the module says of new labels."""
    everything = frames(1500, seed=4)
    chosen = in_window(everything)
    assert len(chosen) > 100
    assert error_line(chosen).error_at(0.15).typical == pytest.approx(
        error_line(everything).error_at(0.15).typical, rel=0.1
    )
    assert agreement(chosen).rank_correlation < agreement(everything).rank_correlation - 0.2


def test_thresholds_are_restated_in_units_of_true_error():
    """At a deviation x the error is lognormal about 1.3 x: two in three within a factor exp(0.4)."""
    found = calibrated(frames(150, seed=5), in_window(frames(2000, seed=6)))
    assert found.lower_means.typical == pytest.approx(130.0, rel=0.12)
    assert found.lower_means.low == pytest.approx(130.0 * np.exp(-0.4), rel=0.15)
    assert found.lower_means.high == pytest.approx(130.0 * np.exp(0.4), rel=0.15)
    assert found.upper_means.typical == pytest.approx(390.0, rel=0.2)
    assert found.suggested_lower is None
    assert calibration_warnings(found, lower_mev_per_ang=100.0) == []


@pytest.mark.parametrize("scale", [0.35, 3.0])
def test_a_threshold_that_is_off_comes_with_the_one_that_would_not_be(scale):
    """At 1/scale times the threshold the typical error is what the threshold says, where labels are near."""
    found = calibrated(frames(150, seed=7, scale=scale, typical=0.07), in_window(frames(800, seed=8, scale=scale)))
    assert found.suggested_lower == pytest.approx(100.0 / scale, rel=0.2)
    (warning,) = calibration_warnings(found, lower_mev_per_ang=100.0)
    assert "a deviation of 100 meV/Å meant a true error of" in warning
    assert f"about {found.suggested_lower:g}" in warning


def test_nothing_is_said_of_thresholds_where_no_label_is_near():
    found = calibrated(frames(100, seed=9, typical=0.004), frames(0, seed=0))
    assert (found.lower_means, found.upper_means, found.suggested_lower) == (None, None, None)
    assert found.test.frames == 100
    assert found.new is None


def test_a_suggestion_far_from_all_labels_is_not_made():
    """The line would have to be drawn on to a tenth of the smallest deviation seen."""
    deviation = np.linspace(0.09, 0.3, 60)
    found = calibrated(ScoredFrames(deviation, 40.0 * deviation, deviation), frames(0, seed=0))
    assert found.lower_means.typical == pytest.approx(4000.0, rel=0.01)
    assert found.suggested_lower is None


@pytest.mark.parametrize("count", [0, 1, LEAST_FRAMES - 1])
def test_too_few_frames_say_nothing(count):
    scored = frames(count, seed=0)
    assert agreement(scored) is None
    assert error_line(scored) is None


def test_frames_without_a_number_or_an_error_are_left_out():
    scored = frames(50, seed=10)
    spoilt = scored + ScoredFrames(np.array([np.nan, 0.1, 0.0]), np.array([0.1, np.inf, 0.1]), np.ones(3))
    assert agreement(spoilt) == agreement(scored)
    assert error_line(spoilt) == error_line(scored)


def test_a_deviation_that_ranks_nothing_is_named():
    rng = np.random.default_rng(11)
    unrelated = ScoredFrames(rng.uniform(0.05, 0.2, 200), rng.uniform(0.05, 0.2, 200), np.ones(200))
    (warning,) = calibration_warnings(calibrated(unrelated, frames(0, seed=0)), lower_mev_per_ang=100.0)
    assert "rank correlation" in warning


def test_one_deviation_for_all_frames_is_no_crash():
    constant = ScoredFrames(np.full(20, 0.1), np.linspace(0.05, 0.2, 20), np.ones(20))
    found = calibrated(constant, frames(0, seed=0))
    assert found.test.rank_correlation is None
    assert found.lower_means is None
    assert calibration_warnings(found, lower_mev_per_ang=100.0) == []


def test_healthy_calibrations_are_rarely_warned_of():
    """Scale 1.3, as committees of four show, and 40 test frames: at most 1 in 50 campaigns sees a warning."""
    warned = 0
    for seed in range(200):
        found = calibrated(frames(40, seed=seed), in_window(frames(400, seed=1000 + seed)))
        warned += bool(calibration_warnings(found, lower_mev_per_ang=100.0))
    assert warned <= 4
