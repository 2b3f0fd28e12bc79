"""The command line without a server, and a finished campaign."""

import os

import pytest
from flow_runs import TINY, CommandLine


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
