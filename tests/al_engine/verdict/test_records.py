"""Records: sums over temperatures, JSON, and the summary of sampled frames."""

import json

import numpy as np
import pytest
from scipy.signal import lfilter

from al_engine.committee.calibration import Agreement, Calibration, Spread
from al_engine.committee.health import CommitteeHealth
from al_engine.config import StatePoint
from al_engine.selection.fates import Counts, Fate
from al_engine.selection.window import Window
from al_engine.statistics import upper_bound
from al_engine.verdict.records import (
    IterationRecord,
    TemperatureRecord,
    Trajectory,
    decorrelated_over,
    pooled,
    temperature_record,
)

SPREAD = Spread(low=0.9, typical=1.4, high=2.1)
FULL = {
    "steps": 600,
    "window": Window(100.0, 300.0),
    "calibration": Calibration(
        test=Agreement(frames=40, error_over_deviation=SPREAD, member_error_over_deviation=1.8, rank_correlation=0.6),
        new=None,
        lower_means=SPREAD.times(100.0),
        upper_means=None,
        suggested_lower=45.0,
    ),
    "health": CommitteeHealth(
        frames=43,
        error_over_spread=1.2,
        member_error_mev_per_ang=(14.0, 16.0, None),
        member_error_ratio=(0.9, 1.1, None),
        deviation_without=(0.7, 1.0, None),
        identical=((0, 1),),
        rogue=2,
    ),
    "warnings": ("members 0 and 1 are nearly identical",),
}


@pytest.mark.parametrize("others", [{}, FULL])
def test_json_round_trip(others, make_record):
    record = make_record(3, **others, counts=((90, 8, 2), (70, 20, 10)), decorrelated=33.3, stopped=1)
    assert IterationRecord.from_json(record.to_json()) == record


def test_a_record_without_labels_round_trips(make_record):
    data = make_record().to_json().replace("55.5", "null")
    record = IterationRecord.from_json(data)
    assert record.error_before_training_mev_per_ang is None
    assert record.to_json() == data


def test_errors_that_are_no_numbers_are_stored_as_null(make_record):
    """A model that diverged must not keep an iteration from being written down."""
    data = json.loads(make_record().to_json())
    broken = IterationRecord(**{**FULL, **_flat(make_record()), "test_force_mae_mev_per_ang": float("nan")})
    stored = json.loads(broken.to_json())
    assert stored["test_force_mae_mev_per_ang"] is None
    assert stored["dataset_size"] == data["dataset_size"]
    assert IterationRecord.from_json(broken.to_json()).test_force_mae_mev_per_ang is None
    json.dumps(broken.summary()["temperatures"], allow_nan=False)


def _flat(record):
    return {name: getattr(record, name) for name in record.__slots__ if getattr(record, name) is not None}


def test_a_record_of_an_older_version_is_read(make_record):
    data = json.loads(make_record().to_json())
    for name in FULL:
        del data[name]
    record = IterationRecord.from_json(json.dumps(data))
    assert (record.steps, record.window, record.calibration, record.health) == (None, None, None, None)
    assert record.warnings == ()


def test_totals_are_sums_over_temperatures(make_record):
    record = make_record(counts=((90, 8, 2), (70, 20, 10)), decorrelated=40.0, replicas=4, stopped=1)
    assert record.counts == Counts(sampled=200, accurate=160, candidate=28, rejected=12)
    assert record.decorrelated == pytest.approx(40.0)
    assert record.stopped_share == 0.25


def test_summary_has_the_names_of_status_json_and_the_count_identity(make_record):
    summary = make_record(2, counts=((90, 8, 2), (70, 20, 10)), stopped=1, labelled=25, label_failures=3).summary()
    assert summary["sampled"] == summary["accurate"] + summary["candidate"] + summary["rejected"] == 200
    assert summary["acceptance"] == 0.14
    assert summary["stopped_trajectories"] == 2
    assert {
        "iteration", "labelled", "label_failures", "dataset_size", "error_before_training_mev_per_ang",
        "test_force_mae_mev_per_ang", "test_energy_mae_mev_per_atom", "decorrelated",
    } <= set(summary)  # fmt: skip


def test_the_summary_is_json(make_record):
    summary = make_record(2, counts=((90, 8, 2), (70, 20, 10)), **FULL).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == json.loads(json.dumps(summary))
    assert [t["acceptance"] for t in summary["temperatures"]] == [0.08, 0.2]
    assert summary["calibration"]["lower_means"]["typical"] == pytest.approx(140.0)
    assert summary["warnings"] == list(FULL["warnings"])


