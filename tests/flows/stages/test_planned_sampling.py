"""How long a temperature is sampled, when the rules that decided it have changed since."""

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.config import StopConfig
from al_engine.files.part_file import write_part
from al_engine.selection.fates import Counts, Fate
from al_engine.selection.window import Window
from al_engine.verdict.records import IterationRecord, TemperatureRecord
from al_engine.verdict.sampling_plan import SamplingPlan
from flows.cli.init import init_campaign
from flows.stages.planned_sampling import planned_sampling

FRAMES = 100


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


def test_a_sampled_temperature_keeps_its_plan_when_the_stop_rules_change(tmp_path):
    init_campaign(tmp_path / "run", system={"smiles": "CO"}, structure=None, preset="quick")
    ledger = Ledger.open(tmp_path / "run")
    ledger.begin()
    finish_iteration(ledger)
    cold, hot = ledger.config.sampling.temperatures_kelvin[0], ledger.config.sampling.temperatures_kelvin[-1]
    planned = planned_sampling(ledger, 1)[hot]
    assert planned.steps > ledger.config.sampling.steps
    assert planned.fresh == ledger.config.sampling.replicas / 2
    path = ledger.part_path(names.sample(1, hot))
    with write_part(path, kind="sample", key="b") as root:
        root.attrs["steps"], root.attrs["fresh"] = planned.steps, planned.fresh
    ledger.config = ledger.config.model_copy(update={"stop": StopConfig(confidence=0.6, fresh_share=0.0)})
    assert planned_sampling(ledger, 1)[hot] == planned
    path.unlink()
    for kelvin in (cold, hot):
        assert planned_sampling(ledger, 1)[kelvin].steps < planned.steps
        assert planned_sampling(ledger, 1)[kelvin].fresh == 0


def test_a_part_of_an_earlier_version_says_its_steps_only(tmp_path):
    init_campaign(tmp_path / "run", system={"smiles": "CO"}, structure=None, preset="quick")
    ledger = Ledger.open(tmp_path / "run")
    ledger.begin()
    finish_iteration(ledger)
    assert planned_sampling(ledger, 0)[300.0] == SamplingPlan(steps=600, fresh=0)
