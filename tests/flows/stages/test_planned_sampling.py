"""How long a temperature is sampled, when the rules that decided it have changed since."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.system import StoredSystem
from al_engine.config import StatePoint, StopConfig
from al_engine.files.part_file import write_part
from al_engine.selection.fates import Counts, Fate
from al_engine.selection.window import Window
from al_engine.structures.bonds import Bonds
from al_engine.structures.frames import Frame
from al_engine.structures.molecules import MoleculeTable
from al_engine.verdict import sampling_plan
from al_engine.verdict.records import IterationRecord, TemperatureRecord
from al_engine.verdict.sampling_plan import SamplingPlan
from flows.cli.init import init_campaign
from flows.stages.search.planned_sampling import plan_text, planned_sampling

FRAMES = 100
WATER = Frame(numbers=[8, 1, 1], positions=np.eye(3))


def finish_iteration(ledger, iteration=0):
    """The parts of an iteration below the limit, with few frames to prove it."""
    kelvins = ledger.config.sampling.temperatures_kelvin
    rng = np.random.default_rng(iteration)
    for kelvin in kelvins:
        with write_part(ledger.part_path(names.sample(iteration, kelvin)), kind="sample", key="a") as root:
            root["deviation_norm"] = rng.uniform(0.02, 0.03, size=FRAMES)
            root["replica"] = np.repeat(np.arange(4), FRAMES // 4)
            root["slot"], root["stop_reason"] = np.arange(4), np.array(["completed"] * 4, dtype="S")
            root.attrs["steps"] = 600
    with write_part(ledger.part_path(names.selection(iteration)), kind="selection", key="a") as root:
        root.attrs.update(Window(100.0, 300.0).to_attributes())
    temperatures = tuple(
        TemperatureRecord(kelvin, Counts(FRAMES, FRAMES, 0, 0), float(FRAMES), 4, 0) for kelvin in kelvins
    )
    record = IterationRecord(iteration, temperatures, 1, 0, 50, 50.0, 20.0, 1.0, steps=600)
    with write_part(ledger.part_path(names.append(iteration)), kind="append", key="a") as root:
        root["fate"] = np.full(FRAMES * len(kelvins), Fate.ACCURATE, dtype=np.int8)
        root.attrs["record"] = record.to_json()


@pytest.fixture
def ledger(tmp_path):
    """A campaign whose iteration 0 is finished."""
    init_campaign(tmp_path / "run", system={"smiles": "CO"}, structure=None, preset="quick")
    ledger = Ledger.open(tmp_path / "run")
    ledger.begin()
    with write_part(ledger.part_path(names.INITIAL_FRAMES), kind="initial-frames", key="a") as root:
        StoredSystem(
            WATER, Bonds(np.array([[0, 1], [0, 2]]), np.ones(2)), MoleculeTable.of(np.zeros(3, int), [])
        ).write(root)
    finish_iteration(ledger)
    return ledger


def test_a_sampled_temperature_keeps_its_plan_when_the_stop_rules_change(ledger, monkeypatch):
    monkeypatch.setattr(sampling_plan, "LARGEST_GROWTH", 1e9)  # the records of this test are of few frames
    cold, hot = ledger.config.state_points[0], ledger.config.state_points[-1]
    planned = planned_sampling(ledger, 1)[hot]
    assert planned.steps > ledger.config.sampling.steps
    assert planned.fresh == ledger.config.sampling.replicas / 2
    path = ledger.part_path(names.sample(1, hot.temperature_kelvin))
    with write_part(path, kind="sample", key="b") as root:
        root.attrs["steps"], root.attrs["fresh"] = planned.steps, planned.fresh
    ledger.config = ledger.config.model_copy(update={"stop": StopConfig(confidence=0.6, fresh_share=0.0)})
    assert planned_sampling(ledger, 1)[hot] == planned
    path.unlink()
    for point in (cold, hot):
        assert planned_sampling(ledger, 1)[point].steps < planned.steps
        assert planned_sampling(ledger, 1)[point].fresh == 0


def test_a_temperature_that_was_lost_is_planned_as_the_others_of_its_iteration_say(ledger):
    """Whatever options and rules have become."""
    plans = planned_sampling(ledger, 1)
    third = list(plans)[2]
    with write_part(ledger.part_path(names.sample(1, third.temperature_kelvin)), kind="sample", key="b") as root:
        root.attrs["steps"] = plans[third].steps
        root.attrs["plans"] = json.dumps([asdict(plan) for plan in plans.values()])
    ledger.config = ledger.config.model_copy(update={"stop": StopConfig(confidence=0.6, fresh_share=0.0)})
    assert planned_sampling(ledger, 1) == plans


def test_the_hotter_temperatures_search_in_the_first_iteration(ledger):
    """Two of four temperatures, four members: as costly as the training; two candidates for each label."""
    training, sampling, labels = ledger.config.training, ledger.config.sampling, ledger.config.selection.max_labels
    for kelvin in sampling.temperatures_kelvin:
        ledger.part_path(names.sample(0, kelvin)).unlink()
    *cold, hot, hottest = planned_sampling(ledger, 0).values()
    assert cold == [SamplingPlan(sampling.steps)] * 2
    assert hot == hottest
    stride = sampling.stride_steps
    evaluations = hot.most_steps * sampling.replicas * 2 * (stride + 4) / stride
    assert evaluations == pytest.approx(3 * training.updates * training.batch_size * 4, rel=0.01)
    assert hot.enough == labels
    duration = hot.most_steps * sampling.timestep_fs / 1000
    assert f"at 700, 900 K, per replica: 0.3 ps, and up to {duration:.3g} ps with fewer than {labels}" in plan_text(
        ledger, 0
    )


def test_a_part_of_an_earlier_version_says_its_steps_only(ledger):
    assert planned_sampling(ledger, 0)[StatePoint("", 300.0)] == SamplingPlan(steps=600, fresh=0)
