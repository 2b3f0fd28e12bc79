"""A Prefect server of the fault tests' own: they run beside those of the flows."""

from pathlib import Path

import pytest
from flow_runs import prefect_server_at

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Where tests run on several cores, these stay together."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("faults"))


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """The environment that points to a real server with a database of its own."""
    with prefect_server_at(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment
