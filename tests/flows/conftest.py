"""The command line without a server, and a finished campaign."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from flow_runs import TINY, CommandLine
from shared import once

from flows.cli import app as cli


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


def written(folder):
    """Everything in a folder, and when it was written; the lock apart, which is only held."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run a command in this process, in the folder `work`, that must be refused; returns its message."""
    handler = signal.getsignal(signal.SIGTERM)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments):
        before = written(folder)
        monkeypatch.setattr(sys, "argv", ["al-engine", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output, message = capsys.readouterr()
        assert caught.value.code == 2, message
        assert output == ""
        assert "Traceback" not in message
        assert written(folder) == before
        return message

    yield run
    signal.signal(signal.SIGTERM, handler)
