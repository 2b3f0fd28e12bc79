"""Jobs on a Dask cluster: processes of this machine, batch jobs that dask-jobqueue submits, or a running scheduler.

Dask is asked to find a worker with the resources. A job whose worker was lost is run again by the executor alone, which
keeps to `retries`. The traffic of a cluster that is started here is encrypted, because a machine may have other users,
and a scheduler of Dask runs any code that it is sent.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, get_worker
from distributed.security import Security

from al_engine.child_process import Message
from al_engine.config import ExecutionConfig, Resources
from al_engine.cores import usable_cores
from al_engine.errors import InputError, ResumableError
from al_engine.protocols import Progress
from flows.compute.batch_jobs import WatchedJobs, refuse_batch_jobs, watched_cluster
from flows.compute.remote import LOST, answer_here

BATCH_JOBS = 4
"""Batch jobs of a kind at a time, if the config does not say."""
INTERVAL_S, IDLE_INTERVALS = 10.0, 30
"""Seconds between two looks at how many batch jobs are needed, and number of looks after which an idle one is ended."""
START_S = 60.0
"""Time to wait for an answer of a scheduler, s."""
LOOKS_PER_S, LONGEST_LOOK_S = 50.0, 5.0
"""Looks per second, over all jobs that run, at whether the campaign was stopped meanwhile: a look takes a millisecond
of the conducting process. Longest time between two looks of a job, s; the shortest is a second."""
WAIT_S = 10.0
"""Time after which a job that has not begun says what it waits for, s."""
LOST_BEFORE = 20
"""Number of times that a job may be lost with a worker on which it had not begun, as it waits behind another job."""
LOGGER = logging.getLogger("distributed.al_engine")
"""Dask's workers write what loggers below `distributed` say."""
PROGRESS = "al-engine-progress"
"""Topic of the progress of jobs."""
CONFIG = {
    "distributed.worker.daemon": False,  # a worker starts processes
    "distributed.comm.timeouts.connect": "60s",
    "distributed.scheduler.allowed-failures": 0,  # the executor tries again
}


@dataclass(frozen=True, slots=True)
class _Connection:
    """A client, and what was started here for it: the cluster, and what watches its batch jobs."""

    client: Client
    cluster: Any = None
    watch: WatchedJobs | None = None


@dataclass(slots=True)
class _Waiting:
    """A job that is waited for: receives its progress, and knows whether it has begun."""

    progress: Progress
    begun: bool = False
    since: float = field(default_factory=time.monotonic)


