"""A pool of single-threaded labelling processes in which a crash, a hang or an exception costs a single frame.

A frame whose worker died is labelled once more by a new worker. So a worker killed by an operator or for lack of
memory costs no label, and labels depend on the frames alone. A frame that crashes the backend crashes it twice and
fails.

Each worker has its own socket and at most one frame at a time, so the pool always knows which frame a lost worker had.
Workers share no lock that a dying worker could leave locked. The pool is a loop in the caller's thread: it hands out
frames, waits for answers, and replaces lost workers.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import wait
from typing import Self

import numpy as np

from al_engine.campaign.labels import LabelOutcome, LabelReason
from al_engine.child_process import Message
from al_engine.config import LabelsConfig
from al_engine.cores import usable_cores
from al_engine.errors import InputError, ResumableError
from al_engine.protocols import Progress, silent
from al_engine.structures.frames import Frame, LabelledFrame
from labelers.backends.registry import resolve_backend
from labelers.pool.label_check import screen_label
from labelers.pool.worker_process import START_LIMIT_S, WorkerOrder, WorkerProcess, WorkerState

Record = Callable[[int, LabelOutcome], None]
"""A function that is called with a frame's index and its outcome."""

DEFAULT_FACTORY = "labelers.backends.registry:create_labeler"
_LABELS_PER_WORKER = 1000
"""Answers after which a worker is replaced, to bound memory leaks of backends. A start takes half a second."""
_MAX_FAILED_STARTS = 3
"""Failed starts of workers in a row after which the pool gives up."""
_LONGEST_WAIT_S = 1.0
"""Longest wait for answers before workers are checked again, s."""
_DYING_S = 10.0
"""Time for a failed worker to end by itself before it is killed, so that its exit status tells the cause, s."""


def forget(index: int, outcome: LabelOutcome) -> None:
    """Ignore an outcome: the default `Record`."""
    del index, outcome


