"""What jobs of Dask cost in the conducting process, as a function of the number of workers.

The workers are objects of Dask's own class in another process, which start no processes for their jobs: a job waits,
and is answered. Dask's scheduler runs in the conducting process, with TLS, as it does for batch jobs.
"""

import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import dask
from distributed import Client, LocalCluster, Worker
from distributed.security import Security

from al_engine.config import ExecutionConfig, Resources
from al_engine.protocols import silent
from flows.compute import dask_cluster
from flows.compute.dask_cluster import CONFIG, START_S, DaskCluster, _Connection
from flows.compute.remote import RemoteExecutor
from flows.compute.stage_call import StageCall
from jobs import log

NEW_CLIENT: Any = Client
NEW_CLUSTER: Any = LocalCluster
NEW_SECURITY: Any = Security
NEW_WORKER: Any = Worker
"""Dask has no types."""
WATCH_S = 6.0
"""Time for which idle workers, and waiting jobs, are watched, s."""
LEAST_JOBS, JOBS_PER_WORKER = 400, 2
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "60s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.worker.http.routes": [],
}
"""Settings that switch off what a worker does beside its jobs: all simulated workers share one process."""
CONNECT_S = 900.0
"""Longest time in which all workers must have connected, s."""


class _SimulatedCluster(DaskCluster):
    """A `DaskCluster` whose scheduler runs here, and whose workers come from elsewhere."""

    def __init__(self, execution: ExecutionConfig, folder: Path) -> None:
        super().__init__(execution, folder)
        self.security = NEW_SECURITY.temporary()
        with dask.config.set(CONFIG):
            self.local = NEW_CLUSTER(
                n_workers=0,
                security=self.security,
                protocol="tls://",
                host="127.0.0.1",
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
            self._own = _Connection(self._listening(NEW_CLIENT(self.local, timeout=START_S, set_as_default=False)))
        self._connections["own"] = _Connection(self._own.client, self.local)

    def _connection(self, resources: Resources) -> _Connection:
        del resources
        return self._own


def measured_cluster(workers: int) -> dict[str, float]:
    """CPU of the conducting process with a number of workers.

    Returns:
        `idle` and `waiting`: share of a core that is used while no job runs, and while each worker has a job; `job_ms`:
        CPU per job that returns at once, ms; `jobs_per_s`: jobs that ended per second on the clock.
    """
    with tempfile.TemporaryDirectory(prefix="al-engine-saturation-") as folder:
        (Path(folder) / "parts").mkdir()
        execution = ExecutionConfig.model_validate({"executor": "dask", "stages": {"all": {"at_once": workers}}})
        cluster = _SimulatedCluster(execution, Path(folder))
        try:
            with _workers(cluster, workers, folder), ThreadPoolExecutor(workers) as threads:
                executor = RemoteExecutor(Path(folder), execution=execution, cluster=cluster)
                idle = _share()
                waiting = [
                    threads.submit(executor.run, _job(2 * WATCH_S + workers / 50), silent) for _ in range(workers)
                ]
                time.sleep(WATCH_S / 2 + workers / 50)  # until all have begun
                share = _share()
                for each in waiting:
                    each.result()
                count = max(LEAST_JOBS, JOBS_PER_WORKER * workers)
                begin, used = time.perf_counter(), time.process_time()
                list(threads.map(lambda _: executor.run(_job(0.0), silent), range(count)))
                seconds, cpu = time.perf_counter() - begin, time.process_time() - used
        finally:
            cluster.close()
    return {"idle": idle, "waiting": share, "job_ms": 1e3 * cpu / count, "jobs_per_s": count / seconds}


def _job(seconds: float) -> StageCall:
    """A job that waits."""
    return StageCall((), "saturation:nothing", (), {"seconds": seconds}, "compute")


def _share() -> float:
    """Share of a core that this process uses for a while."""
    begin, used = time.perf_counter(), time.process_time()
    time.sleep(WATCH_S)
    return (time.process_time() - used) / (time.perf_counter() - begin)


@contextmanager
def _workers(cluster: _SimulatedCluster, count: int, folder: str) -> Iterator[None]:
    """Workers in a process of their own, all connected, for as long as the block runs."""
    security = cluster.security
    about = {
        "address": cluster.local.scheduler_address,
        "count": count,
        "folder": folder,
        "ca": security.tls_ca_file,
        "cert": security.tls_worker_cert,
        "key": security.tls_worker_key,
    }
    with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, text=True) as process:  # noqa: S603 (this file)
        stdin = process.stdin
        if stdin is None:
            raise RuntimeError("no pipe")
        stdin.write(json.dumps(about) + "\n")
        stdin.flush()
        try:
            scheduler: Any = cluster.local.scheduler
            deadline = time.monotonic() + CONNECT_S
            while len(scheduler.workers) < count:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"only {len(scheduler.workers)} of {count} workers connected")
                time.sleep(0.2)
            time.sleep(2.0)
            yield
        finally:
            process.kill()


def _answer(request: dict[str, Any], **_: object) -> dict[str, Any]:
    """In place of the process that a real worker would start."""
    time.sleep(request["arguments"]["call"]["arguments"]["seconds"])
    return {"result": None}


async def serve(about: dict[str, Any]) -> None:
    """Run workers until this process is killed."""
    security = NEW_SECURITY(
        tls_ca_file=about["ca"], tls_worker_cert=about["cert"], tls_worker_key=about["key"], require_encryption=True
    )
    options = {"nthreads": 1, "security": security, "memory_limit": None, "local_directory": about["folder"]}
    workers = [
        await NEW_WORKER(about["address"], name=str(number), host="127.0.0.1", **options)
        for number in range(about["count"])
    ]
    log(f"{len(workers)} workers")
    await anyio.sleep_forever()


def main() -> None:
    """Run the workers that are described on standard input."""
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft_limit, hard_limit), hard_limit))
    about = json.loads(sys.stdin.readline())
    vars(dask_cluster)["answer_here"] = _answer
    logging.disable(logging.CRITICAL)
    parent = os.getppid()

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    with dask.config.set(CONFIG | QUIET):
        anyio.run(serve, about)


if __name__ == "__main__":
    main()
