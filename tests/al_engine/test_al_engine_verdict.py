"""The verdict: each kind, each guard of `converged`, and sampling that grows until the evidence is there."""

import pytest

from al_engine.config import SamplingConfig, StopConfig
from al_engine.statistics import frames_needed
from al_engine.verdict import Verdict, VerdictKind, judge, missing_evidence, sampling_steps

STOP = StopConfig()
BUSY = ((800, 180, 20),)  # acceptance 18 %, 2 % rejected


def verdict_of(*history, stop: StopConfig = STOP, max_failed_share: float = 0.2) -> Verdict | None:
    return judge(history, stop, max_failed_share=max_failed_share)


def kind_of(*history, **options) -> VerdictKind | None:
    verdict = verdict_of(*history, **options)
    return None if verdict is None else verdict.kind


def test_nothing_is_said_before_the_first_iteration():
    assert verdict_of() is None


def test_a_busy_campaign_goes_on(make_record):
    assert kind_of(make_record(0, counts=BUSY)) is None


# -- converged and its guards -----------------------------------------------------------------------------------


def test_converged(make_record):
    verdict = verdict_of(make_record(0, counts=BUSY), make_record(1, counts=((1000, 1, 0), (997, 2, 0))))
    assert verdict.kind == VerdictKind.CONVERGED
    for part in (
        "3 of 2000 frames (0.15%)",
        "iteration 1",
        "below 0.50%",
        "1000 decorrelated",
        "worst at 500 K (0.20%)",
    ):
        assert part in verdict.evidence


@pytest.mark.parametrize(
    ("change", "guard"),
    [
        ({"decorrelated": 597.0}, "597 decorrelated frames of the 598 needed"),
        ({"stopped": 1}, "trajectories stopped early: 1 of 8 at 300 K"),
        ({"counts": ((990, 0, 10),)}, "1.00% of the frames rejected"),
        ({"counts": ((1000, 0, 0), (0, 0, 1000))}, "50.00% of the frames rejected"),
    ],
)
def test_each_guard_alone_prevents_converged(change, guard, make_record):
    assert kind_of(make_record()) == VerdictKind.CONVERGED
    record = make_record(**change)
    assert kind_of(record) is None
    assert missing_evidence(record, STOP) == [guard]


def test_guards_hold_exactly_at_their_limits(make_record):
    needed = frames_needed(STOP.acceptance, STOP.confidence)
    assert kind_of(make_record(decorrelated=float(needed))) == VerdictKind.CONVERGED
    assert kind_of(make_record(counts=((995, 0, 5),))) == VerdictKind.CONVERGED
    assert kind_of(make_record(counts=((995, 5, 0),))) is None  # the acceptance must be below, not at
    assert kind_of(make_record(counts=((996, 4, 0),))) == VerdictKind.CONVERGED


def test_a_stricter_confidence_asks_for_more_frames(make_record):
    assert kind_of(make_record(decorrelated=700.0)) == VerdictKind.CONVERGED
    assert kind_of(make_record(decorrelated=700.0), stop=StopConfig(confidence=0.99)) is None


def test_no_frames_are_no_convergence(make_record):
    assert kind_of(make_record(counts=((0, 0, 0),), decorrelated=0.0)) is None


def test_only_the_last_iteration_counts(make_record):
    assert kind_of(make_record(0), make_record(1, counts=BUSY)) is None


# -- unstable ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exploded",
    [{"counts": ((400, 0, 600),)}, {"counts": ((0, 0, 1000),)}, {"counts": ((1000, 0, 0),), "stopped": 5}],
    ids=["rejected", "all rejected", "stopped"],
)
def test_exploded_md_is_unstable_and_never_converged(exploded, make_record):
    history = [make_record(i, **exploded) for i in range(3)]
    assert [kind_of(*history[: n + 1]) for n in range(3)] == [None, None, VerdictKind.UNSTABLE]


def test_one_sound_iteration_among_them_starts_the_count_again(make_record):
    bad, good = {"counts": ((400, 0, 600),)}, {"counts": BUSY}
    history = [make_record(i, **what) for i, what in enumerate([bad, bad, good, bad, bad])]
    assert kind_of(*history) is None
    assert kind_of(*history, make_record(5, **bad)) == VerdictKind.UNSTABLE


# -- the others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labelled", "failures", "kind"),
    [(8, 2, None), (7, 3, VerdictKind.FAILED), (0, 5, VerdictKind.FAILED), (0, 4, None), (0, 0, None)],
)
def test_failed_labels_stop_a_campaign_beyond_their_share(labelled, failures, kind, make_record):
    """Exactly the share allowed goes on; fewer than five labels say nothing."""
    assert kind_of(make_record(counts=BUSY, labelled=labelled, label_failures=failures)) == kind


def test_failed_wins_over_converged(make_record):
    assert kind_of(make_record(labelled=1, label_failures=9)) == VerdictKind.FAILED


