"""The executor of this machine: worker processes that train and sample, killed with their parent; the label pool."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from al_engine.campaign.ledger import Ledger
from al_engine.child_process import die_with_parent
from al_engine.errors import ResumableError
from al_engine.protocols import Progress, silent
from flows.compute.stage_call import InlineExecutor, StageCall
from labelers.pool.pool import LabelPool

RELAY_S = 5.0
"""How long to wait for the last messages of workers that end."""
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class _Sender:
    """A worker's end of its crew's pipe. A worker that is killed while it sends leaves the lock locked for ever."""

    def __init__(self, connection: Connection, lock: Any) -> None:
        self._connection, self._lock = connection, lock

    def put(self, message: tuple[int, int, int, str]) -> None:
        """Send a message."""
        with self._lock:
            self._connection.send(message)


def _start_worker(parent: int, messages: _Sender) -> None:
    """Run first in every worker."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    _Channel.messages = messages


class _Channel:
    """A worker's way back to its parent; set once per process by `_start_worker`."""

    messages: Any = None


class _Reporter(logging.Handler):
    """Sends a job's progress to the parent, and with it what models log: how long something is compiled, say."""

    def __init__(self, job_id: int) -> None:
        super().__init__(logging.INFO)
        self.job_id, self.place = job_id, (0, 0)

    def progress(self, done: int, total: int, note: str = "") -> None:
        """The job's progress."""
        self.place = done, total
        _Channel.messages.put((self.job_id, done, total, note))

    def emit(self, record: logging.LogRecord) -> None:
        """A line of the log as a note."""
        self.progress(*self.place, record.getMessage())


def _run(job: Callable[..., Any], job_id: int, arguments: dict[str, Any]) -> Any:
    reporter, models = _Reporter(job_id), logging.getLogger("models")
    models.setLevel(logging.INFO)
    models.addHandler(reporter)
    try:
        return job(**arguments, progress=reporter.progress)
    finally:
        models.removeHandler(reporter)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Child processes started inside have single-threaded maths libraries: read once, when their Python starts."""
    before = {name: os.environ.get(name) for name in THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Crew:
    """Workers that are started together, with a pipe of their own, to which the parent never writes."""

    def __init__(self, workers: int, watchers: Mapping[int, Progress]) -> None:
        context = multiprocessing.get_context("spawn")
        self._messages, sender = context.Pipe(duplex=False)
        self._end, self._ender = context.Pipe(duplex=False)
        self._watchers = watchers
        self.executor = ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=_start_worker,
            initargs=(os.getpid(), _Sender(sender, context.Lock())),
        )
        with one_thread_each():
            for _ in range(workers):  # each starts a worker, here: one started by a job would end with its thread
                self.executor.submit(os.getpid)
        self._relay = threading.Thread(target=self._relay_progress, name="progress", daemon=True)
        self._relay.start()

    def kill(self) -> None:
        """Kill the workers."""
        for process in list((self.executor._processes or {}).values()):  # noqa: SLF001 (no public way before 3.14)
            process.kill()

    def close(self) -> None:
        """Wait for what runs, and end the workers."""
        self.executor.shutdown(wait=True, cancel_futures=True)
        self._ender.close()
        self._relay.join(RELAY_S)

    def _relay_progress(self) -> None:
        while self._messages in wait([self._messages, self._end]):
            job_id, done, total, note = self._messages.recv()
            watcher = self._watchers.get(job_id)
            if watcher is not None:  # a late message of a finished job
                watcher(done, total, note)


class ComputePool:
    """Runs jobs, functions that take keyword arguments and a `progress`, in worker processes.

    They are started with the first job: a campaign that has nothing to train or sample needs none.

    A job whose worker died is tried once more in new ones: jobs write their parts whole and go on from checkpoints, so
    that what an operator or a full memory killed costs minutes and not the campaign.

    Args:
        workers: How many at a time.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._watchers: dict[int, Progress] = {}
        # The kernel kills a worker with the thread that started it, so one thread of the pool's own starts them all.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute-pool-starter")
        self._crew: _Crew | None = None
        self._changing = threading.Lock()
        self._closed = False
        self._next_id = iter(range(2**62))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is not None:  # an interrupt must not wait for jobs of many minutes
            self.kill()
        with self._changing:
            self._closed = True
            if self._crew is not None:
                self._crew.close()
        self._starter.shutdown()

    def kill(self) -> None:
        """Kill the workers; whoever waits for a job gets its `ResumableError`."""
        self._closed = True
        with self._changing:  # workers that are just being started
            if self._crew is not None:
                self._crew.kill()

    def run(self, job: Callable[..., Any], *, progress: Progress = silent, **arguments: Any) -> Any:
        """Run one job and wait for it; call from several threads to use several workers.

        Raises:
            ResumableError: If its worker died (out of memory, killed), and another one too.
        """
        job_id = next(self._next_id)
        self._watchers[job_id] = progress
        try:
            broken: _Crew | None = None
            for _ in range(2):
                crew = self._other_than(broken)
                if crew is None:
                    break
                with suppress(BrokenProcessPool):
                    return crew.executor.submit(_run, job, job_id, arguments).result()
                broken = crew
        finally:
            del self._watchers[job_id]
        raise ResumableError(
            "a worker process died (killed, or out of memory). Nothing finished is lost: `al-engine resume` goes on"
        )

    def _other_than(self, broken: _Crew | None) -> _Crew | None:
        """The workers, started if there are none yet or these broke; None once the pool is closed."""
        with self._changing:
            if self._closed:
                return None
            if self._crew is broken:
                if broken is not None:
                    broken.close()
                self._crew = self._starter.submit(_Crew, self.workers, self._watchers).result()
            return self._crew


