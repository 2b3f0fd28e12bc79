"""Evidence for convergence: each guard alone, and the iterations that are judged together."""

from dataclasses import replace

import pytest

from al_engine.committee.health import CommitteeHealth
from al_engine.config import SelectionConfig, StopConfig
from al_engine.selection.window import Window
from al_engine.verdict.evidence import is_exploding, judged_together, missing_evidence
from al_engine.verdict.records import pooled

SELECTION = SelectionConfig()


def rules(**options) -> StopConfig:
    """Rules without an audit, unless told otherwise."""
    return StopConfig(**{"audit_labels": 0, "verdicts": 5, **options})


STOP = rules()


def missing(history, stop=STOP, selection=SELECTION):
    """What is missing for the history as if no trajectory went on in the next iteration."""
    temperatures = pooled(judged_together(history, stop))
    return missing_evidence(history, temperatures, stop, selection)


# -- guards -----------------------------------------------------------------------------------------------------


def collapsed(error_over_spread: float) -> CommitteeHealth:
    one = (1.0,) * 4
    return CommitteeHealth(40, error_over_spread, one, one, one, identical=(), rogue=None)


@pytest.mark.parametrize(
    ("change", "guard"),
    [
        ({"counts": ((970, 30, 0), (1000, 0, 0), (1000, 0, 0))}, "acceptance 1.00% in iteration 1"),
        ({"decorrelated": 10.0}, "99% bound 10.98% at 300 K on 0.00% of 40 decorrelated frames, of about 919 needed"),
        ({"counts": ((2950, 50, 0), (27000, 0, 0)), "decorrelated": 9000.0}, "acceptance 1.25% at 300 K"),
        ({"counts": ((970, 0, 30),)}, "1.50% of the frames rejected at 300 K"),
        ({"counts": ((1000, 0, 0), (0, 0, 0))}, "no frame at 500 K in iteration 1"),
        ({"stopped": 1}, "1 of 16 trajectories stopped at 300 K"),
        ({"window": Window(150.0, 450.0)}, "the lower end of the window is 150 meV/Å, above the target of 100 meV/Å"),
        ({"health": collapsed(3.5)}, "a collapsed committee, whose agreement proves nothing"),
    ],
    ids=["acceptance", "bound", "one temperature", "rejected", "no frames", "stopped", "window", "collapsed"],
)
def test_each_guard_alone_is_named(change, guard, make_record):
    history = [make_record(0), make_record(1)]
    assert missing(history, STOP) == []
    found = missing([history[0], make_record(1, **change)], STOP)
    assert any(guard in reason for reason in found), found


def test_too_few_iterations_are_named(make_record):
    assert missing([make_record()], STOP) == ["1 of 2 iterations in a row"]
    assert missing([make_record()], rules(iterations=1)) == []


def test_iterations_before_those_judged_do_not_count(make_record):
    bad = make_record(0, counts=((0, 500, 500),), stopped=8, health=collapsed(9.0))
    assert missing([bad, make_record(1), make_record(2)], STOP) == []


def test_iterations_are_judged_together(make_record):
    """Neither has the frames for the bound, both together have; the same for a guard that one of them breaks alone."""
    half = make_record(0, decorrelated=500.0)
    assert missing([half], rules(iterations=1)) != []
    assert missing([half, make_record(1, decorrelated=500.0)], STOP) == []
    rejecting = make_record(1, counts=((992, 0, 8),))
    assert missing([rejecting], rules(iterations=1)) != []
    assert missing([make_record(0), rejecting], STOP) == []


def test_stopped_trajectories_may_be_allowed(make_record):
    history = [make_record(0, replicas=50), make_record(1, replicas=50, stopped=1)]
    assert missing(history, STOP) != []
    assert missing(history, rules(max_stopped_share=0.01)) == []