def test_budget_counts_failures_too(make_record):
    stop = StopConfig(max_labels=40)
    history = [make_record(i, counts=BUSY, labelled=18, label_failures=2) for i in range(2)]
    assert kind_of(history[0], stop=stop) is None
    assert kind_of(*history, stop=stop) == VerdictKind.BUDGET
    assert kind_of(*history, stop=StopConfig(max_labels=41)) is None


def test_stalled_without_new_labels(make_record):
    history = [make_record(0, counts=((700, 280, 20),))]
    history += [make_record(i, counts=((810 + i, 170, 20),), labelled=0) for i in range(1, 5)]
    assert kind_of(*history[:-1]) is None
    verdict = verdict_of(*history)
    assert (verdict.kind, verdict.evidence) == (VerdictKind.STALLED, "no new label in the last 4 iterations")


def test_stalled_without_lower_acceptance(make_record):
    acceptances = [180, 200, 190, 181, 180]
    history = [make_record(i, counts=((980 - c, c, 20),)) for i, c in enumerate(acceptances)]
    assert kind_of(*history[:4]) is None
    verdict = verdict_of(*history)
    assert verdict.kind == VerdictKind.STALLED
    assert "best 18.00%, before 18.00%" in verdict.evidence
    assert kind_of(*history[:4], make_record(4, counts=((801, 179, 20),))) is None


def test_low_acceptance_that_lacks_evidence_is_no_stall(make_record):
    history = [make_record(i, decorrelated=100.0, labelled=0) for i in range(6)]
    assert kind_of(*history) is None


def test_max_iterations_says_how_far_it_came(make_record):
    stop = StopConfig(max_iterations=2)
    assert kind_of(make_record(0, counts=BUSY), stop=stop) is None
    high = verdict_of(make_record(0, counts=BUSY), make_record(1, counts=((890, 100, 10),)), stop=stop)
    assert high.kind == VerdictKind.MAX_ITERATIONS
    assert "10.00%, not below 0.50%" in high.evidence
    short = verdict_of(make_record(0, counts=BUSY), make_record(1, decorrelated=12.0), stop=stop)
    assert short.kind == VerdictKind.MAX_ITERATIONS
    assert "not to be believed: 12 decorrelated frames of the 598 needed" in short.evidence


def test_convergence_in_the_last_iteration_is_convergence(make_record):
    assert kind_of(make_record(0), stop=StopConfig(max_iterations=1)) == VerdictKind.CONVERGED


def test_raising_the_limits_goes_on(make_record):
    history = [make_record(i, counts=((800 + 10 * i, 180 - 10 * i, 20),)) for i in range(3)]
    assert kind_of(*history, stop=StopConfig(max_iterations=3)) == VerdictKind.MAX_ITERATIONS
    assert kind_of(*history, stop=StopConfig(max_iterations=4)) is None


def test_evidence_is_one_sentence(make_record):
    verdicts = [
        verdict_of(make_record()),
        verdict_of(*[make_record(i, counts=((0, 0, 9),)) for i in range(3)]),
        verdict_of(make_record(counts=BUSY, labelled=0, label_failures=9)),
        verdict_of(make_record(counts=BUSY), stop=StopConfig(max_labels=1)),
        verdict_of(make_record(counts=BUSY), stop=StopConfig(max_iterations=1)),
    ]
    assert {v.kind for v in verdicts} == set(VerdictKind) - {VerdictKind.STALLED}
    assert all("\n" not in v.evidence and len(v.evidence) < 320 for v in verdicts)


# -- more sampling ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.7])
def test_near_convergence_the_next_iteration_gathers_the_evidence(rate, make_record):
    """`rate` decorrelated frames per MD step; without the longer sampling, 1000 steps would never suffice."""
    sampling = SamplingConfig(steps=1000, stride_steps=7)
    history = [make_record(0, counts=BUSY, decorrelated=900.0)]
    for iteration in range(1, 4):
        steps = sampling_steps(history, sampling, STOP)
        history.append(make_record(iteration, counts=((990, 10, 0),), decorrelated=rate * steps))
        assert steps == 1000 if iteration == 1 else steps % 7 == 0
    enough = frames_needed(STOP.acceptance, STOP.confidence)
    assert [r.decorrelated >= enough for r in history[1:]] == [rate * 1000 >= enough, True, True]
    assert history[-1].decorrelated < 1.4 * enough


def test_sampling_never_grows_beyond_eight_times_nor_shrinks(make_record):
    sampling = SamplingConfig(steps=1000, stride_steps=20)
    assert sampling_steps([make_record(decorrelated=0.0)], sampling, STOP) == 8000
    assert sampling_steps([make_record(i, decorrelated=5.0) for i in range(5)], sampling, STOP) == 8000
    assert sampling_steps([make_record(decorrelated=1e6)], sampling, STOP) == 1000


@pytest.mark.parametrize("history", [[], [((980, 20, 0),)], [((1000, 0, 0),), BUSY]])
def test_far_from_convergence_sampling_is_as_configured(history, make_record):
    records = [make_record(i, counts=counts, decorrelated=50.0) for i, counts in enumerate(history)]
    assert sampling_steps(records, SamplingConfig(steps=1000), STOP) == 1000
