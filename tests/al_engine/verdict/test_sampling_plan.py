"""How long an iteration samples: in search of candidates while there are many, and as evidence when there are few."""

import pytest

from al_engine.config import SamplingConfig, SelectionConfig, StatePoint, StopConfig
from al_engine.statistics import frames_needed
from al_engine.verdict import sampling_plan as plans
from al_engine.verdict.evidence import judged_together, look_confidence, missing_evidence, proven_above
from al_engine.verdict.records import pooled
from al_engine.verdict.sampling_plan import (
    EVIDENCE_MARGIN,
    TRAINED_FRAME_COST,
    WORTH_PROVING,
    SamplingPlan,
    Search,
    affordable_steps,
    sampling_plan,
)

SELECTION = SelectionConfig()


def rules(**options) -> StopConfig:
    """Rules without an audit, unless told otherwise."""
    return StopConfig(**{"audit_labels": 0, **options})


STOP = rules()
SAMPLING = SamplingConfig(replicas=16, steps=600, stride_steps=20)
POINTS = [StatePoint("", kelvin) for kelvin in SAMPLING.temperatures_kelvin]
SEARCH = Search(most_steps=5000, max_labels=150, points=4)


def missing(history, stop=STOP):
    """What is missing for the history as if no trajectory went on in the next iteration."""
    return missing_evidence(history, pooled(judged_together(history, stop)), stop, SELECTION)


def planned(history, stop=STOP, kelvin=300.0, search=None):
    """The plan of the next iteration as if no trajectory went on."""
    judged = pooled(judged_together(history, stop, coming=1)) if history else ()
    return sampling_plan(history, judged, SAMPLING, stop, StatePoint("", kelvin), points=POINTS, search=search)


@pytest.fixture
def at_once(monkeypatch):
    """All evidence that is needed is gathered in the next iteration."""
    monkeypatch.setattr(plans, "LARGEST_GROWTH", 1e9)


def steps_after(history, stop=STOP):
    return planned(history, stop).steps


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
    enough = frames_needed(stop.acceptance, look_confidence(stop), seen=WORTH_PROVING * stop.acceptance)
    frames = SAMPLING.replicas * steps_after([rich], stop) / SAMPLING.stride_steps  # every frame is decorrelated
    assert frames == pytest.approx(EVIDENCE_MARGIN * enough, rel=0.02)


def test_iteration_0_shows_how_much_is_needed_also_if_it_is_not_judged(make_record):
    """Judged alone, iteration 1 has to have the whole evidence: iteration 0, which is left out, has none of it."""
    stop = rules(iterations=1, judge_first=False)
    first = make_record(0, counts=((1999, 1, 0),), decorrelated=1000.0, steps=600)
    assert judged_together([first], stop, coming=1) == []
    seen = (1 / 2000 * 1000 + 0.5) / 1001
    enough = frames_needed(stop.acceptance, look_confidence(stop), seen=seen)
    frames = SAMPLING.replicas * steps_after([first], stop) / SAMPLING.stride_steps / 2  # decorrelated frames
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


@pytest.mark.usefixtures("at_once")
def test_what_is_gathered_already_is_not_sampled_again(make_record):
    few, many = (make_record(0, decorrelated=n, steps=600) for n in (300.0, 700.0))
    assert 300.0 / 600 * steps_after([few]) > 700.0 / 600 * steps_after([many])


@pytest.mark.usefixtures("at_once")
def test_three_iterations_share_the_work(make_record):
    history = [make_record(0, decorrelated=400.0, steps=600)]
    two = steps_after(history, rules(iterations=2))
    three = steps_after(history, rules(iterations=3))
    assert 600 < three == pytest.approx(two / 2, abs=20)


@pytest.mark.usefixtures("at_once")
def test_sampling_never_grows_beyond_its_limit_nor_shrinks(make_record):
    assert steps_after([make_record(decorrelated=1.0, steps=600)]) == STOP.max_extension * 600
    again = [make_record(i, decorrelated=5.0, steps=STOP.max_extension * 600) for i in range(5)]
    assert steps_after(again) == STOP.max_extension * 600
    assert steps_after([make_record(decorrelated=1e6, steps=600)]) == 600


def test_an_iteration_is_at_most_four_times_as_long_as_the_last(make_record):
    """Evidence grows step by step: an acceptance that was below the limit by chance is found before the long MD."""
    lengths, history = [], []
    for iteration in range(5):
        strides = (lengths[-1] if lengths else SAMPLING.steps) // SAMPLING.stride_steps
        frames = strides * SAMPLING.replicas
        history.append(make_record(iteration, counts=((frames, 0, 0),), decorrelated=frames / 100))
        lengths.append(steps_after(history))
    assert lengths[:3] == [4 * 600, 16 * 600, 64 * 600]
    assert max(lengths) <= STOP.max_extension * 600
    stopped_early = make_record(counts=((16, 0, 0),), decorrelated=1.0)
    assert steps_after([stopped_early]) == SAMPLING.steps  # never shorter than an ordinary iteration


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