class DaskCluster:
    """Runs requests on Dask workers. Stages with different resources have clusters of their own.

    Args:
        execution: The config section.
        folder: Folder for the credentials of batch jobs and their logs, which all machines see.

    Raises:
        InputError: If the batch system cannot be asked for the resources of a stage.
    """

    def __init__(self, execution: ExecutionConfig, folder: Path) -> None:
        self._cluster, self._folder = execution.cluster, folder
        self._stopped = threading.Event()
        self._changing = threading.Lock()
        self._connections: dict[Any, _Connection] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._submits = self._cluster.address is None and self._cluster.scheduler != "local"
        if self._submits:
            for resources in execution.resources_of_stages().values():
                refuse_batch_jobs(self._cluster, resources, folder)

    @property
    def logs(self) -> str:
        """Where the output of the jobs is; empty if only the makers of the cluster know."""
        return str(self._folder) if self._submits else ""

    @property
    def grows(self) -> bool:
        """Whether workers may come and go."""
        return self._cluster.address is not None

    def slots(self, resources: Resources) -> int:
        """Number of jobs with such resources that may run at the same time, as the cluster is now.

        Raises:
            InputError: If this machine has too few cores for one job, or the scheduler cannot be reached.
        """
        if self._cluster.address is not None:
            return max(1, len(self._able_workers(self._connection(resources).client, resources)))
        if self._cluster.scheduler != "local":
            return BATCH_JOBS
        cores = usable_cores()
        if resources.cores > cores:
            raise InputError(
                f"execution.stages: `cores: {resources.cores}`: this machine, on which Dask starts its workers, has "
                f"{cores} cores that may be used"
            )
        return cores // resources.cores

    def answer(self, request: Message, title: str, resources: Resources, progress: Progress) -> Message | None:
        """The answer to a request; None if its process was lost, or the cluster stopped; `LOST` says why.

        Raises:
            InputError: If the scheduler cannot be reached, or a worker lacks packages.
            ResumableError: If the batch system refuses jobs, its jobs end without a worker, or the scheduler is gone.
        """
        for _ in range(LOST_BEFORE):
            if self._stopped.is_set():
                return None
            waiting = _Waiting(progress)
            answer = self._attempt(request, title, resources, waiting)
            if answer is None or LOST not in answer or waiting.begun:
                break
        return answer

    def _attempt(self, request: Message, title: str, resources: Resources, waiting: _Waiting) -> Message | None:
        own = self._connection(resources)
        if own.client.status in {"closing", "closed"}:
            where = self._cluster.address or "127.0.0.1"
            raise ResumableError(
                f"the connection to the Dask scheduler at {where} was lost. Nothing finished is lost: `al-engine "
                "resume` goes on"
            )
        key = f"{title}-{uuid4().hex[:8]}"
        self._waiting[key] = waiting
        future = own.client.submit(
            _on_worker,
            request,
            resources.time_limit_s,
            key=key,
            pure=False,
            resources={"GPU": 1} if resources.gpus else None,
        )
        try:
            return self._result(future, own, waiting, resources)
        finally:
            future.release()
            del self._waiting[key]

    def _result(self, future: Future, own: _Connection, waiting: _Waiting, resources: Resources) -> Message | None:
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                look_s = min(LONGEST_LOOK_S, max(1.0, len(self._waiting) / LOOKS_PER_S))
                exception = future.exception(timeout=look_s)
                if future.cancelled():
                    return {LOST: "the connection to the Dask scheduler was interrupted"}
                if exception is None:
                    answer: Message | None = future.result()
                    return answer
                return _lost(exception)
            self._say_what_is_missing(own, waiting, resources)
        future.cancel(force=True)
        return None

    def _say_what_is_missing(self, own: _Connection, waiting: _Waiting, resources: Resources) -> None:
        """Tell a job that has not begun what it waits for.

        Raises:
            ResumableError: If it would wait for ever for batch jobs.
        """
        if own.watch is not None and own.watch.trouble:
            raise ResumableError(
                f"{self._cluster.scheduler.upper()}: {own.watch.trouble}. Correct `execution.cluster` or "
                "`execution.stages`; nothing finished is lost: `al-engine resume` goes on"
            )
        waits = not waiting.begun and time.monotonic() - waiting.since > WAIT_S
        if self._cluster.address is None or not waits:
            return
        waiting.since = time.monotonic()
        if not self._able_workers(own.client, resources):
            wanted = " that offers a GPU (`dask worker --resources GPU=1`)" if resources.gpus else ""
            waiting.progress(0, 0, f"waits for a Dask worker{wanted}: {self._cluster.address} has none")

    @staticmethod
    def _able_workers(client: Client, resources: Resources) -> list[str]:
        """Addresses of the workers that may run such a job, each as often as it runs one at a time."""
        found: list[str] = []
        try:
            workers = client.scheduler_info(n_workers=-1)["workers"]
        except OSError:  # the connection is interrupted
            return found
        for address, worker in workers.items():
            gpus = int(worker["resources"].get("GPU", 0))
            found += [address] * (min(gpus, worker["nthreads"]) if resources.gpus else worker["nthreads"])
        return found

    def stop(self) -> None:
        """End all jobs: a worker kills the process of a job that was cancelled."""
        self._stopped.set()

    def close(self) -> None:
        """End the workers that were started here, as far as they answer."""
        self.stop()
        with self._changing:
            for own in self._connections.values():
                with suppress(Exception):  # a scheduler that is gone is closed
                    own.client.close(timeout=5)
                if own.cluster is not None:
                    # Its workers end by themselves. An error would hide the verdict, and keep the others from closing.
                    with suppress(Exception):
                        own.cluster.close(timeout=30)
            self._connections.clear()

    # -- clusters -------------------------------------------------------------------------------------------------

    def _connection(self, resources: Resources) -> _Connection:
        """The connection for jobs with such resources."""
        shared = self._cluster.address is not None
        kind = () if shared else _kind(resources)
        with self._changing:
            if kind not in self._connections:
                self._connections[kind] = self._connected() if shared else self._started(resources)
            return self._connections[kind]

    def _connected(self) -> _Connection:
        try:
            client = Client(self._cluster.address, timeout=START_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"execution.cluster.address: no Dask scheduler answers at {self._cluster.address}: {error}"
            ) from None
        return _Connection(self._listening(client))

    def _started(self, resources: Resources) -> _Connection:
        watch = None
        with dask.config.set(CONFIG):
            if self._submits:
                cluster, watch = watched_cluster(
                    self._cluster,
                    resources,
                    self._folder,
                    jobs=resources.at_once or BATCH_JOBS,
                    interval_s=INTERVAL_S,
                    idle_looks=IDLE_INTERVALS,
                )
            else:
                cluster = LocalCluster(
                    n_workers=resources.at_once or self.slots(resources),
                    threads_per_worker=1,
                    processes=True,
                    security=Security.temporary(),
                    protocol="tls://",
                    host="127.0.0.1",
                    dashboard_address=None,
                    memory_limit=None,
                    silence_logs=logging.CRITICAL,  # a worker that is lost is said by us
                )
            client = Client(cluster, timeout=START_S, set_as_default=False)
        return _Connection(self._listening(client), cluster, watch)

    def _listening(self, client: Client) -> Client:
        client.subscribe_topic(PROGRESS, self._show)
        return client

    def _show(self, event: tuple[float, Any]) -> None:
        """Pass on the progress of a job that is still waited for; its first event has none."""
        key, *place = event[1]
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.begun = True
            if place:
                waiting.progress(*place)


