"""The command line without a server, and a finished campaign."""

import os
import subprocess
from pathlib import Path

import pytest
from flow_runs import TINY, CommandLine
from shared import once


@pytest.fixture
def command_line(tmp_path):
    """The command line for what needs no server: a Prefect address where nothing answers would be an error."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PREFECT_HOME": str(tmp_path / "prefect")}
    return CommandLine(environment, tmp_path)


@pytest.fixture(scope="session")
def finished(prefect_server):
    """A finished tiny campaign: (command line, campaign directory, the run's result). Of all tests: change a copy."""

    def run(folder):
        (folder / "tiny.yaml").write_text(TINY)
        result = CommandLine(prefect_server, folder)("run", "tiny.yaml", "--dir", "tiny")
        return {"folder": str(folder), "status": result.returncode, "stdout": result.stdout, "stderr": result.stderr}

    made = once("finished", run)
    folder = Path(made["folder"])
    result = subprocess.CompletedProcess([], made["status"], made["stdout"], made["stderr"])
    return CommandLine(prefect_server, folder), folder / "tiny", result
