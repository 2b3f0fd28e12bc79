"""Pause, Resume and Cancel on Prefect's pages: the tests send the requests of the buttons to the server."""

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from uuid import uuid4

import pytest
from flow_runs import SMALLER, CommandLine, api

from al_engine.errors import CampaignLockedError, ExitStatus

LONG = SMALLER.replace("name: smaller", "name: held").replace("max_iterations: 2", "max_iterations: 50")
HOLD_S = 10.0
"""Longer than any stage of this campaign."""


@pytest.mark.parametrize("of_a_deployment", [True, False])
def test_a_suspended_run_of_a_deployment_ends_its_process_also_if_it_was_resumed_meanwhile(
    of_a_deployment, monkeypatch
):
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import Pause
    from prefect.states import Running, Suspended

    from flows.cockpit import run_watch

    states = [Running(), Suspended(timeout_seconds=300), Running()]

    def read_flow_run(_):
        state = states.pop(0) if len(states) > 1 else states[0]
        return SimpleNamespace(
            state=state, state_type=StateType(state.type), deployment_id=uuid4() if of_a_deployment else None
        )

    @contextmanager
    def client(**_):
        yield SimpleNamespace(read_flow_run=read_flow_run)

    monkeypatch.setattr(run_watch, "get_client", client)
    monkeypatch.setattr(run_watch, "ASK_S", 0.05)
    watch = run_watch.RunWatch(lambda: None)
    watch.add(uuid4())
    thread = threading.Thread(target=watch.watch)
    thread.start()
    time.sleep(1.0)
    try:
        if of_a_deployment:
            with pytest.raises(Pause):
                watch.wait_while_paused(lambda: None)
        else:
            watch.wait_while_paused(lambda: None)
    finally:
        watch.close()
        thread.join()


def test_a_deployed_run_waits_for_its_turn(monkeypatch, tmp_path):
    from flows.cockpit import flow

    tries = []

    @contextmanager
    def opened(*_):
        tries.append(1)
        if len(tries) < 3:
            raise CampaignLockedError("is being run by process 1")
        yield "a session"

    monkeypatch.setattr(flow, "opened", opened)
    monkeypatch.setattr(flow, "ASK_S", 0.01)
    monkeypatch.setattr(flow, "Ledger", SimpleNamespace(open=lambda _: None))
    said = []
    monkeypatch.setattr(flow, "get_run_logger", lambda: SimpleNamespace(info=lambda *words: said.append(words)))
    with flow._opened_in_turn(tmp_path) as session:
        assert session == "a session"
    assert len(said) == 1


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
