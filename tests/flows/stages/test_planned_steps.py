"""How long an iteration samples, when the rules that decided it have changed since."""

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.config import StopConfig
from al_engine.files.part_file import write_part
from al_engine.selection.fates import Counts
from al_engine.verdict.records import IterationRecord, TemperatureRecord
from flows.cli.init import init_campaign
from flows.stages.sampling import planned_steps


def record(iteration):
    """Below the limit, with few frames to prove it."""
    temperatures = (TemperatureRecord(300.0, Counts(100, 100, 0, 0), 100.0, 8, 0),)
    return IterationRecord(iteration, temperatures, 1, 0, 50, 50.0, 20.0, 1.0, steps=600)


def test_what_was_sampled_stays_when_the_stop_rules_change(tmp_path):
    init_campaign(tmp_path / "run", system={"smiles": "CO"}, structure=None, preset="quick")
    ledger = Ledger.open(tmp_path / "run")
    ledger.begin()
    with write_part(ledger.part_path(names.append(0)), kind="append", key="a") as root:
        root.attrs["record"] = record(0).to_json()
    planned = planned_steps(ledger, 1)
    assert planned > ledger.config.sampling.steps
    path = ledger.part_path(names.sample(1, ledger.config.sampling.temperatures_kelvin[-1]))
    with write_part(path, kind="sample", key="b") as root:
        root.attrs["steps"] = planned
    ledger.config = ledger.config.model_copy(update={"stop": StopConfig(confidence=0.6)})
    assert planned_steps(ledger, 1) == planned
    path.unlink()
    assert planned_steps(ledger, 1) < planned
