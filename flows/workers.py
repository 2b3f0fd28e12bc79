"""Worker processes that train and sample: spawned once, one thread each on a CPU, killed with their parent."""

import importlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Self

from al_engine.child_process import die_with_parent
from al_engine.errors import ResumableError
from al_engine.protocols import Progress, silent

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _start_worker(parent: int, messages: Any) -> None:
    """Run first in every worker."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    _Channel.messages = messages


class _Channel:
    """A worker's way back to its parent; set once per process by `_start_worker`."""

    messages: Any = None


def _warm_up() -> None:
    """Load torch while the parent does other things."""
    importlib.import_module("torch")


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


class ComputePool:
    """Runs jobs, functions that take keyword arguments and a `progress`, in worker processes.

    Args:
        workers: How many at a time.
    """

    def __init__(self, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.workers = workers
        self._messages = context.SimpleQueue()
        self._watchers: dict[int, Progress] = {}
        self._executor = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(), self._messages)
        )
        self._next_id = iter(range(2**62))
        self._relay = threading.Thread(target=self._relay_progress, name="progress", daemon=True)

    def __enter__(self) -> Self:
        """Start the workers from this thread: the kernel kills them when the thread that started them ends."""
        with one_thread_each():
            for _ in range(self.workers):
                self._executor.submit(_warm_up)
        self._relay.start()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is not None:  # an interrupt must not wait for jobs of many minutes
            self.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._messages.put(None)
        self._relay.join()

    def kill(self) -> None:
        """Kill the workers; whoever waits for a job gets its `ResumableError`."""
        for process in list((self._executor._processes or {}).values()):  # noqa: SLF001 (no public way before 3.14)
            process.kill()

    def run(self, job: Callable[..., Any], *, progress: Progress = silent, **arguments: Any) -> Any:
        """Run one job and wait for it; call from several threads to use several workers.

        Raises:
            ResumableError: If the worker died (out of memory, killed).
        """
        job_id = next(self._next_id)
        self._watchers[job_id] = progress
        try:
            return self._executor.submit(_run, job, job_id, arguments).result()
        except BrokenProcessPool:
            raise ResumableError(
                "a worker process died (killed, or out of memory). Nothing finished is lost: `al-engine resume` goes on"
            ) from None
        finally:
            del self._watchers[job_id]

    def _relay_progress(self) -> None:
        while (message := self._messages.get()) is not None:
            job_id, done, total, note = message
            watcher = self._watchers.get(job_id)
            if watcher is not None:  # a late message of a finished job
                watcher(done, total, note)
