"""A campaign that was killed shows as Crashed in Prefect's pages within two minutes, without anybody's help."""

import os
import signal
import time
from pathlib import Path

import pytest
from ase.build import molecule
from ase.io import write
from flow_runs import SMALLER, CommandLine, api

FLOWS = Path(__file__).parent.parent / "flows"
WITHIN_S = 120
A_BEAT_S = 35
"""Prefect's heartbeats are 30 s apart."""


@pytest.mark.timeout(400)
def test_a_killed_run_is_shown_as_crashed_within_two_minutes(prefect_server, tmp_path):
    name = "killed-and-left"
    labels = "labels: {backend: ase, ase_calculator: 'endless_calculator:Endless'}"
    write(tmp_path / "frames.xyz", [molecule("CH3OH") for _ in range(32)])  # no geometry is compared before the run
    text = SMALLER.replace("name: smaller", f"name: {name}").replace(
        "duration_ps: 1.0", "source: file, file: frames.xyz"
    )
    (tmp_path / "c.yaml").write_text(text.replace("labels: {backend: tblite, chunk_frames: 20}", labels))
    environment = {**prefect_server, "PYTHONPATH": os.pathsep.join([str(FLOWS), os.environ.get("PYTHONPATH", "")])}
    process = CommandLine(environment, tmp_path).start("run", "c.yaml", "--dir", "killed")
    asked = {"flow_runs": {"tags": {"all_": [f"campaign:{name}"]}}}

    def states():
        return sorted(run["state_type"] for run in api(prefect_server, "/flow_runs/filter", asked))

    deadline = time.monotonic() + 120
    while not any((tmp_path / "killed" / "parts").glob("*.journal")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(A_BEAT_S)
    assert "RUNNING" in states()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed = time.monotonic()
    while "RUNNING" in states():
        assert time.monotonic() - killed < WITHIN_S
        time.sleep(1.0)
    assert "CRASHED" in states()