class LabelPool:
    """Worker processes that label frames; a context manager.

    Processes start with the first frames and are reused. Calls of `label` from several threads run one after another.

    Args:
        config: Settings of the labels.
        periodic: Whether the frames are periodic; decides which backend `backend: auto` selects.
        workers: Number of processes; None: one per usable core.
        factory: `module:function` that makes a `Labeler` from a `LabelsConfig`. Workers have the import path of this
            process.

    Raises:
        InputError: If the backend is not installed or can't label periodic frames.
    """

    def __init__(
        self,
        config: LabelsConfig,
        *,
        periodic: bool = False,
        workers: int | None = None,
        factory: str = DEFAULT_FACTORY,
    ) -> None:
        backend = resolve_backend(config, periodic=periodic)
        self._order = WorkerOrder(config=config.model_copy(update={"backend": backend}), factory=factory)
        self._max_force = config.max_force_ev_per_ang
        self._n_workers = workers or usable_cores()
        self._workers: list[WorkerProcess] = []
        self._failed_starts = 0
        self._turn = threading.Lock()
        self._closing = threading.Event()
        # The kernel kills a worker when the thread that started it ends. The pool therefore starts all workers from a
        # thread of its own, which lives as long as the pool.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="label-pool-starter")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers, also those that another thread waits for in `label`. May be called twice."""
        self._closing.set()
        with self._turn:
            for worker in self._workers:
                worker.kill()
            self._workers.clear()
            self._starter.shutdown()

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the running workers."""
        return [worker.pid for worker in self._workers if worker.alive]

    def check(self, frame: Frame) -> None:
        """Build the labeler in a worker and let it check a frame, so that wrong settings show before the first label.

        Args:
            frame: A frame that is representative of all frames to label.

        Raises:
            InputError: If the labeler can't be built, or refuses the frame.
            ResumableError: If the worker dies or is not ready within `START_LIMIT_S`.
        """
        worker = WorkerProcess(replace(self._order, frame=frame), self._starter)
        message, grace_s = None, 0.0
        try:
            if worker.connection.poll(START_LIMIT_S):
                message = worker.receive()
                grace_s = _DYING_S if message is None else 0.0
        finally:
            cause = worker.kill(grace_s=grace_s)
        if message is None:
            raise ResumableError(f"a labelling process was not ready in {START_LIMIT_S:.0f} s, or died: {cause}")
        if "fatal" in message:
            raise InputError(message["fatal"])

    def label(
        self,
        frames: Sequence[Frame],
        *,
        time_limit_s: float,
        record: Record = forget,
        progress: Progress = silent,
    ) -> list[LabelOutcome]:
        """Label frames that have passed `screen_frame`.

        Args:
            frames: Frames to label.
            time_limit_s: Longest time per frame, s, from the moment a worker receives it; start-up does not count.
            record: Called with the frame's index and the outcome as soon as the outcome is known, in any order.
            progress: Called for every finished frame.

        Returns:
            The outcome of each frame, in order.

        Raises:
            InputError: If the labeler can't be built.
            ResumableError: If workers repeatedly die before they are ready, or the pool is closed.
        """
        with self._turn:
            batch = _Batch(frames, record, progress)
            try:
                while batch.unfinished:
                    if self._closing.is_set():
                        raise ResumableError("labelling was stopped")
                    self._start_workers(batch.unfinished)
                    self._hand_out(batch, time_limit_s)
                    self._listen(batch)
                    self._end_overdue(batch, time_limit_s)
            finally:
                # Workers are still busy here only after an exception. Nobody waits for their answers any more.
                for worker in [worker for worker in self._workers if worker.state is WorkerState.BUSY]:
                    self._remove(worker)
            return batch.in_order()

    def _start_workers(self, n_wanted: int) -> None:
        """Drop idle workers that died, and start workers up to the pool's size or the number wanted."""
        for worker in [worker for worker in self._workers if worker.state is WorkerState.IDLE and not worker.alive]:
            self._remove(worker)
        while len(self._workers) < min(self._n_workers, n_wanted):
            self._workers.append(WorkerProcess(self._order, self._starter))

    def _hand_out(self, batch: "_Batch", time_limit_s: float) -> None:
        """Give a waiting frame to each idle worker."""
        for worker in [worker for worker in self._workers if worker.state is WorkerState.IDLE]:
            if not batch.waiting:
                return
            task = batch.waiting[0]
            if worker.give(task, batch.frames[task], time_limit_s):
                batch.waiting.popleft()
            else:
                self._failed_start(self._remove(worker))

    def _listen(self, batch: "_Batch") -> None:
        """Wait for messages until the next deadline, `_LONGEST_WAIT_S` at most, and process them."""
        busy = {worker.connection: worker for worker in self._workers if worker.deadline is not None}
        next_deadline = min((worker.deadline or 0.0 for worker in busy.values()), default=0.0)
        timeout = min(_LONGEST_WAIT_S, max(0.0, next_deadline - time.monotonic()))
        for connection in wait(list(busy), timeout=timeout):
            self._hear(busy[connection], batch)  # type: ignore[index]  # `wait` returns the objects it was given

    def _hear(self, worker: WorkerProcess, batch: "_Batch") -> None:
        """Process a worker's message, or its death."""
        message = worker.receive()
        task = worker.task
        if message is None:
            seconds = time.monotonic() - worker.sent_at
            cause = self._remove(worker, grace_s=_DYING_S)
            if task is None:
                self._failed_start(cause)
            elif not batch.try_again(task):
                limit = self._order.config.memory_limit_mib
                words = f"two workers were lost on it, the last {cause}"
                words += f" (labels.memory_limit_mib is {limit})" if limit is not None else ""
                batch.finish(task, LabelOutcome(LabelReason.WORKER_DIED, words, None, seconds))
        elif "fatal" in message:
            self._remove(worker, grace_s=_DYING_S)
            raise InputError(message["fatal"])
        else:
            self._failed_starts = 0
            worker.set_idle()
            if task is not None:
                batch.finish(task, self._outcome(batch.frames[task], message))
                worker.answered += 1
                if worker.answered >= _LABELS_PER_WORKER:
                    self._remove(worker)

    def _outcome(self, frame: Frame, answer: Message) -> LabelOutcome:
        """The outcome of a frame from a worker's answer, after `screen_label`."""
        seconds = answer["seconds"]
        if "reason" in answer:
            return LabelOutcome(LabelReason(answer["reason"]), answer["message"], None, seconds)
        energy, forces = answer["energy"], answer["forces"]
        fault = screen_label(len(frame), energy, forces, max_force_ev_per_ang=self._max_force)
        if fault is not None:
            return LabelOutcome(*fault, None, seconds)
        stress = answer.get("stress")
        if stress is not None and not (np.shape(stress) == (3, 3) and np.isfinite(stress).all()):
            stress = None  # energy and forces are a label without it
        labelled = LabelledFrame(frame, energy, forces, stress)
        return LabelOutcome(LabelReason.OK, "", labelled, seconds, rescue=str(answer.get("rescue", "")))

    def _end_overdue(self, batch: "_Batch", time_limit_s: float) -> None:
        """Kill workers past their deadline; their frames fail with the reason `time_limit`."""
        for worker in [worker for worker in self._workers if worker.overdue]:
            task = worker.task
            self._remove(worker)
            if task is None:
                self._failed_start(f"not ready after {START_LIMIT_S:g} s")
            else:
                message = f"no label after {time_limit_s:g} s; raise labels.time_limit_s if the frame deserves it"
                batch.finish(task, LabelOutcome(LabelReason.TIME_LIMIT, message, None, time_limit_s))

    def _remove(self, worker: WorkerProcess, *, grace_s: float = 0.0) -> str:
        """Kill a worker and drop it from the pool; returns how it ended, in words."""
        self._workers.remove(worker)
        return worker.kill(grace_s=grace_s)

    def _failed_start(self, cause: str) -> None:
        """Count a failed start; raise `ResumableError` at the `_MAX_FAILED_STARTS`-th in a row."""
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            self._failed_starts = 0
            raise ResumableError(
                f"labelling workers end before they are ready ({cause}); see why with "
                f"`python -c 'import labelers.pool.worker'` and the import of backend {self._order.config.backend}"
            )


class _Batch:
    """The frames of a single call of `LabelPool.label`, and their outcomes."""

    def __init__(self, frames: Sequence[Frame], record: Record, progress: Progress) -> None:
        self.frames = frames
        self._record = record
        self.waiting = deque(range(len(frames)))
        self._outcomes: dict[int, LabelOutcome] = {}
        self._tried_again: set[int] = set()
        self._progress = progress

    @property
    def unfinished(self) -> int:
        return len(self.frames) - len(self._outcomes)

    def try_again(self, task: int) -> bool:
        """Put a frame whose worker died back into the queue, unless that has happened before.

        Returns:
            Whether the frame is queued again.
        """
        if task in self._tried_again:
            return False
        self._tried_again.add(task)
        self.waiting.appendleft(task)
        return True

    def finish(self, task: int, outcome: LabelOutcome) -> None:
        self._outcomes[task] = outcome
        self._record(task, outcome)
        self._progress(len(self._outcomes), len(self.frames), "" if outcome.ok else outcome.reason.value)

    def in_order(self) -> list[LabelOutcome]:
        return [self._outcomes[task] for task in range(len(self.frames))]
