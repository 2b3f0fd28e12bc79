"""A campaign whose folder and name have spaces, letters, markup, a line break and bytes of no text, watched as it runs.

A second process is refused, and readers neither wait for the first nor hold it up.
"""

import os
import shlex
import time
from contextlib import ExitStack
from types import SimpleNamespace

import h5py
import pytest
from flow_runs import SMALLER, CommandLine, api

from al_engine.errors import ExitStatus

FOLDER = os.fsdecode("mein [bold]ordner\n-é ".encode() + b"\xff")
NAME = "Fluß, 2. Lauf (é=+@)"
DIRECTORY = f"runs/{NAME}"


@pytest.fixture(scope="module")
def watched(prefect_server, tmp_path_factory):
    """The campaign when it has ended, and what was seen of it as it ran: all tests look at this one."""
    folder = tmp_path_factory.mktemp("running") / FOLDER
    folder.mkdir()
    config = SMALLER.replace("name: smaller", f"name: '{NAME}'").replace("max_iterations: 2", "max_iterations: 1")
    (folder / "my config.yaml").write_text(config)
    commands, directory = CommandLine(prefect_server, folder), folder / DIRECTORY
    process = commands.start("run", "my config.yaml")
    deadline = time.monotonic() + 120
    while not (directory / "campaign.h5").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    seen = SimpleNamespace(commands=commands, pid=process.pid, second=commands("resume", DIRECTORY))
    seen.state = commands.status(DIRECTORY)["state"]
    with ExitStack() as readers:  # of every file, from the moment it is there to the end
        opened = {}
        while process.poll() is None:
            for path in directory.rglob("*.h5"):
                if path not in opened or path.name == "campaign.h5":
                    opened[path] = readers.enter_context(h5py.File(path))
                    assert "schema_version" in opened[path].attrs
            time.sleep(0.2)
    seen.files, seen.status = len(opened), process.returncode
    seen.output, seen.errors = process.communicate()
    return seen


def test_a_second_run_is_refused_and_readers_are_not(watched):
    assert watched.second.returncode == ExitStatus.BAD_INPUT
    assert str(watched.pid) in watched.second.stderr
    assert watched.state == "running"
    assert watched.status in (ExitStatus.DONE, ExitStatus.NOT_CONVERGED), watched.errors
    assert watched.files > 10
    assert watched.commands("verify", DIRECTORY).returncode == ExitStatus.DONE


def test_its_folder_and_its_name_are_shown_and_found_as_they_are(watched, prefect_server):
    assert watched.errors.startswith(f"campaign {NAME} in {DIRECTORY}\n")
    assert f"al-engine status {shlex.quote(DIRECTORY)}\n" in watched.output
    state = watched.commands.status(DIRECTORY)
    assert (state["campaign"], state["state"]) == (NAME, "finished")
    runs = api(prefect_server, "/flow_runs/filter", {"flow_runs": {"tags": {"all_": [f"campaign:{NAME}"]}}})
    assert {run["name"] for run in runs} == {NAME, f"{NAME} · initial set", f"{NAME} · iteration 0"}
    assert {run["state_type"] for run in runs} == {"COMPLETED"}
