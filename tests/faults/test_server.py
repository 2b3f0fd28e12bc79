"""The Prefect server killed, slow, locked out of its database or without it, in the middle of a run."""

import os
import signal
import sqlite3
import subprocess
import time

import pytest
from flow_runs import SMALLER, CommandLine, copy_database, free_port, own_server

from al_engine.campaign.audit.verify import verify
from al_engine.errors import ExitStatus

ENDED = (ExitStatus.DONE, ExitStatus.NOT_CONVERGED)
HELD_UP_S = 12.0
"""Longer than the ten seconds that a server waits for its database."""


def servers(port):
    found = subprocess.run(["pgrep", "-f", f"server start.*{port}"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@pytest.fixture
def command_line(prefect_server, tmp_path):
    """A command line with a server of its own, which it starts itself."""
    environment = own_server(tmp_path / "prefect")
    copy_database(prefect_server, tmp_path / "prefect")
    (tmp_path / "tiny.yaml").write_text(SMALLER)
    yield CommandLine(environment, tmp_path)
    for pid in servers(environment["PREFECT_SERVER_API_PORT"]):
        os.kill(pid, signal.SIGKILL)


def start(command_line):
    """Start a campaign and wait until it trains; also the port of its server."""
    process = command_line.start("run", "tiny.yaml", "--dir", "tiny")
    deadline = time.monotonic() + 180
    while not any((command_line.directory / "tiny" / "parts").glob("iter000-*.checkpoint")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process, int(command_line.environment["PREFECT_SERVER_API_PORT"])


def test_a_slow_a_locked_and_a_killed_server_are_waited_for_or_started_again(command_line):
    process, port = start(command_line)
    (server,) = servers(port)
    os.kill(server, signal.SIGSTOP)
    time.sleep(HELD_UP_S)
    os.kill(server, signal.SIGCONT)
    database = sqlite3.connect(command_line.directory / "prefect" / "prefect.db", isolation_level=None, timeout=60)
    database.execute("BEGIN EXCLUSIVE")
    time.sleep(HELD_UP_S)
    database.rollback()
    database.close()
    os.kill(server, signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode in ENDED, errors
    assert "the Prefect server was gone and has been started again" in errors
    assert "Traceback" not in errors


def test_without_its_database_the_campaign_goes_on_or_can_be_resumed(command_line):
    """Which of the two depends on how many connections the server has open."""
    config = command_line.directory / "tiny.yaml"
    config.write_text(config.read_text().replace("max_iterations: 2", "max_iterations: 1"))
    process, _ = start(command_line)
    for path in (command_line.directory / "prefect").glob("prefect.db*"):
        path.unlink()
    _, errors = process.communicate(timeout=240)
    assert "Traceback" not in errors
    if process.returncode == ExitStatus.INTERRUPTED:
        assert "Nothing finished is lost" in errors
        port = free_port()
        environment = {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_SERVER_API_PORT": str(port)}
        process = command_line.start("resume", "tiny", **environment)
        _, errors = process.communicate(timeout=240)
        for pid in servers(port):
            os.kill(pid, signal.SIGKILL)
    assert process.returncode in ENDED, errors
    assert verify(command_line.directory / "tiny", repaired=False)[0]["sound"]
