"""Stage calls on a cluster of Dask or Ray: what both have in common.

A call travels as plain data. On the machine that gets it, a worker process like those of the local executor runs it, so
that a crash, a time limit or a cancellation ends this process alone. The answer comes back as plain data too. Parts are
written by the job itself, to a file system that all machines share.

A job may run twice, because its machine was taken for lost, or was lost after the part was written. This does no harm:
a part is written whole under the key of its inputs, and the ledger takes the part that has the name and the key.

Prefect's own task runners for Dask and Ray are not used: with them every machine needs Prefect's API, a task that
always kills its worker ends as pending, and a running task can be neither cancelled nor limited in time. Prefect's
tasks run in threads of the conducting process, and wait here.
"""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from al_engine.child_process import Message
from al_engine.config import ExecutionConfig, Resources, StageKind
from al_engine.errors import ResumableError
from al_engine.protocols import Progress
from flows.compute.job import run_call
from flows.compute.stage_call import Concurrency, InlineExecutor, StageCall
from flows.compute.worker_pool import ComputePool, request_of, result_of
from labelers.pool.pool import LabelPool

REPORT_S = 1.0
"""Least time between two reports of progress that travel, s."""
TIME_IS_OVER = "time limit"
"""Key of the answer for a job that was killed at its time limit."""


class Cluster(Protocol):
    """Runs requests somewhere: a cluster of Dask or Ray."""

    def slots(self, resources: Resources) -> int:
        """Number of jobs with such resources that may run at the same time."""

    def answer(self, request: Message, title: str, resources: Resources, progress: Progress) -> Message | None:
        """The answer to a request (`answer_here`), from another process; None if that process was lost, or stopped.

        Args:
            request: The request.
            title: What the job makes, for the pages of the cluster.
            resources: Resources of the job.
            progress: Receives the progress of the job.

        Raises:
            InputError: If the cluster cannot run the job at all.
        """

    def stop(self) -> None:
        """End all jobs at once."""


class RemoteExecutor:
    """Runs stage calls on a cluster, and calls that need nothing here.

    Args:
        directory: The campaign directory, at the same path on all machines.
        execution: Config section with the resources of the stages.
        cluster: The cluster.
        label_pool: Workers of this machine, for calls that are run here.
    """

    def __init__(self, directory: Path, *, execution: ExecutionConfig, cluster: Cluster, label_pool: LabelPool) -> None:
        self._directory, self._cluster = directory.resolve(), cluster
        self._resources: dict[StageKind, Resources] = {
            kind: execution.resources(kind) for kind in ("initial", "train", "sample", "label", "other")
        }
        self._slots = {kind: own.at_once or cluster.slots(own) for kind, own in self._resources.items()}
        self._limits = {kind: threading.Semaphore(slots) for kind, slots in self._slots.items()}
        self._here = InlineExecutor(directory, label_pool=lambda: nullcontext(label_pool))

    @property
    def workers(self) -> int:
        """Number of calls that run at the same time."""
        return max(self._slots.values())

    @property
    def concurrency(self) -> Concurrency:
        """Each GPU trains a share of the members at once; chunks of labels are computed side by side."""
        return Concurrency(
            trainings=self._slots["train"] if self._resources["train"].gpus else None, labels=self._slots["label"]
        )

    def run(self, call: StageCall, progress: Progress) -> None:
        """Run a call and wait for it; may be called from several threads.

        Raises:
            ResumableError: If its process was lost or over its time limit, in the last attempt too.
            AlEngineError: As the job raises.
        """
        if call.needs == "nothing":
            self._here.run(call, progress)
            return
        kind = call.kind
        resources = self._resources[kind]
        request = request_of(
            run_call,
            {
                "call": call.to_dict(),
                "directory": str(self._directory),
                "device": None if resources.gpus else "cpu",
                "label_workers": resources.cores,
            },
        )
        with self._limits[kind]:
            lost = ""
            for _ in range(resources.retries + 1):
                answer = self._cluster.answer(request, call.title, resources, progress)
                if answer is not None and TIME_IS_OVER not in answer:
                    result_of(answer)
                    return
                lost = "was lost" if answer is None else f"took longer than its limit of {resources.time_limit_s:g} s"
        raise ResumableError(
            f"the job of {call.title} {lost}, in the last attempt too (options `execution.stages.{kind}`: "
            "`time_limit_s`, `memory`, `retries`). Nothing finished is lost: `al-engine resume` goes on"
        )

    def stop(self) -> None:
        """End all jobs at once: running calls are lost, finished parts are on disk."""
        self._cluster.stop()


def answer_here(
    request: Message,
    *,
    time_limit_s: float | None,
    progress: Progress,
    cancelled: Callable[[], bool] = lambda: False,
) -> Message | None:
    """Answer a request on the machine that a cluster chose: run its job in a worker process.

    Args:
        request: The request.
        time_limit_s: Time after which the job is killed, s; None: no limit.
        progress: Receives the progress of the job, at most once in `REPORT_S`.
        cancelled: Says whether the job is to be killed.

    Returns:
        The answer; None if the process died or was killed.
    """
    begun = time.monotonic()
    answer = _workers().answer(request, _Sparse(progress), time_limit_s=time_limit_s, cancelled=cancelled)
    if answer is None and time_limit_s is not None and time.monotonic() - begun > time_limit_s:
        return {TIME_IS_OVER: time_limit_s}
    return answer


@cache
def _workers() -> ComputePool:
    """The worker processes of this process, kept for the next job; they end with this process."""
    return ComputePool(1)


@dataclass
class _Sparse:
    """Progress that is passed on at most once in `REPORT_S`."""

    progress: Progress
    last: float = field(default=0.0)

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self.last > REPORT_S:
            self.last = now
            self.progress(done, total, note)
