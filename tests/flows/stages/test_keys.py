"""Keys of parts have every option that changes the part; defaults leave the keys of earlier versions."""

import pytest

from al_engine.campaign.labels import LevelOfTheory
from al_engine.campaign.ledger import Ledger
from al_engine.config.presets import merged
from al_engine.config.reader import validate_config
from al_engine.verdict.sampling_plan import SamplingPlan
from flows.stages.initial_set import importing, initial
from flows.stages.search import sampling

LEVEL = LevelOfTheory("GFN2-xTB", "tblite", "0.4")
CONFIG = {
    "name": "keys",
    "system": {"smiles": "CO"},
    "labels": {"backend": "tblite"},
    "initial": {"source": "reference"},
    "data": [{"file": "mine.xyz"}],
}
SEARCH, EVIDENCE = SamplingPlan(steps=10, most_steps=50, enough=4), SamplingPlan(steps=10)


@pytest.fixture
def inputs(tmp_path):
    """The inputs of a stage in a campaign with some options."""

    def of(stage, *, plan=SEARCH, **options):
        (tmp_path / "mine.xyz").touch()
        ledger = Ledger(tmp_path, validate_config(merged(CONFIG, options), source="test"))
        if stage is sampling:
            found = sampling.plan(ledger, 0, 0, [plan] * len(ledger.config.state_points))
        else:
            found = stage.plan(ledger, LEVEL)
        return found.inputs

    return of


@pytest.mark.parametrize(
    ("stage", "names", "options"),
    [
        (sampling, {"separation_strides"}, {"selection": {"min_separation_strides": 20}}),
        (initial, {"max_force_ev_per_ang"}, {"labels": {"max_force_ev_per_ang": 50.0}}),
        (initial, {"min_distance_ang"}, {"selection": {"min_distance_ang": 0.7}}),
        (initial, {"min_contact_factor"}, {"selection": {"min_contact_factor": 0.6}}),
        (importing, {"max_force_ev_per_ang"}, {"labels": {"max_force_ev_per_ang": 50.0}}),
        (importing, {"elements"}, {"system": {"elements": {"C1": "C"}}}),
    ],
)
def test_an_option_that_changes_a_part_is_in_its_key(stage, names, options, inputs):
    assert inputs(stage, **options).keys() - inputs(stage).keys() == names


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        (sampling, {"plan": EVIDENCE, "selection": {"min_separation_strides": 20}}),
        (sampling, {"selection": {"min_separation_strides": 5}}),  # the search has this separation in any case
        (initial, {"initial": {"source": "anneal"}, "labels": {"max_force_ev_per_ang": 50.0}}),
        (importing, {"selection": {"min_distance_ang": 0.7}}),
    ],
)
def test_an_option_without_an_effect_on_a_part_is_not(stage, options, inputs):
    given = inputs(stage, **options)
    assert given.keys() <= inputs(stage).keys()


def test_defaults_leave_the_keys_of_earlier_versions(inputs):
    assert set(inputs(sampling)) == {
        *("sampling", "trusted", "steps", "most_steps", "enough", "window", "temperature_index", "seed")
    }
    assert set(inputs(initial)) == {*("system", "initial", "cut_molecules", "temperatures", "files", "seed", "level")}
    assert set(inputs(importing)) == {"data", "files", "level"}
