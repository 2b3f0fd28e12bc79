"""What tests of whole campaigns share: a Prefect server, processes that Ctrl-C can reach, what is made only once."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from flow_runs import CommandLine, end_server, heed_interrupts, start_server
from kills import Undisturbed, undisturbed
from shared import FOLDER, once

SLOWEST = (
    "faults/test_kills.py",
    "faults/test_dead_runs.py",  # it mostly waits
    "faults/test_server.py",
    "faults/",  # these need the campaign that the first file runs
    "flows/",
    "models/inference/test_compiled.py",
)
"""Beginnings of the paths of files that are begun first: no process is left alone with a slow file at the end."""


def pytest_configure(config):
    """A folder for what all processes of this run share."""
    if not hasattr(config, "workerinput"):
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="al-engine-tests-")


def pytest_unconfigure(config):
    """End the server and remove the folder when the last process is done."""
    if not hasattr(config, "workerinput"):
        folder = Path(os.environ.pop(FOLDER))
        end_server(folder / "prefect")
        shutil.rmtree(folder)


def pytest_collection_modifyitems(items):
    """Whole campaigns first."""
    here = Path(__file__).parent
    paths = {item.path: item.path.relative_to(here).as_posix() for item in items}
    rank = {
        path: next((rank for rank, beginning in enumerate(SLOWEST) if name.startswith(beginning)), len(SLOWEST))
        for path, name in paths.items()
    }
    items.sort(key=lambda item: rank[item.path])


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    heed_interrupts()


@pytest.fixture(scope="session")
def prefect_server():
    """A real server with a database of its own; the environment that points to it."""
    return once("prefect", start_server)


@pytest.fixture(scope="session")
def alone(prefect_server):
    """What the campaign that is struck and starved comes to if it is left alone."""
    return Undisturbed.from_json(
        once("alone", lambda folder: undisturbed(CommandLine(prefect_server, folder), folder / "alone").as_json())
    )


@pytest.fixture
def rng():
    return np.random.default_rng(7)
