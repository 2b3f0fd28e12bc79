"""Campaigns on systems that nobody tuned for: their figures, and the table."""

import json

import pytest

from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import validate_config
from al_engine.errors import ExitStatus
from flows.session.preflight import preflight
from molecules import CLOCK, MESSAGES, SYSTEMS, markdown, result_of, run

ABOUT = {"command": "python benchmarks/molecules.py", "date": "2026-11-30", "machine": "one", "versions": {}}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_can_be_built_and_labelled(name, tmp_path):
    config = validate_config(merged(PRESETS["quick"], {"name": "case", "system": SYSTEMS[name]}), source="case")
    preflight(config, base_dir=tmp_path)


def ended(folder, *, status, messages=""):
    folder.mkdir()
    (folder / CLOCK).write_text(json.dumps({"seconds": 90.0, "status": status}))
    (folder / MESSAGES).write_text(messages)
    return folder


def test_a_campaign_without_a_verdict_gives_its_last_error(tmp_path):
    found = result_of(ended(tmp_path / "case", status=2, messages="error: first\nthen\nerror: last\n"))
    assert found == {"verdict": "exit 2", "minutes": 1.5, "error": ["error: last"]}


SLOW_ENGINE = f"""
import signal, sys, time

signal.signal(signal.SIGTERM, lambda *_: sys.exit({int(ExitStatus.INTERRUPTED)}))
time.sleep(60)
"""


def test_a_campaign_that_reaches_the_limit_of_time_is_interrupted(tmp_path):
    engine, folder = tmp_path / "engine", tmp_path / "case"
    (engine / "flows" / "cli").mkdir(parents=True)
    (engine / "flows" / "cli" / "app.py").write_text(SLOW_ENGINE)
    (folder / "campaign").mkdir(parents=True)
    (folder / "campaign" / "campaign.yaml").touch()
    run(folder, engine, minutes=0.02)
    clock = json.loads((folder / CLOCK).read_text())
    assert clock["status"] == ExitStatus.INTERRUPTED
    assert 1.2 <= clock["seconds"] < 30
    run(folder, tmp_path / "none", minutes=0.02)
    assert json.loads((folder / CLOCK).read_text())["status"] == ExitStatus.INTERRUPTED


def test_the_table_counts_what_converged(tmp_path):
    converged = {
        "verdict": "converged",
        "minutes": 4.0,
        "stage_seconds": {"train": 300.0, "sample": 100.0, "label": 2.0},
        "labels": 44,
        "acceptance": [0.02, 0.001],
        "test_force_mae_mev_per_ang": [12.0, 8.0],
        "claim_mev_per_ang": 71.0,
    }
    failed = result_of(ended(tmp_path / "case", status=2))
    result = {"versions": {"now": {"about": ABOUT, "systems": {"pyridine": converged, "acetone x 2": failed}}}}
    lines = markdown(result, reading="").splitlines()
    assert "1 of 2 converged; median 2.8 min." in lines
    row = next(line for line in lines if line.startswith("| pyridine"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [
        "converged", "4.0", "300", "100", "2", "44", "2.00, 0.10", "8.0", "71",
    ]  # fmt: skip
    assert "| exit 2 | 1.5 |" in next(line for line in lines if line.startswith("| acetone"))
