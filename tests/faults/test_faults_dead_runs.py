"""A campaign that was killed shows as Crashed in Prefect's pages within two minutes, without anybody's help."""

import os
import signal
import time

import pytest
from flow_runs import SMALLER, CommandLine, api

WITHIN_S = 120


@pytest.mark.timeout(400)
def test_a_killed_run_is_shown_as_crashed_within_two_minutes(prefect_server, tmp_path):
    name = "killed-and-left"
    (tmp_path / "c.yaml").write_text(
        SMALLER.replace("name: tiny", f"name: {name}").replace("updates: 100", "updates: 10000")
    )
    process = CommandLine(prefect_server, tmp_path).start("run", "c.yaml", "--dir", "killed")
    asked = {"flow_runs": {"tags": {"all_": [f"campaign:{name}"]}}}

    def states():
        return sorted(run["state_type"] for run in api(prefect_server, "/flow_runs/filter", asked))

    deadline = time.monotonic() + 120
    while not any((tmp_path / "killed" / "parts").glob("iter000-*.checkpoint")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(35)  # a beat has been
    assert "RUNNING" in states()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed = time.monotonic()
    while "RUNNING" in states():
        assert time.monotonic() - killed < WITHIN_S
        time.sleep(1.0)
    assert "CRASHED" in states()