def _kind(resources: Resources) -> tuple[Any, ...]:
    """What decides whether jobs may share workers that were started for them."""
    own = resources
    return own.cores, own.gpus, own.memory, own.queue, own.at_once, own.directives


def _lost(exception: BaseException) -> Message:
    """The answer for a job whose worker was lost.

    Raises:
        InputError: If the worker lacks packages.
        ResumableError: If it failed to run the job for another reason.
    """
    if isinstance(exception, KilledWorker):
        return {LOST: f"its Dask worker at {exception.last_worker.address} is gone"}
    said = f"{type(exception).__name__}: {exception}"
    if isinstance(exception, ImportError | AttributeError) or "deserializ" in said:
        raise InputError(
            f"a Dask worker cannot run jobs of al-engine: {said}; its Python needs the same packages as this one"
        )
    raise ResumableError(
        f"a Dask worker could not run a job: {said}. Nothing finished is lost: `al-engine resume` goes on"
    )


@contextmanager
def dask_cluster(execution: ExecutionConfig, folder: Path) -> Iterator[DaskCluster]:
    """A Dask cluster for as long as the block runs."""
    cluster = DaskCluster(execution, folder)
    try:
        yield cluster
    finally:
        cluster.close()


def _on_worker(request: Message, time_limit_s: float | None) -> Message | None:
    """Answer a request on a Dask worker; the job is killed when nobody waits for it any more."""
    worker = get_worker()
    key = worker.get_current_task()

    worker.log_event(PROGRESS, (key,))
    LOGGER.info("runs %s", key)  # into the output of the batch job

    def report(done: int, total: int, note: str = "") -> None:
        worker.log_event(PROGRESS, (key, done, total, note))

    def cancelled() -> bool:
        """Whether the scheduler has told this worker to forget the task, as when the campaign's process is gone."""
        task = worker.state.tasks.get(key)
        return task is None or task.state in {"cancelled", "resumed"}

    return answer_here(request, time_limit_s=time_limit_s, progress=report, cancelled=cancelled)
