"""What is made once for all processes of a test run."""

import json
import os
from pathlib import Path

from filelock import FileLock

FOLDER = "AL_ENGINE_TESTS_FOLDER"
"""Environment variable with the folder that all processes of a run share; see `conftest.pytest_configure`."""


def once(name, make):
    """What `make(folder)` returns, as JSON would have it: called by the first process that asks, the others wait."""
    folder = Path(os.environ[FOLDER]) / name
    folder.mkdir(exist_ok=True)
    made = folder / "made.json"
    with FileLock(folder / "lock"):
        if not made.exists():
            made.write_text(json.dumps(make(folder)))
    return json.loads(made.read_text())
