"""The verdict: each kind, its order against the others, and what must hold for any history."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from al_engine.config import SelectionConfig, StopConfig
from al_engine.selection.fates import Counts
from al_engine.selection.window import Window
from al_engine.statistics import frames_needed
from al_engine.verdict.evidence import look_confidence
from al_engine.verdict.records import IterationRecord, TemperatureRecord, TrajectoryEvidence
from al_engine.verdict.verdict import Verdict, VerdictKind, judge


def rules(**options) -> StopConfig:
    """Rules without an audit, unless told otherwise."""
    return StopConfig(**{"audit_labels": 0, "verdicts": 5, **options})


STOP = rules()
ONE = rules(iterations=1)
BUSY = ((800, 180, 20),)  # acceptance 18 %, 2 % rejected
EXPLODED = [
    {"counts": ((400, 0, 600),)},
    {"counts": ((0, 0, 1000),)},
    {"counts": ((0, 0, 0),), "stopped": 8},
    {"counts": ((1000, 0, 5),), "stopped": 5},
    {"counts": ((1000, 0, 0), (1000, 0, 0), (1000, 0, 0), (30, 10, 960))},
]
EXPLODED_IDS = ["rejected", "all rejected", "not a frame", "stopped", "hottest only"]


def verdict_of(*history, stop: StopConfig = STOP, max_failed_share: float = 0.2, **options) -> Verdict | None:
    options = {"selection": SelectionConfig()} | options
    return judge(history, stop, max_failed_share=max_failed_share, **options)


def kind_of(*history, **options) -> VerdictKind | None:
    verdict = verdict_of(*history, **options)
    return None if verdict is None else verdict.kind


def test_nothing_is_said_before_the_first_iteration():
    assert verdict_of() is None


def test_a_busy_campaign_goes_on(make_record):
    assert kind_of(make_record(0, counts=BUSY)) is None


# -- converged --------------------------------------------------------------------------------------------------


def test_converged_with_its_evidence(make_record):
    counts = ((2000, 1, 0), (1997, 2, 0))
    low = [make_record(k, counts=counts, decorrelated=4000.0) for k in (1, 2)]
    verdict = verdict_of(make_record(0, counts=BUSY), *low)
    assert verdict.kind == VerdictKind.CONVERGED
    for part in (
        "6 of 8000 frames (0.07%)",
        "iterations 1 to 2",
        "below 0.50%",
        "below 0.29% at 99% confidence",
        "highest at 500 K, with 4 of 3998 frames, equivalent to 4000 decorrelated frames",
        "no trajectory stopped",
    ):
        assert part in verdict.evidence


def test_the_evidence_says_how_long_the_trajectories_were(make_record):
    low = [make_record(k, decorrelated=4000.0) for k in (0, 1)]
    seen = TrajectoryEvidence(trajectories=12, with_candidate=0, picoseconds=24.0, r_hat=1.0123)
    joined = [replace(temperature, seen=seen) for temperature in low[0].temperatures]
    evidence = verdict_of(*low, temperatures=joined).evidence
    assert "12 trajectories of 24 ps (0 of them with a candidate, below 22%, split R-hat 1.01)" in evidence


def test_one_temperature_above_the_limit_is_not_converged(make_record):
    """The acceptance over all temperatures is a third of the limit, and 0.67 % at the hottest."""
    counts = ((3000, 0, 0), (3000, 0, 0), (3000, 0, 0), (2980, 20, 0))
    low = [make_record(k, counts=counts, decorrelated=12_000.0) for k in range(2)]
    assert kind_of(*low) is None
    assert "acceptance 0.67% at 900 K" in verdict_of(*low, stop=rules(max_iterations=2)).evidence


def test_it_takes_as_many_iterations_in_a_row_as_asked_for(make_record):
    sound = [make_record(i) for i in range(3)]
    busy = make_record(9, counts=BUSY)
    assert kind_of(sound[0]) is None
    assert kind_of(*sound[:2]) == VerdictKind.CONVERGED
    assert kind_of(sound[0], busy, sound[1]) is None
    assert kind_of(*sound[:2], stop=rules(iterations=3)) is None
    assert kind_of(*sound, stop=rules(iterations=3)) == VerdictKind.CONVERGED


def test_the_bound_holds_exactly_at_its_limit(make_record):
    needed = float(frames_needed(STOP.acceptance, look_confidence(STOP)))
    assert kind_of(make_record(decorrelated=needed), stop=ONE) == VerdictKind.CONVERGED
    assert kind_of(make_record(decorrelated=needed - 1), stop=ONE) is None
    stricter = rules(iterations=1, confidence=0.99)
    assert kind_of(make_record(decorrelated=needed), stop=stricter) is None


def test_all_verdicts_of_a_campaign_hold_together():
    """Bonferroni: ten verdicts at 99.5 % each are wrong in at most 5 % of campaigns together."""
    assert look_confidence(rules(confidence=0.95, verdicts=10)) == pytest.approx(0.995)
    assert look_confidence(rules(confidence=0.95, verdicts=1)) == pytest.approx(0.95)


def test_low_acceptance_by_a_window_that_moved_up_is_not_converged(make_record):
    history = [make_record(i, window=Window(250.0, 750.0)) for i in range(2)]
    assert kind_of(*history, selection=SelectionConfig(lower_mev_per_ang=250.0)) == VerdictKind.CONVERGED
    assert kind_of(*history) is None


# -- unstable ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exploded", EXPLODED, ids=EXPLODED_IDS)
def test_exploded_md_is_unstable(exploded, make_record):
    history = [make_record(i, **exploded) for i in range(3)]
    assert [kind_of(*history[: n + 1]) for n in range(3)] == [None, None, VerdictKind.UNSTABLE]


@pytest.mark.parametrize("exploded", EXPLODED, ids=EXPLODED_IDS)
@pytest.mark.parametrize(
    "stop",
    [
        rules(max_iterations=2),
        rules(max_labels=5, unstable_iterations=5),
        rules(stall_iterations=1, unstable_iterations=5),
    ],
    ids=["max_iterations", "budget", "stalled"],
)
def test_a_campaign_that_ends_while_its_md_explodes_is_unstable_whatever_ended_it(stop, exploded, make_record):
    history = [make_record(i, **exploded) for i in range(2)]
    verdict = verdict_of(*history, stop=stop)
    assert verdict.kind == VerdictKind.UNSTABLE
    assert "otherwise the verdict would be" in verdict.evidence


def test_explosion_is_told_where_and_how_much(make_record):
    counts = ((1000, 0, 0), (30, 10, 960))
    evidence = verdict_of(*[make_record(i, counts=counts, stopped=4) for i in range(3)]).evidence
    assert "at 500 K 96% of 1000 frames were rejected and 4 of 8 trajectories stopped early" in evidence


def test_frames_that_pass_through_the_window_are_no_explosion(make_record):
    """Many candidates and fewer rejected: a campaign at work, which may well end by its limit."""
    history = [make_record(i, counts=((600, 300 - i, 100),), stopped=2) for i in range(3)]
    assert kind_of(*history, stop=rules(max_iterations=3)) == VerdictKind.MAX_ITERATIONS


def test_one_stopped_trajectory_is_no_explosion_but_no_convergence(make_record):
    history = [make_record(0), make_record(1, counts=((999, 0, 1),), stopped=1)]
    assert kind_of(*history) is None
    verdict = verdict_of(*history, stop=rules(max_iterations=2))
    assert verdict.kind == VerdictKind.MAX_ITERATIONS
    assert "1 of 16 trajectories stopped at 300 K" in verdict.evidence


def test_a_sound_iteration_in_between_starts_the_count_again(make_record):
    bad, good = {"counts": ((400, 0, 600),)}, {"counts": BUSY}
    history = [make_record(i, **what) for i, what in enumerate([bad, bad, good, bad, bad])]
    assert kind_of(*history) is None
    assert kind_of(*history, make_record(5, **bad)) == VerdictKind.UNSTABLE


def test_a_campaign_that_heals_is_left_to_heal(make_record):
    """Rejected at 900 K alone in the end; the acceptance rises meanwhile, which is no stall either."""
    rejected = [(100, 100, 100, 100), (0, 60, 100, 100), (0, 0, 60, 100), (0, 0, 0, 90), (0, 0, 0, 55), (0, 0, 0, 20)]
    history = [
        make_record(i, counts=[(1000 - 10 * r, 5 * min(r, 100 - r), 5 * max(r, 2 * r - 100)) for r in shares])
        for i, shares in enumerate(rejected)
    ]
    acceptances = [r.counts.acceptance for r in history]
    assert acceptances[0] == 0.0 < min(acceptances[1:])
    assert [kind_of(*history[: n + 1]) for n in range(len(history))] == [None] * len(history)
    stuck = [make_record(i, counts=((1000, 0, 0), (0, 0, 1000))) for i in range(3)]
    assert kind_of(*stuck) == VerdictKind.UNSTABLE


# -- the others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labelled", "failures", "kind"),
    [(8, 2, None), (7, 3, VerdictKind.FAILED), (0, 5, VerdictKind.FAILED), (0, 4, None), (0, 0, None)],
)
def test_failed_labels_stop_a_campaign_beyond_their_share(labelled, failures, kind, make_record):
    """Exactly the share allowed goes on; fewer than five labels say nothing."""
    assert kind_of(make_record(counts=BUSY, labelled=labelled, label_failures=failures)) == kind


def test_failed_wins_over_converged(make_record):
    assert kind_of(make_record(0), make_record(1, labelled=1, label_failures=9)) == VerdictKind.FAILED


def test_converged_wins_over_the_limits_it_reaches(make_record):
    history = [make_record(0), make_record(1)]
    for stop in (rules(max_iterations=2), rules(max_labels=1), rules(stall_iterations=1)):
        assert kind_of(*history, stop=stop) == VerdictKind.CONVERGED


def test_budget_counts_failures_too(make_record):
    stop = rules(max_labels=40)
    history = [make_record(i, counts=BUSY, labelled=18, label_failures=2) for i in range(2)]
    assert kind_of(history[0], stop=stop) is None
    assert kind_of(*history, stop=stop) == VerdictKind.BUDGET
    assert kind_of(*history, stop=rules(max_labels=41)) is None


def test_stalled_without_new_labels(make_record):
    history = [make_record(0, counts=((700, 280, 20),))]
    history += [make_record(i, counts=((810 + i, 170, 20),), labelled=0) for i in range(1, 5)]
    assert kind_of(*history[:-1]) is None
    verdict = verdict_of(*history)
    assert verdict.kind == VerdictKind.STALLED
    assert "no new label in the last 4 iterations" in verdict.evidence


def test_stalled_without_more_accurate_frames(make_record):
    candidates = [180, 200, 190, 181, 180]
    history = [make_record(i, counts=((980 - c, c, 20),)) for i, c in enumerate(candidates)]
    assert kind_of(*history[:4]) is None
    verdict = verdict_of(*history)
    assert verdict.kind == VerdictKind.STALLED
    assert "best 20.00%, before 20.00%" in verdict.evidence
    assert kind_of(*history[:4], make_record(4, counts=((801, 179, 20),))) is None


def test_an_adaptive_window_that_still_comes_down_is_no_stall(make_record):
    """Its acceptance stays where its quantile puts it."""
    counts = ((900, 100, 0),)
    moving = [make_record(i, counts=counts, window=Window(200.0 - 10 * i, 600.0 - 30 * i)) for i in range(6)]
    still = [make_record(i, counts=counts, window=Window(150.0, 450.0)) for i in range(6)]
    assert kind_of(*moving) is None
    assert kind_of(*still) == VerdictKind.STALLED


def test_low_acceptance_that_lacks_evidence_is_no_stall(make_record):
    history = [make_record(i, decorrelated=50.0, labelled=0) for i in range(6)]
    assert kind_of(*history) is None


def test_max_iterations_says_what_was_missing(make_record):
    stop = rules(max_iterations=2)
    assert kind_of(make_record(0, counts=BUSY), stop=stop) is None
    high = verdict_of(make_record(0, counts=BUSY), make_record(1, counts=((890, 100, 10),)), stop=stop)
    assert high.kind == VerdictKind.MAX_ITERATIONS
    assert "acceptance of 10.00%" in high.evidence
    assert "acceptance 10.00% in iteration 1" in high.evidence
    short = verdict_of(make_record(0, decorrelated=12.0), make_record(1, decorrelated=12.0), stop=stop)
    assert short.kind == VerdictKind.MAX_ITERATIONS
    assert "24 decorrelated frames, of about 919 needed" in short.evidence


def test_raising_the_limits_goes_on(make_record):
    history = [make_record(i, counts=((800 + 10 * i, 180 - 10 * i, 20),)) for i in range(3)]
    assert kind_of(*history, stop=rules(max_iterations=3)) == VerdictKind.MAX_ITERATIONS
    assert kind_of(*history, stop=rules(max_iterations=4)) is None


def test_evidence_is_one_sentence_with_numbers(make_record):
    verdicts = [
        verdict_of(make_record(0), make_record(1)),
        verdict_of(*[make_record(i, counts=((0, 0, 9),)) for i in range(3)]),
        verdict_of(make_record(counts=BUSY, labelled=0, label_failures=9)),
        verdict_of(make_record(counts=BUSY), stop=rules(max_labels=1)),
        verdict_of(make_record(counts=BUSY), stop=rules(max_iterations=1)),
        verdict_of(make_record(0, counts=BUSY), make_record(1, counts=BUSY), stop=rules(stall_iterations=1)),
        verdict_of(make_record(counts=((0, 0, 9),)), stop=rules(max_iterations=1)),
    ]
    assert {v.kind for v in verdicts} == set(VerdictKind)
    for evidence in (v.evidence for v in verdicts):
        assert any(character.isdigit() for character in evidence)
        assert "\n" not in evidence
        assert ". " not in evidence
        assert len(evidence) < 400


# -- any history ------------------------------------------------------------------------------------------------


def random_history(rng: np.random.Generator) -> list[IterationRecord]:
    """Iterations of all kinds, sound ones more often than not, so that each rule is met."""
    history, temperatures = [], int(rng.integers(1, 5))
    sound = rng.random() < 0.7
    for iteration in range(int(rng.integers(1, 8))):
        records = []
        for index in range(temperatures):
            sampled = int(rng.choice([0, 50, 500, 3000], p=[0.02, 0.08, 0.3, 0.6]))
            open_share = rng.choice([0.0, 0.001, 0.003, 0.02, 0.3])
            lost_share = 0.0 if sound and rng.random() < 0.9 else rng.choice([0.0, 0.002, 0.02, 0.5, 0.95])
            rejected = rng.binomial(sampled, lost_share)
            candidate = rng.binomial(sampled - rejected, 0.002 if sound and rng.random() < 0.7 else open_share)
            counts = Counts(sampled, sampled - rejected - candidate, candidate, rejected)
            stopped = int(rng.binomial(8, min(lost_share, 0.9)))
            g = rng.choice([1.0, 2.5, 8.0])
            records.append(TemperatureRecord(300.0 + 200 * index, counts, sampled / g, 8, stopped))
        labelled = int(rng.integers(0, 20))
        failures = int(rng.binomial(labelled, 0.05))
        history.append(IterationRecord(iteration, tuple(records), labelled, failures, 100, 50.0, 20.0, 1.0))
    return history


def believable(history: list[IterationRecord], stop: StopConfig) -> bool:
    """The contract for `converged`, written down once more, by other means."""
    low = [sum(t.counts.candidate for t in r.temperatures) < stop.acceptance * r.counts.sampled for r in history]
    run = len(low) - max((k + 1 for k, is_low in enumerate(low) if not is_low), default=0)
    if run < stop.iterations:
        return False
    first = 1 if len(history) > stop.iterations else 0  # the first committee has seen the initial set only
    judged = history[max(len(history) - run, first) :]
    for kelvin in {t.temperature_kelvin for t in history[-1].temperatures}:
        here = [t for record in judged for t in record.temperatures if t.temperature_kelvin == kelvin]
        if not all(t.counts.sampled for t in here):
            return False
        # as many decorrelated frames as any weighting of the iterations can leave: no bound can be lower
        most = sum(t.counts.sampled for t in here) / min(t.counts.sampled / t.decorrelated for t in here)
        share = sum(t.counts.candidate for t in here) / sum(t.counts.sampled for t in here)
        if beta.ppf(stop.confidence, share * most + 1, (1 - share) * most) >= stop.acceptance:
            return False
        last = here[-stop.iterations :]
        if sum(t.counts.rejected for t in last) > stop.max_rejected_share * sum(t.counts.sampled for t in last):
            return False
        if sum(t.stopped for t in last) > stop.max_stopped_share * sum(t.replicas for t in last):
            return False
    return True


def test_converged_is_only_said_of_what_the_contract_allows():
    rng = np.random.default_rng(0)
    said = 0
    for _ in range(1500):
        history = random_history(rng)
        if kind_of(*history) is VerdictKind.CONVERGED:
            said += 1
            assert believable(history, STOP)
    assert said > 50


@pytest.mark.parametrize("seed", range(5))
def test_acceptance_that_falls_by_rejection_or_stops_never_converges(seed):
    """Any history, made to explode at one temperature: what were candidates there is thrown away instead."""
    rng = np.random.default_rng(seed)
    for _ in range(100):
        exploding = []
        for record in random_history(rng):
            *others, hot = record.temperatures
            lost = int(rng.integers(hot.counts.sampled // 50 + 1, hot.counts.sampled + 2))
            counts = Counts(hot.counts.sampled + lost, hot.counts.sampled, 0, lost)
            worst = TemperatureRecord(hot.temperature_kelvin, counts, hot.decorrelated + lost, 8, int(rng.integers(9)))
            exploding.append(
                IterationRecord(record.iteration, (*others, worst), record.labelled, 0, 100, 50.0, 20.0, 1.0)
            )
            stop = rules(max_iterations=len(exploding), unstable_iterations=int(rng.integers(1, 5)))
            assert kind_of(*exploding, stop=STOP) is not VerdictKind.CONVERGED
            assert kind_of(*exploding, stop=stop) is VerdictKind.UNSTABLE


def test_every_campaign_ends_at_its_limit():
    rng = np.random.default_rng(1)
    for _ in range(200):
        history = random_history(rng)
        assert kind_of(*history, stop=rules(max_iterations=len(history))) is not None
