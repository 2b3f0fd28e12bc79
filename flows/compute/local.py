"""The executor of this machine: worker processes that train and sample and die with their parent, and a label pool."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

from al_engine import errors
from al_engine.campaign.ledger import Ledger
from al_engine.child_process import ChildProcess, Message
from al_engine.errors import ResumableError
from al_engine.protocols import Progress, silent
from flows.compute.stage_call import InlineExecutor, StageCall
from labelers.pool.pool import LabelPool


class ComputePool:
    """Runs jobs in worker processes (`flows.compute.worker`), one job per worker at a time.

    A worker is started when a job finds none idle: a campaign with nothing to train or sample starts no workers.

    A job whose worker died is run once more by a new worker. Jobs write whole parts and resume from checkpoints, so a
    worker that is killed by an operator or for lack of memory costs minutes, not the campaign.

    Args:
        workers: Largest number of worker processes.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        # The kernel kills a worker when the thread that started it ends, so a thread of the pool starts all workers.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute-pool-starter")
        self._free = threading.Semaphore(workers)
        self._changing = threading.Lock()
        self._busy: set[ChildProcess] = set()
        self._idle: list[ChildProcess] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is None:  # an interrupt must not wait minutes for running jobs
            for _worker in range(self.workers):
                self._free.acquire()
            self._free.release(self.workers)
        self.kill()
        self._starter.shutdown()

    def kill(self) -> None:
        """Kill the workers and start no more; callers that wait for a job get a `ResumableError`."""
        with self._changing:
            self._closed = True
            for worker in self._idle:
                worker.kill()
            self._idle.clear()
            for worker in self._busy:
                worker.kill_process()  # the thread that waits for its answer closes the connection

    def run(self, job: Callable[..., Any], *, progress: Progress = silent, **arguments: Any) -> Any:
        """Run one job and wait for it; call from several threads to use several workers.

        Args:
            job: A function of a module, which takes `arguments` and a `progress`.
            progress: Receives the progress of the job.
            arguments: JSON-able keyword arguments.

        Returns:
            The job's result, as JSON holds it.

        Raises:
            ResumableError: If its worker died (out of memory, killed), and the worker of the second attempt too.
            AlEngineError: As the job raises.
            RuntimeError: If the job raised another exception; the message holds the traceback of the worker.
        """
        request = {"job": f"{job.__module__}:{job.__qualname__}", "arguments": arguments}
        with self._free:
            for _ in range(2):
                answer = self._answer(request, progress)
                if answer is not None:
                    return _result(answer)
        raise ResumableError(
            "a worker process died (killed, or out of memory). Nothing finished is lost: `al-engine resume` goes on"
        )

    def _answer(self, request: Message, progress: Progress) -> Message | None:
        """The answer of a worker to a request; None if the worker died, or the pool is closed."""
        worker = self._take()
        if worker is None:
            return None
        answer = None
        try:
            if worker.send(request):
                while (answer := worker.receive()) is not None and "progress" in answer:
                    progress(*answer["progress"])
        finally:
            with self._changing:
                self._busy.discard(worker)
                if self._closed or answer is None or "progress" in answer:  # dead, or `progress` raised an exception
                    worker.kill()
                else:
                    self._idle.append(worker)
        return answer

    def _take(self) -> ChildProcess | None:
        """An idle worker, or a new one; None once the pool is closed."""
        with self._changing:
            if self._closed:
                return None
            worker = self._idle.pop() if self._idle else None
            if worker is not None and not worker.alive:  # killed since its last job
                worker.kill()
                worker = None
            worker = worker or ChildProcess("flows.compute.worker", self._starter)
            self._busy.add(worker)
            return worker


def _result(answer: Message) -> Any:
    """The result of a job from its worker's answer; raises the error that the job raised."""
    if "error" in answer:
        raise vars(errors)[answer["error"]](answer["message"])
    if "bug" in answer:
        raise RuntimeError(f"a job failed in its worker process:\n{answer['bug']}")
    return answer["result"]


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
