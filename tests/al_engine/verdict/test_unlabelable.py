"""Candidates that bring no label: how many they are, why, and what the verdict says of them."""

from dataclasses import replace

import numpy as np
import pytest

from al_engine.config import SelectionConfig, StatePoint, StopConfig
from al_engine.selection.fates import CANDIDATE_FATES, UNLABELABLE_FATES, Fate, count
from al_engine.verdict.evidence import missing_evidence
from al_engine.verdict.records import IterationRecord, TemperatureRecord, Trajectory, pooled, temperature_record
from al_engine.verdict.unlabelable import mostly_without_label, without_label
from al_engine.verdict.verdict import VerdictKind, judge

SELECTION = SelectionConfig()
DISSOCIATES = "the system dissociates at 900 K, with bonds longer than 2.5 times their equilibrium length"


def at(kelvin, *, accurate=200, rejected=0, **candidates):
    """A temperature with accurate and rejected frames, and numbers of candidates by fate."""
    numbers = {"accurate": accurate, "rejected": rejected, **candidates}
    fates = np.concatenate([np.full(number, Fate[name.upper()], dtype=np.int8) for name, number in numbers.items()])
    deviation = np.where(fates == Fate.ACCURATE, 0.05, 0.15)
    trajectories = [Trajectory(deviation[k::8], fates[k::8]) for k in range(8)]
    return temperature_record(
        StatePoint("", kelvin), trajectories, replicas=8, stopped=0, lower=0.1, limit=0.005, stride_ps=0.01
    )


def iteration(number, *temperatures, labelled=0):
    return IterationRecord(number, temperatures, labelled, 0, 100, 50.0, 20.0, 1.0)


def dissociating(iterations, **hot):
    """At 300 K the committee learns its last frames in iteration 0; at 900 K a bond breaks in every iteration."""
    hot = hot or {"fragmented": 60}
    return [
        iteration(k, at(300.0, labelled=5 if k == 0 else 0), at(900.0, **hot), labelled=5 if k == 0 else 0)
        for k in range(iterations)
    ]


def test_a_system_that_dissociates_stalls_with_a_verdict_that_says_so():
    history = dissociating(5)
    verdicts = [judge(history[: n + 1], StopConfig(), selection=SELECTION, max_failed_share=0.2) for n in range(5)]
    assert verdicts[:4] == [None] * 4
    assert verdicts[4].kind is VerdictKind.STALLED
    assert "no new label in the last 4 iterations" in verdicts[4].evidence
    assert "240 of 240 candidates can never be labelled (240 fragmented)" in verdicts[4].evidence
    assert DISSOCIATES in verdicts[4].evidence
    assert "selection.max_bond_factor" in verdicts[4].evidence
    assert len(verdicts[4].evidence) < 400


@pytest.mark.parametrize(
    ("stop", "kind"),
    [
        (StopConfig(max_iterations=3), VerdictKind.MAX_ITERATIONS),
        (StopConfig(max_labels=5), VerdictKind.BUDGET),
        (StopConfig(stall_iterations=2), VerdictKind.STALLED),
    ],
)
def test_whichever_rule_ends_it_the_reason_is_stated_once(stop, kind):
    verdict = judge(dissociating(3), stop, selection=SELECTION, max_failed_share=0.2)
    assert verdict.kind is kind
    assert verdict.evidence.count(DISSOCIATES) == 1


def test_progress_by_labels_is_judged_as_before():
    """The share of accurate frames still rises: the campaign goes on, whatever most candidates are."""
    history = [iteration(k, at(900.0, labelled=4, fragmented=60 - 5 * k), labelled=4) for k in range(6)]
    assert judge(history, StopConfig(), selection=SELECTION, max_failed_share=0.2) is None


def test_the_value_in_the_message_is_the_campaigns():
    text = without_label([at(900.0, fragmented=9)], SelectionConfig(max_bond_factor=1.75))
    assert "longer than 1.75 times" in text


def test_the_acceptance_counts_all_candidates_alike():
    for fate in CANDIDATE_FATES:
        record = at(300.0, accurate=90, **{fate.name.lower(): 10})
        assert record.counts.acceptance == 0.1
        assert record.candidate_fates == {fate.name.lower(): 10}
        assert record.decorrelated == at(300.0, accurate=90, labelled=10).decorrelated


