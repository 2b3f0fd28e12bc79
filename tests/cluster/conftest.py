"""Lets the tests import their modules by name, and runs the campaign that the others are compared with."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The digest of the campaign on the local executor."""
    from campaigns import LOCAL, digest, ended, start

    folder = tmp_path_factory.mktemp("local")
    ended(start(folder, LOCAL, dict(os.environ)), folder)
    return digest(folder, dict(os.environ))