def run_call(*, call: Mapping[str, Any], directory: str, device: str, label_workers: int, progress: Progress) -> None:
    """Run a stage call in a process without a label pool: a job that asks for a pool gets a pool of its own."""

    @contextmanager
    def label_pool() -> Iterator[LabelPool]:
        config = Ledger.open(Path(directory)).config
        with LabelPool(config.labels, workers=label_workers, periodic=config.labels_boxes) as pool:
            yield pool

    executor = InlineExecutor(Path(directory), device=device, label_pool=label_pool, label_workers=label_workers)
    executor.run(StageCall.from_dict(call), progress)


class LocalExecutor:
    """Runs stage calls on this machine.

    Calls that compute go to worker processes. Calls that label, or need nothing, run in the caller's thread; those that
    label use a pool that lives as long as the executor.

    Args:
        directory: The campaign directory.
        device: `cpu` or `cuda`.
        compute: Workers that compute.
        label_pool: Workers that label.
        label_workers: Number of workers that a computing job may start for labels of its own.
    """

    def __init__(
        self, directory: Path, *, device: str, compute: ComputePool, label_pool: LabelPool, label_workers: int
    ) -> None:
        self._directory, self._device = directory, device
        self._compute, self._label_pool, self._label_workers = compute, label_pool, label_workers
        self._here = InlineExecutor(directory, label_pool=lambda: nullcontext(label_pool), label_workers=label_workers)

    @property
    def workers(self) -> int:
        """Number of calls that are computed side by side."""
        return self._compute.workers

    def run(self, call: StageCall, progress: Progress) -> None:
        """Run a call and wait for it; may be called from several threads.

        Raises:
            ResumableError: If its worker died, and the next worker too.
            AlEngineError: As the job raises.
        """
        if call.needs == "compute":
            self._compute.run(
                run_call,
                progress=progress,
                call=call.to_dict(),
                directory=str(self._directory),
                device=self._device,
                label_workers=self._label_workers,
            )
            return
        self._here.run(call, progress)

    def stop(self) -> None:
        """Kill all workers at once: what they had in hand is lost, finished parts are on disk."""
        self._compute.kill()
        self._label_pool.close()
