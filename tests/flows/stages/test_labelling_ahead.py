"""Labels that are computed while other temperatures are still sampled: in the cache, and nowhere else."""

from types import SimpleNamespace

import pytest

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.config.reader import parse_config
from al_engine.files.frames_hdf5 import read_frames
from flows.compute.stage_call import StageCall
from flows.stages.labels import labelling, labelling_ahead
from flows.stages.order import iteration_steps
from tests.flows.stage_runs import begun

TEXT = """
name: ahead
seed: 3
system: {smiles: CO}
initial: {frames: 24, test_frames: 8, duration_ps: 1.0}
model:
  short: {cutoff_ang: 4.0, channels: 4, l_max: 1, radial_mlp: [8]}
  long: {cutoff_ang: 6.0, channels: 4, l_max: 0, radial_mlp: []}
training: {updates: 60, validation_interval: 20, members: 2}
sampling: {temperatures_kelvin: [300, 600, 900], replicas: 3, steps: 60, stride_steps: 10, cost_share: 0}
selection: {max_labels: MAX, lower_mev_per_ang: 20, upper_mev_per_ang: 3000}
labels: {backend: tblite, chunk_frames: 20}
stop: {max_iterations: 2}
execution: {overlap: true}
"""


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A campaign whose first iteration is sampled at all temperatures, and the step that sampled them."""
    with begun(tmp_path_factory.mktemp("ahead"), TEXT.replace("MAX", "500")) as campaign:
        for step in iteration_steps(campaign.ledger, campaign.level, 0):
            for stages in step.calls.values():
                campaign.run(*stages)
            if step.kind == "sample":
                yield campaign, step
                return


def ahead_of(campaign, step, *titles):
    call = step.ahead({f"sample {title}" for title in titles})
    campaign.executor.run(StageCall.from_dict(call.to_dict()))
    return call


def cached(campaign, frames):
    with labelling.label_cache(campaign.ledger.directory, campaign.config, campaign.level) as cache:
        return cache.find(frames)


def test_the_frames_that_will_be_chosen_at_finished_temperatures_have_labels_and_no_others(sampled):
    campaign, step = sampled
    parts = set(Ledger.open(campaign.ledger.directory).reader().names)
    call = ahead_of(campaign, step, "900 K", "300 K")
    assert call.kind == "label"
    assert set(Ledger.open(campaign.ledger.directory).reader().names) == parts
    rest = iteration_steps(campaign.ledger, campaign.level, 0)
    select = next(step for step in rest if step.kind == "select")
    (stage,) = select.calls["select frames"]
    campaign.run(stage)
    with campaign.ledger.reader().open(names.selection(0)) as root:
        frames = read_frames(root["selected"])
        point = root["source"][()][root["chosen"][()], 0]
    found = cached(campaign, frames)
    assert {0, 1, 2} == set(point.tolist())
    assert [index in found for index in range(len(frames))] == (point != 1).tolist()


def test_nothing_is_labelled_ahead_if_there_are_more_candidates_than_labels(sampled):
    campaign, step = sampled
    selection = campaign.config.selection.model_copy(update={"max_labels": 2})
    work = SimpleNamespace(
        config=campaign.config.model_copy(update={"selection": selection}),
        parts=campaign.ledger.reader(),
        label_pool=lambda: pytest.fail("labels were asked for"),
    )
    call = step.ahead({"sample 900 K"})
    labelling_ahead.label_ahead(work, **call.arguments)


@pytest.mark.parametrize("change", [{"cut_centre": "random"}, {"adaptive": {"enabled": True, "floor_mev_per_ang": 10}}])
def test_nothing_is_labelled_ahead_if_candidates_depend_on_all_samples(sampled, tmp_path, change):
    text = TEXT.replace("MAX", "5").replace(
        "selection: {", f"selection: {{{str(change)[1:-1]}, ".replace("True", "true")
    )
    ledger = Ledger(tmp_path, parse_config(text, source="test"))
    assert labelling_ahead.plan(ledger, sampled[0].level, 0, [0]) is None
