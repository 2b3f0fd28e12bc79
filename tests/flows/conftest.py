"""A real Prefect server, and a finished campaign."""

import os
import signal

import pytest
from flow_runs import TINY, CommandLine, prefect_server_at


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """A shell's background jobs ignore SIGINT, and so would every process the tests start from one."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """A real server with a database of its own; yields the environment that points to it."""
    with prefect_server_at(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


@pytest.fixture
def command_line(tmp_path):
    """The command line for what needs no server: a Prefect address where nothing answers would be an error."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PREFECT_HOME": str(tmp_path / "prefect")}
    return CommandLine(environment, tmp_path)


@pytest.fixture(scope="session")
def finished(prefect_server, tmp_path_factory):
    """A finished tiny campaign: (command line, campaign directory, the run's result)."""
    directory = tmp_path_factory.mktemp("campaign")
    (directory / "tiny.yaml").write_text(TINY)
    command_line = CommandLine(prefect_server, directory)
    result = command_line("run", "tiny.yaml", "--dir", "tiny")
    return command_line, directory / "tiny", result
