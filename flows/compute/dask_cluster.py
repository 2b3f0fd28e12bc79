"""Jobs on a Dask cluster: processes of this machine, batch jobs that dask-jobqueue submits, or a running scheduler.

Dask is asked to do two things: to find a worker with the resources, and to run a job again whose worker was lost. The
traffic of a cluster that is started here is encrypted, because a machine may have other users, and a scheduler of Dask
runs any code that it is sent.
"""

import logging
import os
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from dask_jobqueue.lsf import LSFCluster
from dask_jobqueue.pbs import PBSCluster
from dask_jobqueue.sge import SGECluster
from dask_jobqueue.slurm import SLURMCluster
from distributed import Client, Future, KilledWorker, LocalCluster, get_worker
from distributed.security import Security

from al_engine.child_process import SINGLE_THREADED, Message
from al_engine.config import ClusterConfig, ExecutionConfig, Resources
from al_engine.cores import usable_cores
from al_engine.errors import InputError
from al_engine.protocols import Progress
from flows.compute.remote import answer_here

BATCH_SYSTEMS: Mapping[str, Any] = {
    "slurm": SLURMCluster,
    "pbs": PBSCluster,
    "lsf": LSFCluster,
    "sge": SGECluster,
}
BATCH_JOBS = 4
"""Batch jobs of a kind at a time, if the config does not say."""
INTERVAL_S, IDLE_INTERVALS = 10, 30
"""Seconds between two looks at how many batch jobs are needed, and number of looks after which an idle one is ended."""
START_S = 60.0
"""Time to wait for an answer of a scheduler, s."""
PROGRESS = "al-engine-progress"
"""Topic of the progress of jobs."""
CONFIG = {
    "distributed.worker.daemon": False,  # a worker starts processes
    "distributed.comm.timeouts.connect": "60s",
}