def test_iterations_taken_together(make_record):
    first = make_record(0, counts=((90, 8, 2), (70, 20, 10)), decorrelated=40.0, stopped=1)
    second = make_record(1, counts=((100, 0, 0), (90, 10, 0)), decorrelated=40.0)
    cold, hot = pooled([first, second])
    assert cold.counts == Counts(sampled=200, accurate=190, candidate=8, rejected=2)
    assert hot.counts == Counts(sampled=200, accurate=160, candidate=30, rejected=10)
    assert (cold.decorrelated, hot.decorrelated) == (pytest.approx(40.0), pytest.approx(40.0))
    assert (cold.replicas, cold.stopped, cold.stopped_share()) == (16, 1, 1 / 16)


def _stratum(sampled, candidates, inefficiency):
    counts = Counts(sampled=sampled, accurate=sampled - candidates, candidate=candidates, rejected=0)
    return TemperatureRecord(300.0, counts, sampled / inefficiency, 8, 0)


def test_strata_of_one_inefficiency_are_worth_the_sum_of_theirs():
    strata = [_stratum(480, c, 2.5) for c in (0, 3, 9)]
    assert decorrelated_over(strata) == pytest.approx(3 * 480 / 2.5)
    assert decorrelated_over(strata[:1]) == pytest.approx(strata[0].decorrelated)
    assert decorrelated_over([]) == 0.0


def test_the_bound_over_temperatures_of_unlike_correlation_holds():
    """Candidates come in blocks of g equal frames, most of them where g is largest. The plain sum of decorrelated
    frames would miss the truth in 14 % of the cases; 2,000 cases have a standard deviation of 0.5 %."""
    rng = np.random.default_rng(0)
    inefficiency, acceptance, frames = np.array([1, 2, 3, 6]), np.array([0.0, 0.0005, 0.003, 0.0165]), 1920
    missed = missed_by_sum = 0
    for _ in range(2000):
        candidates = inefficiency * rng.binomial(frames // inefficiency, acceptance)
        strata = [_stratum(frames, int(c), int(g)) for c, g in zip(candidates, inefficiency, strict=True)]
        seen = candidates.sum() / (4 * frames)
        missed += upper_bound(seen, decorrelated_over(strata), 0.95) < acceptance.mean()
        missed_by_sum += upper_bound(seen, sum(s.decorrelated for s in strata), 0.95) < acceptance.mean()
    assert missed / 2000 <= 0.06
    assert missed_by_sum / 2000 > 0.10


def test_an_iteration_without_frames_divides_by_nothing(make_record):
    record = make_record(counts=((0, 0, 0),), replicas=0, decorrelated=0.0)
    assert (record.counts.acceptance, record.stopped_share) == (0.0, 0.0)


def test_the_trajectories_of_one_temperature_are_summarised():
    """Beside counts and decorrelated frames: how many trajectories there are, how long, and how alike."""
    phi, replicas, n = 0.9, 6, 3000
    noise = np.random.default_rng(0).normal(size=(replicas, n))
    series = 0.02 + 0.001 * lfilter([1.0], [1.0, -phi], noise, axis=1)
    fates = np.full((replicas, n), Fate.ACCURATE, dtype=np.int8)
    fates[2, 1000], fates[2, 2000] = Fate.OVER_CAP, Fate.LABELLED
    fates[3, :10] = Fate.REJECTED
    trajectories = [Trajectory(deviation, fate) for deviation, fate in zip(series, fates, strict=True)]
    record = temperature_record(
        StatePoint("", 700.0), trajectories, replicas=replicas, stopped=2, lower=0.1, limit=0.005, stride_ps=0.01
    )
    assert record.counts == Counts(sampled=18_000, accurate=17_988, candidate=2, rejected=10)
    # far below the window: (1 - phi) / (1 + phi) per frame; a tenth is one standard deviation of the estimate here
    assert record.decorrelated == pytest.approx(18_000 * (1 - phi) / (1 + phi), rel=0.3)
    assert (record.temperature_kelvin, record.replicas, record.stopped) == (700.0, 6, 2)
    seen = record.seen
    assert (seen.trajectories, seen.with_candidate) == (6, 1)
    assert seen.picoseconds == pytest.approx(30.0)
    assert seen.r_hat == pytest.approx(1.0, abs=0.03)


def test_nothing_sampled_is_no_evidence():
    empty = [Trajectory(np.empty(0), np.empty(0, dtype=np.int8))]
    record = temperature_record(
        StatePoint("", 300.0), empty, replicas=1, stopped=1, lower=0.1, limit=0.005, stride_ps=0.01
    )
    assert (record.counts.sampled, record.decorrelated, record.seen.trajectories) == (0, 0.0, 0)
    assert record.bounds(0.95) == (0.0, 1.0)
