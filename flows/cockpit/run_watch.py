"""Cancel and Pause in Prefect's pages, for runs in this process: nobody else would stop or hold them.

Prefect writes down that a run is to be cancelled or paused, and leaves it to the run's infrastructure to act on it. A
campaign's run has none but this process, so this process asks for the state of its own runs.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException

ASK_S = 2.0
"""Time between two questions, s."""
CANCELLED = (StateType.CANCELLING, StateType.CANCELLED)


class RunWatch:
    """The states of a campaign's runs, as the server has them.

    Attributes:
        cancelled: Whether a run was cancelled.
    """

    def __init__(self, on_cancel: Callable[[], None]) -> None:
        self.cancelled = False
        self._on_cancel = on_cancel
        self._runs: list[UUID] = []
        self._running = threading.Event()  # cleared while a run is paused
        self._running.set()
        self._over = threading.Event()

    def add(self, run_id: UUID | None) -> None:
        """Watch a run too."""
        if run_id is not None:
            self._runs.append(run_id)

    def wait_while_paused(self, check: Callable[[], None]) -> None:
        """Return at once unless a run is paused; then when it is resumed. `check` may raise meanwhile."""
        while not self._running.wait(ASK_S):
            check()

    def close(self) -> None:
        """Stop watching."""
        self._over.set()

    def watch(self) -> None:
        """Ask until the watch is closed or a run is cancelled; in a thread of its own."""
        with get_client(sync_client=True) as client:
            while not self._over.wait(ASK_S):
                states = set()
                for run_id in tuple(self._runs):
                    with suppress(httpx.HTTPError, PrefectException):  # a server that is restarted; asked again
                        states.add(client.read_flow_run(run_id).state_type)
                if states & set(CANCELLED):
                    self.cancelled = True
                    self._running.set()
                    self._on_cancel()
                    return
                if StateType.PAUSED in states:
                    self._running.clear()
                elif states:
                    self._running.set()


@contextmanager
def watched(run_id: UUID | None, on_cancel: Callable[[], None]) -> Iterator[RunWatch]:
    """Watch a run while the block runs; `on_cancel` is called once if the run is cancelled, in another thread."""
    watch = RunWatch(on_cancel)
    watch.add(run_id)
    thread = threading.Thread(target=watch.watch, name="run-watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.close()