class DaskCluster:
    """Runs requests on Dask workers. Stages with different resources have clusters of their own.

    Args:
        execution: The config section.
        folder: Folder for the credentials of batch jobs and their logs, which all machines see.
    """

    def __init__(self, execution: ExecutionConfig, folder: Path) -> None:
        self._cluster, self._folder = execution.cluster, folder
        self._stopped = threading.Event()
        self._changing = threading.Lock()
        self._clients: dict[Any, tuple[Client, Any]] = {}
        self._shown: dict[str, Progress] = {}

    def slots(self, resources: Resources) -> int:
        """Number of jobs with such resources that may run at the same time."""
        if self._cluster.address is not None:
            client, _ = self._client(resources)
            return max(1, sum(client.nthreads().values()))
        return max(1, usable_cores() // resources.cores) if self._cluster.scheduler == "local" else BATCH_JOBS

    def answer(self, request: Message, title: str, resources: Resources, progress: Progress) -> Message | None:
        """The answer to a request; None if its worker was lost more often than Dask runs a job, or the cluster stopped.

        Raises:
            InputError: If the scheduler cannot be reached, or a worker has no al-engine.
        """
        if self._stopped.is_set():
            return None
        client, _ = self._client(resources)
        key = f"{title}-{uuid4().hex[:8]}"
        self._shown[key] = progress
        future = client.submit(
            _on_worker,
            request,
            resources.time_limit_s,
            key=key,
            pure=False,
            resources={"GPU": 1} if resources.gpus else None,
        )
        try:
            return self._result(future)
        finally:
            future.release()
            del self._shown[key]

    def _result(self, future: Future) -> Message | None:
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                exception = future.exception(timeout=1.0)
                if exception is None:
                    answer: Message | None = future.result()
                    return answer
                if isinstance(exception, KilledWorker):
                    return None
                raise InputError(
                    f"a Dask worker cannot run jobs of al-engine: {type(exception).__name__}: {exception}; its Python "
                    "needs the same packages as this one"
                )
        future.cancel(force=True)
        return None

    def stop(self) -> None:
        """End all jobs: a worker kills the process of a job that was cancelled."""
        self._stopped.set()

    def close(self) -> None:
        """End the workers that were started here."""
        self.stop()
        with self._changing:
            for client, cluster in self._clients.values():
                with suppress(Exception):  # a scheduler that is gone is closed
                    client.close(timeout=5)
                if cluster is not None:
                    cluster.close(timeout=30)
            self._clients.clear()

    # -- clusters -------------------------------------------------------------------------------------------------

    def _client(self, resources: Resources) -> tuple[Client, Any]:
        """The client for jobs with such resources, and the cluster if it was started here."""
        shared = self._cluster.address is not None
        kind = () if shared else (resources.cores, resources.gpus, resources.memory, resources.queue)
        with self._changing:
            if kind not in self._clients:
                self._clients[kind] = self._connected() if shared else self._started(resources)
            return self._clients[kind]

    def _connected(self) -> tuple[Client, None]:
        try:
            client = Client(self._cluster.address, timeout=START_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"execution.cluster.address: no Dask scheduler answers at {self._cluster.address}: {error}"
            ) from None
        return self._listening(client), None

    def _started(self, resources: Resources) -> tuple[Client, Any]:
        with dask.config.set({**CONFIG, "distributed.scheduler.allowed-failures": resources.retries}):
            if self._cluster.scheduler == "local":
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
            else:
                cluster = self._batch_cluster(resources)
            client = Client(cluster, timeout=START_S, set_as_default=False)
        return self._listening(client), cluster

    def _batch_cluster(self, resources: Resources) -> Any:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        cluster = BATCH_SYSTEMS[self._cluster.scheduler](**batch_options(self._cluster, resources, self._folder))
        cluster.adapt(
            minimum=0,
            maximum_jobs=resources.at_once or BATCH_JOBS,
            interval=f"{INTERVAL_S}s",
            wait_count=IDLE_INTERVALS,
        )
        return cluster

    def _listening(self, client: Client) -> Client:
        client.subscribe_topic(PROGRESS, self._show)
        return client

    def _show(self, event: tuple[float, Any]) -> None:
        """Pass on the progress of a job that is still waited for."""
        key, *place = event[1]
        shown = self._shown.get(key)
        if shown is not None:
            shown(*place)


def batch_options(cluster: ClusterConfig, resources: Resources, folder: Path) -> dict[str, Any]:
    """The arguments of dask-jobqueue's clusters for jobs with such resources: a batch job is one worker.

    Args:
        cluster: The config section.
        resources: Resources of a job.
        folder: Folder for credentials and logs, which all machines see.
    """
    directives = list(cluster.directives)
    if (
        resources.gpus
        and cluster.scheduler == "slurm"
        and not any("gpu" in line or "gres" in line for line in directives)
    ):
        directives.append(f"--gpus={resources.gpus}")
    options = {
        "cores": 1,  # threads of the worker: it runs one job at a time, which has all cores of the batch job
        "processes": 1,
        "memory": resources.memory,
        "walltime": cluster.walltime,
        "interface": cluster.interface,
        ("account" if cluster.scheduler in {"slurm", "pbs"} else "project"): cluster.account,
        "queue": resources.queue,
        "python": sys.executable,
        "job_name": "al-engine",
        "job_extra_directives": directives,
        "job_script_prologue": [
            *cluster.prologue,
            *(f"export {name}={value}" for name, value in SINGLE_THREADED.items()),
            f"export PYTHONPATH={shlex.quote(os.pathsep.join(path for path in sys.path if path))}",
        ],
        "worker_extra_args": ["--resources", "GPU=1"] if resources.gpus else [],
        "log_directory": str(folder),
        "local_directory": "/tmp",  # noqa: S108 (of the compute node; Dask makes a folder of its own in it)
        "security": Security.temporary(),
        "protocol": "tls://",
        "shared_temp_directory": str(folder),
        "scheduler_options": {"dashboard_address": None},
    }
    if cluster.scheduler == "slurm":
        options["job_cpu"] = resources.cores
    elif cluster.scheduler == "pbs":
        options["resource_spec"] = f"select=1:ncpus={resources.cores}:mem={resources.memory}" + (
            f":ngpus={resources.gpus}" if resources.gpus else ""
        )
    elif cluster.scheduler == "lsf":
        options["ncpus"] = resources.cores
    else:
        options["resource_spec"] = f"h_vmem={resources.memory}"
    return options


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

    def report(done: int, total: int, note: str = "") -> None:
        worker.log_event(PROGRESS, (key, done, total, note))

    def cancelled() -> bool:
        """Whether the scheduler has told this worker to forget the task, as when the campaign's process is gone."""
        task = worker.state.tasks.get(key)
        return task is None or task.state in {"cancelled", "resumed"}

    return answer_here(request, time_limit_s=time_limit_s, progress=report, cancelled=cancelled)
