"""The audit: frames drawn uniformly, what their errors say, and what the verdict makes of it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from al_engine.config import SamplingConfig, SelectionConfig, StatePoint, StopConfig
from al_engine.verdict.audit_labels import AuditResult, audited_frames, drawn
from al_engine.verdict.evidence import judged_together, missing_evidence
from al_engine.verdict.records import IterationRecord, pooled
from al_engine.verdict.sampling_plan import sampling_plan
from al_engine.verdict.verdict import VerdictKind, awaits_audit, judge

STOP, SELECTION = StopConfig(verdicts=5), SelectionConfig()
LOWER = 0.1
KELVINS = (300.0, 500.0, 700.0, 900.0)


def result(errors, *, iteration=1, failures=0, cut=False, **rule) -> AuditResult:
    """The result of an audit with these errors at each temperature, eV/Å."""
    confidence = rule.get("confidence", 0.95)
    temperatures = tuple(
        audited_frames(np.asarray(own), lower=LOWER, confidence=confidence, point=StatePoint("", kelvin))
        for own, kelvin in zip(errors, KELVINS, strict=False)
    )
    return AuditResult(
        iteration=iteration,
        iterations=(0, 1),
        requested=60,
        reference="GFN2-xTB",
        cut=cut,
        lower_mev_per_ang=1e3 * LOWER,
        max_bad_share=rule.get("max_bad_share", 0.05),
        confidence=confidence,
        temperatures=temperatures,
        overall=audited_frames(np.concatenate(errors), lower=LOWER, confidence=confidence),
        label_failures=failures,
        failure_words="`time_limit`: too long" if failures else "",
    )


def errors_with(*bad, each=15):
    """Errors of 10 to 90 meV/Å at each temperature, with some of 150 meV/Å."""
    found = [np.linspace(0.01, 0.09, each) for _ in bad]
    for own, number in zip(found, bad, strict=True):
        own[:number] = 0.15
    return found


# -- the draw ---------------------------------------------------------------------------------------------------


def test_every_frame_of_a_temperature_is_as_likely_as_any_other():
    rng = np.random.default_rng(3)
    hits = [np.zeros(50), np.zeros(8)]
    trials = 4000
    for _ in range(trials):
        for counts, numbers in zip(hits, drawn([50, 8], 10, rng), strict=True):
            counts[numbers] += 1
    for counts in hits:
        size, expected = len(counts), trials * 5 / len(counts)
        # Without replacement the counts vary less than those of independent draws.
        statistic = np.sum((counts - expected) ** 2) / expected * (size - 1) / (size - 5)
        assert chi2.sf(statistic, size - 1) > 1e-3


def test_each_temperature_gives_the_same_number_and_no_frame_twice():
    numbers = drawn([100, 1000, 7, 40], 50, np.random.default_rng(0))
    assert [len(own) for own in numbers] == [13, 13, 7, 13]
    assert all((np.diff(own) > 0).all() for own in numbers)
    assert [len(own) for own in drawn([0, 5], 4, np.random.default_rng(0))] == [0, 2]


# -- the result -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "passed"),
    [
        ((0, 0, 0, 0), True),
        ((1, 1, 1, 0), True),  # 3 of 60 are 5 %
        ((1, 1, 1, 1), False),
        ((0, 0, 0, 3), False),  # significant at one temperature
    ],
)
def test_an_audit_is_passed_if_few_frames_are_bad(bad, passed):
    found = result(errors_with(*bad))
    assert (found.passed, found.joins) == (passed, not passed)
    assert (found.shortcomings() == []) == passed
    assert AuditResult.from_json(found.to_json()) == found


def test_the_words_of_a_passed_audit():
    words = result(errors_with(0, 1, 0, 0)).statement(0.998)
    for part in (
        "1 of 60 accurate frames",
        "above 100 meV/Å",
        "500 K: 1 of 15 above it, largest 150 meV/Å",
        "at 95% confidence, 95% of the accurate frames from this dynamics (99.80% of all frames)",
        "have forces within 150 meV/Å of GFN2-xTB on every atom",
    ):
        assert part in words
    assert "atoms that stand for the box" in result(errors_with(0, 0), cut=True).claim()


def test_the_words_of_a_failed_audit():
    (overall,) = result(errors_with(1, 2, 2, 2)).shortcomings()
    assert overall.startswith("7 of 60 audited accurate frames of iteration 1")
    (hottest,) = result(errors_with(0, 0, 0, 3)).shortcomings()
    assert hottest.startswith("3 of 15 audited accurate frames at 900 K of iteration 1")


def test_failed_labels_are_told_and_are_not_bad():
    found = result(errors_with(0, 0, 0, 0), failures=2)
    assert found.passed
    assert "; 2 audit labels failed, `time_limit`: too long" in found.statement()


def test_no_labels_pass_nothing():
    found = result([[], []], failures=60)
    assert not found.passed
    assert "no accurate frame of iteration 1 was labelled" in found.shortcomings()[0]
    assert found.statement() == found.shortcomings()[0]


def test_too_few_labels_give_a_quantile_and_no_bound():
    found = result(errors_with(0, 0, each=29))
    assert found.overall.bound_mev_per_ang is None
    assert "too few labels for a bound" in found.claim()
    assert result(errors_with(0, 0, each=30)).overall.bound_mev_per_ang == pytest.approx(90.0)


def test_an_error_that_is_not_finite_is_bad():
    frames = audited_frames(np.array([0.05] * 9 + [math.nan]), lower=LOWER, confidence=0.95)
    assert (frames.labelled, frames.bad) == (10, 1)
    assert (frames.quantile_mev_per_ang, frames.largest_mev_per_ang) == (None, None)
    unknown = result([np.array([0.05] * 50 + [math.nan] * 10)], max_bad_share=0.5)
    assert "an error is not finite" in unknown.claim()
    assert AuditResult.from_json(unknown.to_json()) == unknown


def test_a_failed_label_counts_as_an_infinite_error():
    """The frames that the reference method cannot label are not a random sample of the accurate frames."""
    good = np.full(60, 0.05)
    few = audited_frames(good, lower=LOWER, confidence=0.95, failed=3)
    assert (few.labelled, few.bad, few.failed, few.bad_share) == (60, 0, 3, pytest.approx(3 / 63))
    assert (few.bound_mev_per_ang, few.quantile_mev_per_ang) == (None, pytest.approx(50.0))
    for failed, passed in ((3, True), (4, False), (15, False)):
        overall = audited_frames(good, lower=LOWER, confidence=0.95, failed=failed)
        found = replace(result([good], failures=failed), overall=overall)
        assert found.passed is passed
        assert found.joins is not passed
        assert f"{failed} audit labels failed, which count as above it" in found.statement()
        assert AuditResult.from_json(found.to_json()) == found
    assert "failed" not in json.loads(result([good]).to_json())["overall"]
    assert audited_frames(good, lower=LOWER, confidence=0.95).bound_mev_per_ang == pytest.approx(50.0)


def test_the_quantile_counts_frames():
    """95 % of 60 frames are 57: it is below the lower end if at most 3 are above it."""
    frames = audited_frames(np.arange(1, 61) / 600, lower=0.095, confidence=0.95)
    assert (frames.bad, frames.quantile_mev_per_ang) == (3, pytest.approx(95.0))


# -- the verdict ------------------------------------------------------------------------------------------------


@pytest.fixture
def low(make_record):
    """An iteration that needs nothing but an audit; `bad` frames of its audit at each temperature."""

    def make(iteration, bad=None, **options):
        audit = None if bad is None else result(errors_with(*bad), iteration=iteration)
        return make_record(iteration, steps=600, audit=audit, **options)

    return make


GOOD, BAD = (0, 0, 0, 0), (2, 2, 2, 2)


def missing(history, stop=STOP):
    return missing_evidence(history, pooled(judged_together(history, stop)), stop, SELECTION)


def verdict_of(history, stop=STOP, max_failed_share=0.2):
    return judge(history, stop, selection=SELECTION, max_failed_share=max_failed_share)


def test_a_campaign_waits_for_its_audit_alone(low, make_record):
    assert awaits_audit([low(0), low(1)], STOP, selection=SELECTION, max_failed_share=0.2)
    assert missing([low(0), low(1)]) == ["no audit labels of iteration 1"]
    assert verdict_of([low(0), low(1)]) is None
    busy = make_record(1, counts=((800, 180, 20),))
    for history in ([], [low(0)], [low(0), busy], [low(0), low(1, GOOD)], [low(0), low(1, BAD)]):
        assert not awaits_audit(history, STOP, selection=SELECTION, max_failed_share=0.2)
    assert not awaits_audit([low(0), low(1)], StopConfig(audit_labels=0), selection=SELECTION, max_failed_share=0.2)


def test_a_passed_audit_is_part_of_the_proof(low):
    verdict = verdict_of([low(0), low(1, GOOD)])
    assert verdict.kind is VerdictKind.CONVERGED
    assert "0 of 60 accurate frames" in verdict.evidence
    assert "95% of the accurate frames from this dynamics (100.00% of all frames)" in verdict.evidence
    unaudited = verdict_of([low(0), low(1)], StopConfig(audit_labels=0))
    assert "no accurate frame was audited (stop.audit_labels: 0)" in unaudited.evidence


def test_a_failed_audit_goes_on_and_says_so(low):
    history = [low(0), low(1, BAD)]
    assert verdict_of(history) is None
    assert missing(history) == result(errors_with(*BAD), iteration=1).shortcomings()
    verdict = verdict_of(history, StopConfig(max_iterations=2))
    assert verdict.kind is VerdictKind.MAX_ITERATIONS
    assert "8 of 60 audited accurate frames" in verdict.evidence


def test_iterations_up_to_a_failed_audit_do_not_count_again(low):
    failed = [low(0), low(1, BAD)]
    assert [record.iteration for record in judged_together(failed, STOP)] == [0, 1]
    history = [*failed, low(2, GOOD)]
    assert [record.iteration for record in judged_together(history, STOP)] == [2]
    assert missing(history) == ["1 of 2 iterations in a row"]
    again = [*failed, low(2), low(3, GOOD)]
    assert [record.iteration for record in judged_together(again, STOP)] == [2, 3]
    assert verdict_of(again).kind is VerdictKind.CONVERGED


def test_a_passed_audit_ends_no_row(low):
    """As when the rules became stricter: the evidence goes on."""
    assert [record.iteration for record in judged_together([low(1), low(2, GOOD), low(3)], STOP)] == [1, 2, 3]


def test_after_a_failed_audit_sampling_begins_as_configured(low):
    sampling = SamplingConfig(replicas=16, steps=600, stride_steps=20)

    def steps(*history):
        judged = pooled(judged_together(history, STOP))
        return sampling_plan(history, judged, sampling, STOP, StatePoint("", 300.0), points=[]).steps

    few = {"decorrelated": 300.0}
    assert steps(low(0, **few), low(1, BAD, **few)) == 600
    gathered = steps(low(0, **few), low(1, BAD, **few), low(2, **few))
    assert gathered == steps(low(2, **few)) > 600


def test_too_many_failed_audit_labels_are_a_verdict(low, make_record):
    failing = make_record(1, audit=result(errors_with(0, 0, each=20), failures=20))
    verdict = verdict_of([low(0), failing])
    assert verdict.kind is VerdictKind.FAILED
    assert "20 of 60 labels failed in the audit of iteration 1" in verdict.evidence
    assert "--retry-failed-labels" in verdict.evidence


def test_audit_labels_are_paid_for(low):
    history = [low(0), low(1, BAD)]
    assert verdict_of(history, StopConfig(max_labels=81)) is None
    assert verdict_of(history, StopConfig(max_labels=80)).kind is VerdictKind.BUDGET


def test_the_record_is_stored_without_its_audit(low):
    record = low(1, GOOD)
    assert IterationRecord.from_json(record.to_json()).audit is None
    assert record.summary()["audit"]["passed"]
