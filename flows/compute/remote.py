"""Stage calls on a cluster of Dask or Ray: what both have in common.

A call travels as plain data. On the machine that gets it, a worker process like those of the local executor runs it, so
that a crash, a time limit or a cancellation ends this process alone. The answer comes back as plain data too. Parts are
written by the job itself, to a file system that all machines share; or they travel through an object store
(`flows.compute.stored_call`).

A job may run twice, because its machine was taken for lost, or was lost after the part was written. This does no harm:
a part is written whole under the key of its inputs, and the part that is first stays.

Prefect's own task runners for Dask and Ray are not used: with them every machine needs Prefect's API, a task that
always kills its worker ends as pending, and a running task can be neither cancelled nor limited in time. Prefect's
tasks run in threads of the conducting process, and wait here.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn, Protocol

from al_engine.campaign.part import PARTS
from al_engine.child_process import Message
from al_engine.config import ExecutionConfig, Resources, StageKind
from al_engine.errors import ResumableError
from al_engine.protocols import Progress
from flows.compute.job import run_call
from flows.compute.stage_call import Concurrency, InlineExecutor, StageCall
from flows.compute.store import Store, StoreError
from flows.compute.stored_call import StoredCampaign, run_stored_call
from flows.compute.worker_pool import ComputePool, request_of, result_of

REPORT_S = 1.0
"""Least time between two reports of progress that travel, s."""
TIME_IS_OVER = "time limit"
"""Key of the answer for a job that was killed at its time limit."""
LOST = "lost"
"""Key of the answer for a job whose process was lost, with the reason."""
APPEAR_S, LOOK_S = 90.0, 0.5
"""Longest time until a part that was written on another machine must be seen here, and time between two looks, s. A
client of NFS may take a minute to notice a new file."""
RECOUNT_S = 5.0
"""Time between two looks at how many workers a cluster has, s."""
MOST_CALLS = 64
"""Calls at a time that a cluster may take whose workers come and go, if the config does not say."""


class Cluster(Protocol):
    """Runs requests somewhere: a cluster of Dask or Ray."""

    @property
    def logs(self) -> str:
        """Where the output of the jobs is; empty if only the makers of the cluster know."""

    @property
    def grows(self) -> bool:
        """Whether workers may come and go."""

    def slots(self, resources: Resources) -> int:
        """Number of jobs with such resources that may run at the same time, as the cluster is now.

        Raises:
            InputError: If the cluster can never run such a job.
        """

    def answer(self, request: Message, title: str, resources: Resources, progress: Progress) -> Message | None:
        """The answer to a request (`answer_here`), from another process.

        Args:
            request: The request.
            title: What the job makes, for the pages of the cluster.
            resources: Resources of the job.
            progress: Receives the progress of the job.

        Returns:
            The answer; None, or a message with `LOST`, if that process was lost; None if the cluster was stopped.

        Raises:
            InputError: If the cluster cannot run the job at all.
            ResumableError: If the cluster can run no jobs any more.
        """

    def stop(self) -> None:
        """End all jobs at once."""


class RemoteExecutor:
    """Runs stage calls on a cluster, and calls that need nothing here.

    Args:
        directory: The campaign directory, at the same path on all machines if there is no store.
        execution: Config section with the resources of the stages.
        cluster: The cluster.
        store: The store through which parts travel, if the machines do not see the campaign directory.

    Raises:
        InputError: If the cluster cannot run the jobs of a stage.
    """

    def __init__(
        self, directory: Path, *, execution: ExecutionConfig, cluster: Cluster, store: Store | None = None
    ) -> None:
        self._directory, self._cluster = directory.resolve(), cluster
        self._stored = None if store is None else StoredCampaign(directory, store, scratch=execution.scratch)
        self._stopped = threading.Event()
        self._resources = execution.resources_of_stages()
        # A cluster that can never run a job is refused now, also if `at_once` says how many run.
        self._counted = {kind: cluster.slots(own) for kind, own in self._resources.items()}
        self._places = {kind: _Places(partial(self._slots, kind)) for kind in self._resources}
        self._here = InlineExecutor(directory, label_pool=_no_labels)

    def _slots(self, kind: StageKind) -> int:
        """Number of jobs of a stage at a time: as the config says, or as the cluster is now."""
        own = self._resources[kind]
        return own.at_once or (self._cluster.slots(own) if self._cluster.grows else self._counted[kind])

    @property
    def workers(self) -> int:
        """Number of calls that run at the same time."""
        open_ended = self._cluster.grows and any(own.at_once is None for own in self._resources.values())
        return max(MOST_CALLS if open_ended else 1, *(self._slots(kind) for kind in self._resources))

    @property
    def concurrency(self) -> Concurrency:
        """Each GPU trains a share of the members at once; chunks of labels are computed side by side."""
        return Concurrency(
            trainings=self._slots("train") if self._resources["train"].gpus else None, labels=self._slots("label")
        )

    def run(self, call: StageCall, progress: Progress) -> None:
        """Run a call and wait for it; may be called from several threads.

        Raises:
            ResumableError: If its process was lost or over its time limit, or the store failed, in the last attempt
                too.
            AlEngineError: As the job raises.
        """
        if call.needs == "nothing":
            self._here.run(call, progress)
            return
        kind = call.kind
        resources = self._resources[kind]
        with self._places[kind].taken():
            lost = ""
            for _ in range(resources.retries + 1):
                try:
                    answer = self._cluster.answer(self._request(call, resources), call.title, resources, progress)
                    if answer is None:
                        lost = "was lost: its process was killed, or the memory did not suffice"
                    elif LOST in answer:
                        lost = f"was lost: {answer[LOST]}"
                    elif TIME_IS_OVER in answer:
                        lost = f"took longer than its limit of {resources.time_limit_s:g} s"
                    else:
                        self._take_parts(call, result_of(answer))
                        return
                except StoreError as error:
                    lost = f"failed at the store: {error}"
                if self._stopped.is_set():
                    break
        logs = f" The output of the jobs is in {self._cluster.logs}." if self._cluster.logs else ""
        raise ResumableError(
            f"the job of {call.title} {lost}; in the last attempt too (options `execution.stages.{kind}`: "
            f"`time_limit_s`, `memory`, `retries`).{logs} Nothing finished is lost: `al-engine resume` goes on"
        )

    def _request(self, call: StageCall, resources: Resources) -> Message:
        """The request for a call; with a store, what the job reads is in the store then.

        Raises:
            StoreError: If the store cannot be used.
        """
        arguments = {
            "call": call.to_dict(),
            "device": None if resources.gpus else "cpu",
            "label_workers": resources.cores,
        }
        if self._stored is not None:
            return request_of(run_stored_call, arguments | self._stored.arguments(call))
        return request_of(run_call, arguments | {"directory": str(self._directory)})

    def _take_parts(self, call: StageCall, result: Any) -> None:
        """See to it that the parts of a finished job are in the campaign directory.

        Raises:
            StoreError: If the store cannot be used.
            ResumableError: If they do not appear, or the disk is full.
        """
        if self._stored is not None:
            self._stored.publish(call, result)
        else:
            self._wait_for_parts(call)

    def _wait_for_parts(self, call: StageCall) -> None:
        """Wait until the parts that a job wrote on another machine are seen on this one.

        Raises:
            ResumableError: If they do not appear.
        """
        folder = self._directory / PARTS
        outputs = [folder / f"{output.name}.h5" for output in call.outputs]
        missing = {path for path in outputs if not path.exists()}
        deadline = time.monotonic() + APPEAR_S
        # A network file system may remember that a file did not exist; listing the folder makes it ask again.
        while missing := missing.difference(folder.iterdir() if missing else ()):
            if time.monotonic() > deadline or self._stopped.wait(LOOK_S):
                raise ResumableError(
                    f"{min(missing)}: was written on another machine, but is not seen here: the campaign directory "
                    "must be the same on all machines, or set `execution.store`. Nothing finished is lost: `al-engine "
                    "resume` goes on"
                )

    def stop(self) -> None:
        """End all jobs at once: running calls are lost, finished parts are on disk."""
        self._stopped.set()
        self._cluster.stop()


class _Places:
    """A limited number of places, which may change while some are taken.

    Args:
        count: Gives the number of places.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self._count, self._taken, self._changed = count, 0, threading.Condition()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place for as long as the block runs; waits for a free one."""
        with self._changed:
            while self._taken >= self._count():
                self._changed.wait(RECOUNT_S)
            self._taken += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify()


def _no_labels() -> NoReturn:
    raise RuntimeError("a call that needs nothing has no workers that label")


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