def test_a_long_trajectory_counts_as_often_as_it_is_long(make_record):
    """One of 16 trajectories is stopped; together they are 16 or 1,600 times as long as `sampling.steps`."""
    history = [make_record(0, counts=((80_000, 0, 0),)), make_record(1, counts=((80_000, 0, 0),), stopped=1)]

    def missing_with(frames):
        return missing_evidence(
            history, pooled(judged_together(history, STOP)), STOP, SELECTION, trajectory_frames=frames
        )

    (too_often,) = missing_with(10_000)
    assert "1 of 16 trajectories stopped" in too_often
    assert missing_with(100) == []
    assert missing_with(None) == [too_often]


@pytest.mark.parametrize(
    ("counts", "stopped", "exploding"),
    [
        ((1000, 0, 0), 0, False),
        ((900, 80, 20), 2, False),  # passing through the window
        ((900, 20, 80), 2, True),  # jumping over it
        ((998, 0, 2), 2, False),  # within the guard
        ((0, 0, 0), 8, True),  # not even a frame before the end
    ],
)
def test_explosion_is_more_lost_than_in_the_window(counts, stopped, exploding, make_record):
    record = make_record(counts=(counts,), stopped=stopped).temperatures[0]
    assert is_exploding(record, STOP) == exploding


def test_few_stops_in_long_evidence_are_no_explosion(make_record):
    """Ten of 16 trajectories were stopped once, in MD of 512 times `sampling.steps`: 2 % of it."""
    record = make_record(counts=((51_200, 0, 0),), stopped=10).temperatures[0]
    assert not is_exploding(record, STOP, 100)
    assert is_exploding(record, STOP, 51_200)
    assert is_exploding(make_record(counts=((0, 0, 0),), stopped=8).temperatures[0], STOP, 100)


def test_all_low_iterations_in_a_row_are_judged_together(make_record):
    """Evidence that is gathered slowly is not thrown away; an iteration above the limit begins a new count."""
    busy = make_record(0, counts=((900, 100, 0),))
    low = [make_record(k, decorrelated=350.0) for k in range(1, 4)]
    assert [record.iteration for record in judged_together([busy, *low], STOP)] == [1, 2, 3]
    assert missing([busy, *low[:2]]) != []
    assert missing([busy, *low]) == []
    assert len(judged_together([*low, busy], STOP)) == STOP.iterations


def test_an_iteration_above_the_limit_at_one_temperature_ends_the_row(make_record):
    """Over all temperatures its acceptance is below the limit."""
    hot = make_record(0, counts=((10_000, 0, 0), (970, 30, 0)), decorrelated=2000.0)
    assert hot.counts.acceptance < STOP.acceptance
    low = [make_record(k, counts=((10_000, 0, 0), (1000, 0, 0)), decorrelated=2000.0) for k in range(1, 4)]
    assert [record.iteration for record in judged_together([hot, *low], STOP)] == [1, 2, 3]


def test_iteration_0_counts_until_enough_iterations_follow(make_record):
    history = [make_record(k) for k in range(3)]

    def numbers(count, **options):
        return [record.iteration for record in judged_together(history[:count], **{"stop": STOP, **options})]

    assert [numbers(count) for count in (1, 2, 3)] == [[0], [0, 1], [1, 2]]
    assert [numbers(count, coming=1) for count in (1, 2)] == [[0], [1]]
    assert numbers(3, stop=rules(judge_first=True)) == [0, 1, 2]
    high = make_record(0, counts=((9_930, 70, 0),), decorrelated=700.0)
    low = [make_record(k, decorrelated=2_000.0) for k in (1, 2)]
    assert missing([high, *low]) == []
    assert missing([high, *low], rules(judge_first=True)) != []


def test_a_saturated_trajectory_is_no_evidence(make_record):
    """Its end hides the candidates that would have followed, however few its iteration has."""
    low = [make_record(k) for k in range(2)]
    saturated = replace(low[0], temperatures=tuple(replace(t, saturated=1) for t in low[0].temperatures))
    assert missing(low) == []
    assert any("1 of" in phrase and "candidates" in phrase for phrase in missing([saturated, low[1]]))
    assert [
        record.iteration for record in judged_together([saturated, *(make_record(k) for k in (1, 2, 3))], STOP)
    ] == [
        1,
        2,
        3,
    ]
