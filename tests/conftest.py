"""What tests of whole campaigns share: a real Prefect server, and processes that Ctrl-C can reach."""

import signal

import pytest
from flow_runs import prefect_server_at


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
