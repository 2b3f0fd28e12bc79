"""The executor of this machine: worker processes that train and sample and die with their parent, and a label pool."""

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
"""Time to wait for the last messages of workers that end, s."""
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads of maths libraries."""


class _Sender:
    """A worker's end of its crew's pipe.

    A worker that is killed while it sends leaves the lock locked for ever, so every crew has its own pipe and lock.
    """

    def __init__(self, connection: Connection, lock: Any) -> None:
        self._connection, self._lock = connection, lock

    def put(self, message: tuple[int, int, int, str]) -> None:
        """Send a message."""
        with self._lock:
            self._connection.send(message)


def _start_worker(parent: int, messages: _Sender) -> None:
    """Initialise a worker process."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _Channel.messages = messages


class _Channel:
    """A worker's connection to its parent, set once per process by `_start_worker`."""

    messages: Any = None


class _Reporter(logging.Handler):
    """Sends to the parent a job's progress, and as notes the log lines of `models`, such as compile times."""

    def __init__(self, job_id: int) -> None:
        super().__init__(logging.INFO)
        self.job_id, self.place = job_id, (0, 0)

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Send the progress of the job."""
        self.place = done, total
        _Channel.messages.put((self.job_id, done, total, note))

    def emit(self, record: logging.LogRecord) -> None:
        """Send a log line as a note."""
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
    """Limit maths libraries to one thread in child processes started in the block; they read the setting at start."""
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


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in this thread and in child processes started in the block, which have no handler at first."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Crew:
    """Workers that are started together and share a pipe, to which the parent never writes."""

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
        with one_thread_each(), _interrupts_blocked():
            for _ in range(workers):  # start all workers in this thread: a worker ends with its starter
                self.executor.submit(os.getpid)
        self._relay = threading.Thread(target=self._relay_progress, name="progress", daemon=True)
        self._relay.start()

    def kill(self) -> None:
        """Kill the workers."""
        for process in list((self.executor._processes or {}).values()):  # noqa: SLF001 (no public way before 3.14)
            process.kill()

    def close(self) -> None:
        """Wait for running jobs, and end the workers."""
        self.executor.shutdown(wait=True, cancel_futures=True)
        self._ender.close()
        self._relay.join(RELAY_S)

    def _relay_progress(self) -> None:
        while self._messages in wait([self._messages, self._end]):
            job_id, done, total, note = self._messages.recv()
            watcher = self._watchers.get(job_id)
            if watcher is not None:  # None for late messages of a finished job
                watcher(done, total, note)


class ComputePool:
    """Runs jobs in worker processes. A job is a function that takes keyword arguments and a `progress`.

    The workers are started with the first job: a campaign with nothing to train or sample starts no workers.

    A job whose worker died is run once more in new workers. Jobs write whole parts and resume from checkpoints, so a
    worker that is killed by an operator or for lack of memory costs minutes, not the campaign.

    Args:
        workers: Number of worker processes.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._watchers: dict[int, Progress] = {}
        # The kernel kills a worker when the thread that started it ends, so a thread of the pool starts all workers.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute-pool-starter")
        self._crew: _Crew | None = None
        self._changing = threading.Lock()
        self._closed = False
        self._next_id = iter(range(2**62))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is not None:  # an interrupt must not wait minutes for running jobs
            self.kill()
        with self._changing:
            self._closed = True
            if self._crew is not None:
                self._crew.close()
        self._starter.shutdown()

    def kill(self) -> None:
        """Kill the workers; callers that wait for a job get a `ResumableError`."""
        self._closed = True
        with self._changing:  # waits for a crew that is being started
            if self._crew is not None:
                self._crew.kill()

    def run(self, job: Callable[..., Any], *, progress: Progress = silent, **arguments: Any) -> Any:
        """Run one job and wait for it; call from several threads to use several workers.

        Raises:
            ResumableError: If its worker died (out of memory, killed), and the worker of the second attempt too.
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
        """A crew other than `broken`, started if necessary; None once the pool is closed."""
        with self._changing:
            if self._closed:
                return None
            if self._crew is broken:
                if broken is not None:
                    broken.close()
                self._crew = self._starter.submit(_Crew, self.workers, self._watchers).result()
            return self._crew


def run_call(*, call: Mapping[str, Any], directory: str, device: str, label_workers: int, progress: Progress) -> None:
    """Run a stage call in a process that has no label pool; a job that needs a pool gets a pool of its own."""

    @contextmanager
    def label_pool() -> Iterator[LabelPool]:
        config = Ledger.open(Path(directory)).config
        with LabelPool(config.labels, workers=label_workers, periodic=config.labels_boxes) as pool:
            yield pool

    executor = InlineExecutor(Path(directory), device=device, label_pool=label_pool, label_workers=label_workers)
    executor.run(StageCall.from_dict(call), progress)


class LocalExecutor:
    """Runs stage calls on this machine.

    Calls that compute go to worker processes. Calls that label, or need nothing, run in the caller's thread. Calls that
    label share one pool of workers.

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
            ResumableError: If its worker died, and the worker of the second attempt too.
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
        """Kill all workers at once: running calls are lost, finished parts are on disk."""
        self._compute.kill()
        self._label_pool.close()
