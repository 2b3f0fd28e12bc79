"""Whom the Prefect server answers: this machine alone, unless it was told otherwise, and then it says so."""

import json
import os
import signal
import socket
import subprocess

import pytest
from flow_runs import CommandLine, copy_database, own_server

ELSEWHERE = "127.0.0.2"  # this machine too, but not the address that 127.0.0.1 is


@pytest.fixture
def command_line(tmp_path):
    """A command line whose server, which it leaves running for the user, ends with the test."""
    environment = own_server(tmp_path / "prefect")
    port = environment["PREFECT_SERVER_API_PORT"]
    environment.pop("PREFECT_SERVER_API_HOST", None)
    yield CommandLine(environment, tmp_path)
    found = subprocess.run(["pgrep", "-f", f"server start.*{port}"], capture_output=True, text=True, check=False)
    for pid in found.stdout.split():
        os.kill(int(pid), signal.SIGTERM)


def reachable(command_line, host):
    with socket.socket() as probe:
        return probe.connect_ex((host, int(command_line.environment["PREFECT_SERVER_API_PORT"]))) == 0


def test_it_answers_this_machine_alone(command_line):
    answer = command_line("ui", "--json")
    assert json.loads(answer.stdout)["started"], answer.stderr
    assert answer.stderr == ""
    assert reachable(command_line, "127.0.0.1")
    assert not reachable(command_line, ELSEWHERE)


def test_told_to_answer_everyone_it_does_and_says_so(command_line, prefect_server):
    copy_database(prefect_server, command_line.directory / "prefect")
    command_line.environment["PREFECT_SERVER_API_HOST"] = "0.0.0.0"  # noqa: S104 (what is tested)
    answer = command_line("ui", "--json")
    assert json.loads(answer.stdout)["started"], answer.stderr
    assert "warning: the Prefect server listens on 0.0.0.0" in answer.stderr
    assert "unset it" in answer.stderr
    assert reachable(command_line, ELSEWHERE)