def test_the_search_goes_on_while_the_acceptance_is_above_the_limit(make_record):
    searching = SamplingPlan(600, most_steps=10_000, enough=150)  # two of four temperatures share cost and labels
    both = make_record(counts=((900, 100, 0), (900, 100, 0)), decorrelated=50.0)
    assert planned([both], search=SEARCH, kelvin=500.0) == searching
    all_four = make_record(counts=((900, 100, 0),) * 4, decorrelated=50.0)
    assert planned([all_four], search=SEARCH, kelvin=500.0) == SamplingPlan(600, most_steps=5000, enough=75)
    assert planned([all_four], search=Search(most_steps=400, max_labels=150, points=4)) == SamplingPlan(600)


def test_the_hotter_temperatures_search_as_long_as_no_acceptance_is_known():
    found = {kelvin: planned([], search=SEARCH, kelvin=kelvin) for kelvin in SAMPLING.temperatures_kelvin}
    searching = SamplingPlan(600, most_steps=10_000, enough=150)
    assert found == dict.fromkeys((300.0, 500.0), SamplingPlan(600)) | dict.fromkeys((700.0, 900.0), searching)
    one = StatePoint("", 400.0)
    assert sampling_plan([], (), SAMPLING, STOP, one, points=[one], search=SEARCH).enough == 300


def test_every_system_searches_at_its_own_hotter_temperatures():
    points = [StatePoint("cold", 100.0), StatePoint("cold", 200.0), StatePoint("hot", 900.0), StatePoint("hot", 800.0)]
    found = [sampling_plan([], (), SAMPLING, STOP, point, points=points, search=SEARCH) for point in points]
    assert [bool(plan.most_steps) for plan in found] == [False, True, True, False]


def test_only_temperatures_above_the_limit_search(make_record):
    """Although the acceptance over all temperatures is below the limit."""
    hot = make_record(counts=((20_000, 0, 0), (970, 30, 0)), decorrelated=2000.0)
    assert hot.counts.acceptance < STOP.acceptance
    assert planned([hot], search=SEARCH) == SamplingPlan(600)
    assert planned([hot], search=SEARCH, kelvin=500.0) == SamplingPlan(600, most_steps=10_000, enough=300)


def test_iterations_that_are_together_above_the_limit_are_no_evidence_to_be_completed(make_record):
    """No iteration alone is proven to be above it; MD that completes the evidence could not prove the opposite."""
    counts = ((20_000, 0, 0), (2482, 18, 0))
    history = [make_record(k, counts=counts, decorrelated=2500.0) for k in range(4)]
    assert all(not proven_above(record.temperatures, STOP) for record in history)
    assert proven_above(pooled(history), STOP) == {StatePoint("", 500.0)}
    assert planned(history, search=SEARCH) == SamplingPlan(600)
    assert planned(history, search=SEARCH, kelvin=500.0).most_steps == 10_000


def test_an_iteration_that_is_no_evidence_does_not_count_as_gathered(make_record):
    """It is judged with the last iteration, because two iterations are judged, but more MD cannot make it evidence."""
    above = make_record(0, counts=((900, 100, 0),), decorrelated=1000.0)
    low = make_record(1, decorrelated=500.0)
    assert planned([above, low]) == planned([low])


def test_evidence_does_not_depend_on_the_candidates_that_are_found(make_record):
    low = [make_record(0, decorrelated=50.0)]
    assert planned(low, search=SEARCH) == planned(low)
    assert planned(low, search=SEARCH).most_steps == 0


def test_exploding_md_does_not_go_on(make_record):
    exploding = make_record(counts=((400, 0, 600),), decorrelated=50.0)
    assert planned([exploding], search=SEARCH) == SamplingPlan(600)


@pytest.mark.parametrize(("driver", "evaluations"), [("rotate", 20 + 4), ("mean", 20 * 4 + 4)])
def test_the_search_costs_as_much_as_the_training(driver, evaluations):
    """Counted by hand: a stride of 20 steps, four members, 16 replicas at four temperatures."""
    sampling = SAMPLING.model_copy(update={"driver": driver})
    steps = affordable_steps(sampling, trained_frames=4 * 12_000, members=4, points=4)
    assert steps % 20 == 0
    cost = steps / 20 * 16 * 4 * evaluations
    assert cost == pytest.approx(TRAINED_FRAME_COST * 4 * 12_000, rel=0.05)
    half = sampling.model_copy(update={"cost_share": 0.5})
    assert affordable_steps(half, trained_frames=4 * 12_000, members=4, points=4) == pytest.approx(steps / 2, abs=20)


def test_without_a_share_of_the_cost_there_is_no_search():
    none = SAMPLING.model_copy(update={"cost_share": 0.0})
    assert affordable_steps(none, trained_frames=48_000, members=4, points=4) == 0
