"""Pause, Resume and Cancel on Prefect's pages: the tests send the requests of the buttons to the server."""

import time

from flow_runs import SMALLER, CommandLine, api

from al_engine.errors import ExitStatus

LONG = SMALLER.replace("name: smaller", "name: held").replace("max_iterations: 2", "max_iterations: 50")
HOLD_S = 10.0
"""Longer than any stage of this campaign."""


def test_pause_holds_the_campaign_and_cancel_stops_it_resumable(prefect_server, tmp_path):
    (tmp_path / "c.yaml").write_text(LONG)
    process = CommandLine(prefect_server, tmp_path).start("run", "c.yaml", "--dir", "held")
    parts = tmp_path / "held" / "parts"

    def wait_for_more_than(count):
        deadline = time.monotonic() + 120
        while len(list(parts.glob("*.h5"))) <= count:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def run():
        names = {"tags": {"all_": ["campaign:held"]}, "parent_task_run_id": {"is_null_": True}}
        runs = api(prefect_server, "/flow_runs/filter", {"flow_runs": names, "sort": "START_TIME_ASC"})
        return next(run for run in runs if run["name"] == "held")

    wait_for_more_than(0)
    held = {"state": {"type": "PAUSED", "name": "Paused"}, "force": True}
    api(prefect_server, f"/flow_runs/{run()['id']}/set_state", held)
    count, since, deadline = 0, time.monotonic(), time.monotonic() + 90
    while time.monotonic() - since < HOLD_S:  # the stages in hand are finished, then nothing happens
        if len(list(parts.glob("*.h5"))) != count:
            count, since = len(list(parts.glob("*.h5"))), time.monotonic()
        assert time.monotonic() < deadline, "the campaign goes on"
        time.sleep(0.1)
    assert process.poll() is None
    api(prefect_server, f"/flow_runs/{run()['id']}/resume", {})
    wait_for_more_than(count)
    api(prefect_server, f"/flow_runs/{run()['id']}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == ExitStatus.INTERRUPTED, errors
    assert "Traceback" not in errors
    assert "al-engine resume" in errors
    assert run()["state_type"] == "CANCELLED"
