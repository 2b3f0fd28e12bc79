"""Jobs on a Ray cluster: processes of this machine, or a cluster that runs already."""

import logging
import os
import signal
import sys
import threading
import time
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
from flows.compute.remote import LOST, answer_here

UNITS = {"MB": 10**6, "GB": 10**9}
LOOK_S = 1.0
"""Time between two looks at whether the run was stopped, s."""
WAIT_S = 10.0
"""Time between two looks at whether any machine can run a job that has not ended, s."""


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
            with _our_sigterm():
                ray.init(
                    address=self._address or "local",  # without it, Ray joins a cluster that runs on this machine
                    runtime_env={"env_vars": environment},
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    configure_logging=False,
                    **own,
                )
        except (ConnectionError, RaySystemError, RuntimeError, ValueError) as error:
            where = f"answers at {self._address} (execution.cluster.address)" if self._address else "can be started"
            raise InputError(f"no Ray cluster {where}: {error}") from None

    @property
    def logs(self) -> str:
        """Nothing: the output of jobs is in the folders of Ray on each machine."""
        return ""

    @property
    def grows(self) -> bool:
        """Whether machines may come and go."""
        return self._address is not None

    def slots(self, resources: Resources) -> int:
        """Number of jobs with such resources that the cluster can run at the same time, as it is now.

        Raises:
            InputError: If the cluster was started here, and this machine cannot run one such job.
        """
        wanted = self._wanted(resources)
        slots = sum(
            min(int(node.get(name, 0) // amount) for name, amount in wanted.items() if amount) for node in _machines()
        )
        if slots == 0 and self._address is None:
            raise InputError(
                f"execution.stages: a job asks for {_words(resources)}; this machine, on which Ray starts its "
                f"processes, has {usable_cores()} cores that may be used and {int(_machines()[0].get('GPU', 0))} GPUs"
            )
        return max(1, slots)  # machines may join a cluster that runs already

    def _wanted(self, resources: Resources) -> dict[str, float]:
        """The resources of a job as Ray names them; memory is counted on clusters that run already."""
        number, unit = int(resources.memory[:-2]), UNITS[resources.memory[-2:]]
        memory = number * unit if self._address else 0
        return {"CPU": resources.cores, "GPU": resources.gpus, "memory": memory}

    def answer(self, request: Message, title: str, resources: Resources, progress: Progress) -> Message | None:
        """The answer to a request; `LOST` says why its process was lost; None if the cluster stopped.

        Raises:
            InputError: If a process of the cluster has no al-engine.
        """
        wanted = self._wanted(resources)
        function = _on_gpu_worker if resources.gpus else _on_worker
        task = function.options(
            name=title,
            num_cpus=resources.cores,
            num_gpus=resources.gpus,
            memory=wanted["memory"] or None,
            max_retries=0,
        ).remote(request, resources.time_limit_s)
        since = time.monotonic()
        while not self._stopped.is_set():
            done, _ = ray.wait([task], timeout=LOOK_S)
            if done:
                return self._result(task)
            # Ray has no way to report from a task that would not need a service of its own.
            if time.monotonic() - since > WAIT_S:
                since = time.monotonic()
                if not any(all(node.get(name, 0) >= each for name, each in wanted.items()) for node in _machines()):
                    progress(0, 0, f"waits for a machine with {_words(resources)}: the Ray cluster has none")
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
        except RayError as error:  # its process or its machine was lost
            first = str(error).strip().partition("\n")[0]
            return {LOST: f"Ray says {type(error).__name__}: {first}"}
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


def _machines() -> list[dict[str, float]]:
    """The resources of each machine of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _words(resources: Resources) -> str:
    """The resources of a job in words."""
    gpus = f", {resources.gpus} GPU{'s' if resources.gpus > 1 else ''}" if resources.gpus else ""
    return f"{resources.cores} core{'s' if resources.cores > 1 else ''}{gpus} and {resources.memory} of memory"


@contextmanager
def _our_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces by one that ends this process at once."""
    if threading.current_thread() is not threading.main_thread():  # where Ray replaces nothing
        yield
        return
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, ours)


def _answer(request: Message, time_limit_s: float | None) -> Message | None:
    """Answer a request in a process of Ray, which is killed with all that it started when the job is cancelled."""
    return answer_here(request, time_limit_s=time_limit_s, progress=silent)


_on_worker = ray.remote(_answer)
_on_gpu_worker = ray.remote(max_calls=1)(_answer)  # the next job may have another GPU, which a process cannot change to
