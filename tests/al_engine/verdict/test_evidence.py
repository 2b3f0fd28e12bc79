"""Evidence for convergence: each guard alone, and sampling that grows until the evidence is complete."""

import pytest

from al_engine.committee.health import CommitteeHealth
from al_engine.config import SamplingConfig, SelectionConfig, StopConfig
from al_engine.selection.window import Window
from al_engine.statistics import frames_needed
from al_engine.verdict.evidence import (
    EVIDENCE_MARGIN,
    WORTH_PROVING,
    SamplingPlan,
    is_exploding,
    judged_together,
    missing_evidence,
    sampling_plan,
)
from al_engine.verdict.records import pooled

SELECTION = SelectionConfig()


def rules(**options) -> StopConfig:
    """Rules without an audit, unless told otherwise."""
    return StopConfig(**{"audit_labels": 0, **options})


STOP = rules()
SAMPLING = SamplingConfig(replicas=16, steps=600, stride_steps=20)


def missing(history, stop=STOP, selection=SELECTION):
    """What is missing for the history as if no trajectory went on in the next iteration."""
    temperatures = pooled(judged_together(history, stop))
    return missing_evidence(history, temperatures, stop, selection)


def planned(history, stop=STOP, kelvin=300.0):
    """The plan of the next iteration as if no trajectory went on."""
    return sampling_plan(history, pooled(judged_together(history, stop)) if history else (), SAMPLING, stop, kelvin)


def steps_after(history, stop=STOP):
    return planned(history, stop).steps


# -- guards -----------------------------------------------------------------------------------------------------


def collapsed(error_over_spread: float) -> CommitteeHealth:
    one = (1.0,) * 4
    return CommitteeHealth(40, error_over_spread, one, one, one, identical=(), rogue=None)


@pytest.mark.parametrize(
    ("change", "guard"),
    [
        ({"counts": ((970, 30, 0), (1000, 0, 0), (1000, 0, 0))}, "acceptance 1.00% in iteration 1"),
        ({"decorrelated": 10.0}, "95% bound 7.29% at 300 K on 0.00% of 40 decorrelated frames, of about 598 needed"),
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
    half = make_record(0, decorrelated=400.0)
    assert missing([half], rules(iterations=1)) != []
    assert missing([half, make_record(1, decorrelated=400.0)], STOP) == []
    rejecting = make_record(1, counts=((992, 0, 8),))
    assert missing([rejecting], rules(iterations=1)) != []
    assert missing([make_record(0), rejecting], STOP) == []


def test_stopped_trajectories_may_be_allowed(make_record):
    history = [make_record(0, replicas=50), make_record(1, replicas=50, stopped=1)]
    assert missing(history, STOP) != []
    assert missing(history, rules(max_stopped_share=0.01)) == []


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


# -- more sampling ----------------------------------------------------------------------------------------------


def test_sampling_is_as_configured_until_the_acceptance_is_below_the_limit(make_record):
    above = make_record(counts=((990, 10, 0),), decorrelated=50.0, steps=600)
    for history in ([], [above], [make_record(0, decorrelated=50.0, steps=600), above]):
        assert steps_after(history) == 600


def test_a_single_iteration_that_is_judged_alone_gathers_its_evidence_beforehand(make_record):
    stop = rules(iterations=1)
    far = make_record(counts=((900, 100, 0),), decorrelated=100.0, steps=600)
    assert steps_after([far], stop) == 600
    near = make_record(counts=((990, 10, 0),), decorrelated=10.0, steps=600)
    assert steps_after([near], stop) == STOP.max_extension * 600
    rich = make_record(counts=((990, 10, 0),), decorrelated=1000.0, steps=600)
    enough = frames_needed(stop.acceptance, stop.confidence, seen=WORTH_PROVING * stop.acceptance)
    frames = SAMPLING.replicas * steps_after([rich], stop) / SAMPLING.stride_steps  # every frame is decorrelated
    assert frames == pytest.approx(EVIDENCE_MARGIN * enough, rel=0.02)


@pytest.mark.parametrize("candidates", [0, 1, 3])
@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_the_next_iteration_completes_the_evidence(rate, candidates, make_record):
    """`rate` decorrelated frames per MD step; with the acceptance as it was, the bound is then below the limit."""
    counts = ((2000 - candidates, candidates, 0),)
    first = make_record(0, counts=counts, decorrelated=600 * rate, steps=600)
    steps = steps_after([first])
    assert steps % SAMPLING.stride_steps == 0
    longer = ((round((2000 - candidates) * steps / 600), round(candidates * steps / 600), 0),)
    second = make_record(1, counts=longer, decorrelated=steps * rate, steps=steps)
    assert missing([first, second], STOP) == []


def test_what_is_gathered_already_is_not_sampled_again(make_record):
    few, many = (make_record(0, decorrelated=n, steps=600) for n in (300.0, 700.0))
    assert 300.0 / 600 * steps_after([few]) > 700.0 / 600 * steps_after([many])


def test_three_iterations_share_the_work(make_record):
    history = [make_record(0, decorrelated=400.0, steps=600)]
    two = steps_after(history, rules(iterations=2))
    three = steps_after(history, rules(iterations=3))
    assert 600 < three == pytest.approx(two / 2, abs=20)


def test_sampling_never_grows_beyond_its_limit_nor_shrinks(make_record):
    assert steps_after([make_record(decorrelated=1.0, steps=600)]) == STOP.max_extension * 600
    again = [make_record(i, decorrelated=5.0, steps=STOP.max_extension * 600) for i in range(5)]
    assert steps_after(again) == STOP.max_extension * 600
    assert steps_after([make_record(decorrelated=1e6, steps=600)]) == 600


def test_exploding_md_is_not_sampled_longer(make_record):
    exploding = make_record(counts=((400, 0, 600),), decorrelated=50.0, steps=600)
    assert exploding.counts.acceptance < STOP.acceptance
    assert steps_after([exploding]) == 600


def test_each_temperature_is_sampled_as_it_needs(make_record):
    """Candidates at one temperature only, or fewer decorrelated frames there: the other temperatures stay short."""
    record = make_record(counts=((20_000, 0, 0), (19_930, 70, 0)), decorrelated=4000.0, steps=600)
    cold, hot = (planned([record], kelvin=kelvin).steps for kelvin in (300.0, 500.0))
    assert cold == 600 < hot


def test_once_the_acceptance_is_low_a_share_of_the_trajectories_starts_afresh(make_record):
    busy, low = make_record(0, counts=((900, 100, 0),)), make_record(1)
    assert planned([busy]).fresh == planned([]).fresh == 0
    assert planned([low]).fresh == 8
    assert planned([low], rules(fresh_share=0.3)).fresh == 5
    assert planned([low], rules(fresh_share=0.0)) == SamplingPlan(planned([low]).steps, 0)


def test_all_low_iterations_in_a_row_are_judged_together(make_record):
    """Evidence that is gathered slowly is not thrown away; an iteration above the limit begins a new count."""
    busy = make_record(0, counts=((900, 100, 0),))
    low = [make_record(k, decorrelated=250.0) for k in range(1, 4)]
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
