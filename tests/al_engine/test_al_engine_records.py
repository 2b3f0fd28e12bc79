"""Records: sums over temperatures, JSON, and the summary of sampled frames."""

import numpy as np
import pytest
from scipy.signal import lfilter

from al_engine.records import IterationRecord, temperature_record
from al_engine.selection import Counts, Fate
from al_engine.statistics import statistical_inefficiency


def test_json_round_trip(make_record):
    record = make_record(3, counts=((90, 8, 2), (70, 20, 10)), decorrelated=33.3, stopped=1)
    assert IterationRecord.from_json(record.to_json()) == record


def test_a_record_without_labels_round_trips(make_record):
    data = make_record().to_json().replace("55.5", "null")
    record = IterationRecord.from_json(data)
    assert record.error_before_training_mev_per_ang is None
    assert record.to_json() == data


def test_totals_are_sums_over_temperatures(make_record):
    record = make_record(counts=((90, 8, 2), (70, 20, 10)), decorrelated=40.0, replicas=4, stopped=1)
    assert record.counts == Counts(sampled=200, accurate=160, candidate=28, rejected=12)
    assert record.decorrelated == pytest.approx(40.0)
    assert record.stopped_share == 0.25
    assert record.worst_temperature.temperature_kelvin == 500.0


def test_summary_has_the_names_of_status_json_and_the_count_identity(make_record):
    summary = make_record(2, counts=((90, 8, 2), (70, 20, 10)), stopped=1, labelled=25, label_failures=3).summary()
    assert summary["sampled"] == summary["accurate"] + summary["candidate"] + summary["rejected"] == 200
    assert summary["acceptance"] == 0.14
    assert summary["stopped_trajectories"] == 2
    assert {
        "iteration", "labelled", "label_failures", "dataset_size", "error_before_training_mev_per_ang",
        "test_force_mae_mev_per_ang", "test_energy_mae_mev_per_atom", "decorrelated",
    } <= set(summary)  # fmt: skip


def test_an_iteration_without_frames_divides_by_nothing(make_record):
    record = make_record(counts=((0, 0, 0),), replicas=0, decorrelated=0.0)
    assert (record.counts.acceptance, record.stopped_share) == (0.0, 0.0)


def test_frames_of_one_temperature_are_summarised_by_trajectory():
    """Frames of the replicas interleaved, as a batch gives them: time runs within each replica."""
    phi, replicas, n = 0.9, 6, 3000
    noise = np.random.default_rng(0).normal(size=(replicas, n))
    series = 0.2 + 0.01 * lfilter([1.0], [1.0, -phi], noise, axis=1)
    fates = np.full(replicas * n, Fate.ACCURATE, dtype=np.int8)
    fates[:30] = Fate.OVER_CAP
    fates[30:40] = Fate.REJECTED
    record = temperature_record(
        700.0,
        fates=fates,
        deviation=series.T.ravel(),
        replica=np.tile(np.arange(replicas), n),
        replicas=replicas,
        stopped=2,
    )
    assert record.counts == Counts(sampled=18_000, accurate=17_960, candidate=30, rejected=10)
    assert record.decorrelated == pytest.approx(18_000 / statistical_inefficiency(list(series)), rel=1e-12)
    # (1 - phi) / (1 + phi) per frame; a tenth is one standard deviation of the estimate here
    assert record.decorrelated == pytest.approx(18_000 * (1 - phi) / (1 + phi), rel=0.3)
    assert (record.temperature_kelvin, record.replicas, record.stopped) == (700.0, 6, 2)
