"""Jobs on a Ray cluster: processes of this machine, or a cluster that runs already."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError, RaySystemError, RuntimeEnvSetupError

from al_engine.child_process import SINGLE_THREADED, Message
from al_engine.config import ExecutionConfig, Resources
from al_engine.cores import usable_cores
from al_engine.errors import InputError
from al_engine.protocols import Progress, silent
from flows.compute.remote import answer_here

UNITS = {"MB": 10**6, "GB": 10**9}
LOOK_S = 1.0
"""Time between two looks at whether the run was stopped, s."""


class RayCluster:
    """Runs requests as Ray tasks.

    Args:
        execution: The config section.

    Raises:
        InputError: If no Ray cluster answers at `cluster.address`.
    """

    def __init__(self, execution: ExecutionConfig) -> None:
        self._address = execution.cluster.address
        self._stopped = threading.Event()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {**SINGLE_THREADED, "PYTHONPATH": path}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray starts: nothing is sent to its makers
        own: dict[str, Any] = {} if self._address else {"num_cpus": usable_cores(), "include_dashboard": False}
        try:
            ray.init(
                address=self._address,
                runtime_env={"env_vars": environment},
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                configure_logging=False,
                **own,
            )
        except (ConnectionError, RaySystemError, RuntimeError, ValueError) as error:
            where = f"answers at {self._address} (execution.cluster.address)" if self._address else "can be started"
            raise InputError(f"no Ray cluster {where}: {error}") from None

    def slots(self, resources: Resources) -> int:
        """Number of jobs with such resources that the cluster can run at the same time, as it is now."""
        found = ray.cluster_resources()
        slots = int(found.get("CPU", 1) // resources.cores)
        return max(1, min(slots, int(found.get("GPU", 0) // resources.gpus)) if resources.gpus else slots)

    def answer(self, request: Message, title: str, resources: Resources, progress: Progress) -> Message | None:
        """The answer to a request; None if its process was lost, also when Ray tried again, or the cluster stopped.

        Raises:
            InputError: If a process of the cluster has no al-engine.
        """
        del progress  # Ray has no way to report from a task that would not need a service of its own
        number, unit = int(resources.memory[:-2]), UNITS[resources.memory[-2:]]
        task = _on_worker.options(
            name=title,
            num_cpus=resources.cores,
            num_gpus=resources.gpus,
            memory=number * unit if self._address else None,
            max_retries=0,
        ).remote(request, resources.time_limit_s)
        while not self._stopped.is_set():
            done, _ = ray.wait([task], timeout=LOOK_S)
            if done:
                return self._result(task)
        with suppress(RayError):
            ray.cancel(task, force=True)
        return None

    @staticmethod
    def _result(task: Any) -> Message | None:
        try:
            answer: Message | None = ray.get(task)
        except RuntimeEnvSetupError as error:
            raise InputError(f"a process of Ray cannot run jobs of al-engine: {error}") from None
        except ray.exceptions.RayTaskError as error:
            raise InputError(f"a process of Ray cannot run jobs of al-engine: {error.cause}") from None
        except RayError:  # its process or its machine was lost
            return None
        return answer

    def stop(self) -> None:
        """End all jobs at once."""
        self._stopped.set()


@contextmanager
def ray_cluster(execution: ExecutionConfig) -> Iterator[RayCluster]:
    """A connection to a Ray cluster for as long as the block runs; a cluster that it has started ends with it."""
    try:
        cluster = RayCluster(execution)
        yield cluster
    finally:
        ray.shutdown()


@ray.remote
def _on_worker(request: Message, time_limit_s: float | None) -> Message | None:
    """Answer a request in a process of Ray, which is killed with all that it started when the job is cancelled."""
    return answer_here(request, time_limit_s=time_limit_s, progress=silent)
