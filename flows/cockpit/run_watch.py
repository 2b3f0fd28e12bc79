"""Cancel, Pause and Suspend on Prefect's pages, for runs in this process.

Prefect records that a run is to be cancelled or paused, and leaves the action to the infrastructure of the run. For the
run of a campaign this process is the infrastructure, so this process polls the states of its own runs.

The run of a deployment is suspended, not paused: its process ends, and Resume lets a worker start another one.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import Pause, PrefectException

ASK_S = 2.0
"""Time between two polls, s."""
SUSPENDED = "Suspended"
"""Name of the state of a paused run whose process is to end."""
CANCELLED = (StateType.CANCELLING, StateType.CANCELLED)
"""States of a run that was cancelled."""


class RunWatch:
    """Polls the states of a campaign's runs on the server.

    Args:
        on_cancel: Called once, in the thread of `watch`, if a run is cancelled.

    Attributes:
        cancelled: Whether a run was cancelled on the server.
    """

    def __init__(self, on_cancel: Callable[[], None]) -> None:
        self.cancelled = False
        self._on_cancel = on_cancel
        self._suspended: State | None = None  # kept after a Resume, which starts another process
        self._runs: list[UUID] = []
        self._running = threading.Event()  # cleared while a run is paused
        self._running.set()
        self._over = threading.Event()

    def add(self, run_id: UUID | None) -> None:
        """Watch a further run; None is ignored."""
        if run_id is not None:
            self._runs.append(run_id)

    def wait_while_paused(self, check: Callable[[], None]) -> None:
        """Wait while a run is paused; `check` is called every `ASK_S` of the wait and may raise.

        Raises:
            Pause: If the run of a deployment was suspended: this process is to end.
        """
        while not self._running.wait(ASK_S):
            check()
            if self._suspended is not None:
                break
        if self._suspended is not None:
            raise Pause(state=self._suspended)

    def close(self) -> None:
        """Stop watching."""
        self._over.set()

    def watch(self) -> None:
        """Poll until the watch is closed or a run is cancelled; runs in a separate thread."""
        with get_client(sync_client=True) as client:
            while not self._over.wait(ASK_S):
                states = set()
                for run_id in tuple(self._runs):
                    # an error means that the server is being restarted; the next poll asks again
                    with suppress(httpx.HTTPError, PrefectException):
                        run = client.read_flow_run(run_id)
                        states.add(run.state_type)
                        self._note_suspension(run)
                if states & set(CANCELLED):
                    self.cancelled = True
                    self._running.set()
                    self._on_cancel()
                    return
                if StateType.PAUSED in states:
                    self._running.clear()
                elif states:
                    self._running.set()

    def _note_suspension(self, run: FlowRun) -> None:
        """Remember that a deployment's run is suspended."""
        if run.deployment_id is not None and run.state is not None and run.state.name == SUSPENDED:
            self._suspended = run.state


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
