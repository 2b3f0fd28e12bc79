"""A pool of worker processes that train and sample, on this machine or on the machine of a remote worker."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from al_engine import errors
from al_engine.child_process import ChildProcess, Message
from al_engine.errors import ResumableError
from al_engine.protocols import Progress, silent

POLL_S = 0.5
"""Time between two looks at the limit of a job and at its cancellation, s."""
WORKER_DIED = "a worker process died (killed, or out of memory). Nothing finished is lost: `al-engine resume` goes on"


class ComputePool:
    """Runs jobs in worker processes (`flows.compute.worker`), one job per worker at a time.

    A worker is started when a job finds none idle: a campaign with nothing to train or sample starts no workers.

    A job whose worker died is run once more by a new worker. Jobs write whole parts and resume from checkpoints, so a
    worker that is killed by an operator or for lack of memory costs minutes, not the campaign.

    Args:
        workers: Largest number of worker processes.
        gpus: The GPUs, as `CUDA_VISIBLE_DEVICES` names them. Every worker sees one of them, from its start on; they
            are shared out evenly. Empty: workers see the GPUs that this process sees.
    """

    def __init__(self, workers: int, *, gpus: Sequence[str] = ()) -> None:
        self.workers = workers
        self._gpus = tuple(gpus)
        self._gpu_of: dict[ChildProcess, str] = {}
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
        with self._free:
            for _ in range(2):
                answer = self.answer(request_of(job, arguments), progress)
                if answer is not None:
                    return result_of(answer)
        raise ResumableError(WORKER_DIED)

    def answer(
        self,
        request: Message,
        progress: Progress,
        *,
        time_limit_s: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Message | None:
        """The answer of a worker to a request, beside the number of workers that `run` keeps to.

        Args:
            request: The request (`request_of`).
            progress: Receives the progress of the job.
            time_limit_s: Time after which the worker is killed, s; None: no limit.
            cancelled: Says whether the worker is to be killed.

        Returns:
            The answer (`result_of`); None if the worker died, was killed, or the pool is closed.
        """
        deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
        worker = self._take()
        if worker is None:
            return None
        answer = None
        try:
            if worker.send(request):
                while (answer := _message(worker, deadline, cancelled)) is not None and "progress" in answer:
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
            worker = worker or self._started()
            self._busy.add(worker)
            return worker

    def _started(self) -> ChildProcess:
        """A new worker, on the GPU that the fewest workers have."""
        self._gpu_of = {worker: gpu for worker, gpu in self._gpu_of.items() if worker.alive}
        taken = Counter(self._gpu_of.values())
        gpu = min(self._gpus, key=lambda each: taken[each], default=None)
        environment = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        worker = ChildProcess("flows.compute.worker", self._starter, environment=environment)
        if gpu is not None:
            self._gpu_of[worker] = gpu
        return worker


def _message(worker: ChildProcess, deadline: float | None, cancelled: Callable[[], bool]) -> Message | None:
    """The next message of a worker; None if it died, its time is over, or its job is cancelled."""
    while not (cancelled() or (deadline is not None and time.monotonic() > deadline)):
        try:
            if worker.connection.poll(POLL_S):
                return worker.receive()
        except OSError:
            break
    return None


def request_of(job: Callable[..., Any], arguments: Message) -> Message:
    """A request to a worker: a function of a module, by name, and its JSON-able keyword arguments."""
    return {"job": f"{job.__module__}:{job.__qualname__}", "arguments": arguments}


def result_of(answer: Message) -> Any:
    """The result of a job from its worker's answer; raises the error that the job raised."""
    if "error" in answer:
        raise vars(errors)[answer["error"]](answer["message"])
    if "bug" in answer:
        raise RuntimeError(f"a job failed in its worker process:\n{answer['bug']}")
    return answer["result"]