def test_known_frames_are_counted_apart():
    text = without_label([at(500.0, duplicate=12, labelled=3)], SELECTION)
    assert text.startswith("12 of 15 candidates equal a known frame: at 500 K the committee disagrees")
    assert "never" not in text
    both = without_label([at(500.0, duplicate=4, too_close=5, labelled=3)], SELECTION)
    assert both.startswith("5 of 12 candidates can never be labelled (5 too close), and 4 of 12 candidates equal a ")
    assert "atoms collide at 500 K" in both


def test_few_such_candidates_have_a_share_but_no_cause():
    few = at(900.0, fragmented=2, refused=1, labelled=20)
    assert without_label([few], SELECTION) == "3 of 23 candidates can never be labelled (1 refused, 2 fragmented)"
    # one stretched bond near convergence
    assert (
        without_label([at(900.0, fragmented=1)], SELECTION) == "1 of 1 candidates can never be labelled (1 fragmented)"
    )
    assert without_label([at(900.0, labelled=20, correlated=4, over_cap=9, label_failed=1)], SELECTION) == ""


def test_the_temperatures_are_those_at_which_it_happens():
    cold, warm, hot = at(300.0, labelled=3), at(700.0, fragmented=3, labelled=2), at(900.0, fragmented=30)
    assert "dissociates at 700 and 900 K" in without_label([cold, warm, hot], SELECTION)
    again = [cold, warm, hot, at(500.0, fragmented=2, labelled=1), cold]
    assert "dissociates at 500, 700 and 900 K" in without_label(again, SELECTION)
    mixed = at(900.0, fragmented=3, too_close=2, labelled=4)  # neither fate has half of the candidates
    assert "dissociates at 900 K" in without_label([mixed], SELECTION)


@pytest.mark.parametrize("fate", [*UNLABELABLE_FATES, Fate.DUPLICATE])
def test_every_fate_without_a_label_has_a_cause_and_a_remedy(fate):
    text = without_label([at(900.0, **{fate.name.lower(): 6})], SELECTION)
    assert "900 K" in text
    assert "al-engine fork" in text or "in a new campaign" in text
    assert "{" not in text


def test_the_missing_evidence_has_it_where_the_acceptance_is_missing():
    hot, quiet = at(900.0, accurate=500, fragmented=60), at(900.0, accurate=60_000, fragmented=6)
    for temperatures, expected in (([hot], True), ([quiet], False)):
        history = [iteration(k, *temperatures) for k in range(2)]
        missing = missing_evidence(history, pooled(history), StopConfig(audit_labels=0), SELECTION)
        assert any("can never be labelled" in text for text in missing) == expected
        assert (missing == []) != expected


def test_records_of_older_versions_are_left_out():
    old = replace(at(900.0, fragmented=50), candidate_fates=None)
    assert without_label([old], SELECTION) == ""
    assert not mostly_without_label([old])
    assert without_label([old, at(900.0, fragmented=6)], SELECTION).startswith("6 of 6 candidates")
    assert iteration(0, old, at(300.0)).candidate_fates is None
    assert iteration(0, old).summary()["candidate_fates"] is None


def test_any_fates_add_up(rng):
    for _ in range(50):
        records = []
        for kelvin in (300.0, 600.0):
            fates = rng.choice(list(Fate), size=int(rng.integers(0, 60))).astype(np.int8)
            records.append(
                temperature_record(
                    StatePoint("", kelvin),
                    [Trajectory(rng.uniform(size=len(fates)), fates)],
                    replicas=1,
                    stopped=0,
                    lower=0.1,
                    limit=0.005,
                    stride_ps=0.01,
                )
            )
            assert sum(records[-1].candidate_fates.values()) == records[-1].counts.candidate == count(fates).candidate
        record = iteration(0, *records)
        assert sum(record.candidate_fates.values()) == record.counts.candidate
        assert IterationRecord.from_json(record.to_json()) == record
        together: TemperatureRecord = pooled([record, iteration(1, records[0])])[0]
        assert {k: n // 2 for k, n in together.candidate_fates.items()} == records[0].candidate_fates
        assert (without_label(records, SELECTION) != "") or not mostly_without_label(records)
