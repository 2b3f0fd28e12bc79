"""A pool of single-threaded labelling processes in which a crash, a hang or an exception costs one frame.

A frame whose worker died is tried once more in a new one: what an operator or a full memory killed gets its label, so
that labels depend on the frames alone, and what crashes the backend crashes it twice.

Each worker has a socket of its own and at most one frame at a time, so it is always known which frame a lost worker
had; nothing is shared between workers that a dying one could leave locked. The pool is one loop in the caller's thread:
it hands out frames, waits, and replaces what it had to kill.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import wait
from typing import Self

from al_engine.campaign.labels import LabelOutcome, LabelReason
from al_engine.config import LabelsConfig
from al_engine.cores import usable_cores
from al_engine.errors import InputError, ResumableError
from al_engine.protocols import Progress, silent
from al_engine.structures.frames import Frame, LabelledFrame
from labelers.backends.registry import resolve_backend
from labelers.pool import wire
from labelers.pool.label_check import screen_label
from labelers.pool.worker_process import START_LIMIT_S, WorkerOrder, WorkerProcess, WorkerState

Record = Callable[[int, LabelOutcome], None]

DEFAULT_FACTORY = "labelers.backends.registry:create_labeler"
_LABELS_PER_WORKER = 1000
"""A worker is replaced after so many: should a backend leak, it leaks no further. Starting one takes half a second."""
_MAX_FAILED_STARTS = 3
_LONGEST_WAIT_S = 1.0
_DYING_S = 10.0


def forget(index: int, outcome: LabelOutcome) -> None:
    """A record that keeps nothing."""
    del index, outcome


class LabelPool:
    """Worker processes that label frames. A context manager; processes start with the first frames and are reused.

    Calls of `label` from several threads take turns.

    Args:
        config: Settings of the labels.
        periodic: Whether the frames are periodic; decides what `backend: auto` means.
        workers: Number of processes; None: one per core.
        factory: `module:function` that makes a `Labeler` from a `LabelsConfig`; workers have this import path.

    Raises:
        InputError: If the backend is not there.
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
        # The kernel kills a worker with the thread that started it, so one thread of the pool's own starts them all.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="label-pool-starter")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers at once. Safe to call twice."""
        with self._turn:
            for worker in self._workers:
                worker.kill()
            self._workers.clear()
            self._starter.shutdown()

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that are running."""
        return [worker.pid for worker in self._workers if worker.alive]

    def check(self, frame: Frame) -> None:
        """Build the labeler in a worker and let it look at a frame: what can't work is said before the first label.

        Args:
            frame: One that stands for all that are to be labelled.

        Raises:
            InputError: If the labeler can't be built, or refuses the frame.
            ResumableError: If the worker dies or takes too long.
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
        """Label frames that have passed the screen.

        Args:
            frames: Frames to label.
            time_limit_s: Time each may take, starting when an idle worker is given it; start-up does not count.
            record: Given every outcome the moment it is there, with its frame's index; the order is not that of frames.
            progress: Told about every frame that is finished.

        Returns:
            One outcome per frame, in order.

        Raises:
            InputError: If the labeler can't be built.
            ResumableError: If workers die again and again before they are ready.
        """
        with self._turn:
            batch = _Batch(frames, record, progress)
            try:
                while batch.unfinished:
                    self._start_workers(batch.unfinished)
                    self._hand_out(batch, time_limit_s)
                    self._listen(batch)
                    self._end_overdue(batch, time_limit_s)
            finally:
                # Only after an exception is a worker still busy here; what it would answer nobody waits for any more.
                for worker in [worker for worker in self._workers if worker.state is WorkerState.BUSY]:
                    self._remove(worker)
            return batch.in_order()

    def _start_workers(self, n_wanted: int) -> None:
        for worker in [worker for worker in self._workers if worker.state is WorkerState.IDLE and not worker.alive]:
            self._remove(worker)
        while len(self._workers) < min(self._n_workers, n_wanted):
            self._workers.append(WorkerProcess(self._order, self._starter))

    def _hand_out(self, batch: "_Batch", time_limit_s: float) -> None:
        for worker in [worker for worker in self._workers if worker.state is WorkerState.IDLE]:
            if not batch.waiting:
                return
            task = batch.waiting[0]
            if worker.give(task, batch.frames[task], time_limit_s):
                batch.waiting.popleft()
            else:
                self._failed_start(self._remove(worker))

    def _listen(self, batch: "_Batch") -> None:
        busy = {worker.connection: worker for worker in self._workers if worker.deadline is not None}
        next_deadline = min((worker.deadline or 0.0 for worker in busy.values()), default=0.0)
        timeout = min(_LONGEST_WAIT_S, max(0.0, next_deadline - time.monotonic()))
        for connection in wait(list(busy), timeout=timeout):
            self._hear(busy[connection], batch)  # type: ignore[index]  # wait gives back what it was given

    def _hear(self, worker: WorkerProcess, batch: "_Batch") -> None:
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

    def _outcome(self, frame: Frame, answer: wire.Message) -> LabelOutcome:
        seconds = answer["seconds"]
        if "reason" in answer:
            return LabelOutcome(LabelReason(answer["reason"]), answer["message"], None, seconds)
        energy, forces = answer["energy"], answer["forces"]
        fault = screen_label(len(frame), energy, forces, max_force_ev_per_ang=self._max_force)
        if fault is not None:
            return LabelOutcome(*fault, None, seconds)
        labelled = LabelledFrame(frame, energy, forces)
        return LabelOutcome(LabelReason.OK, "", labelled, seconds, rescue=str(answer.get("rescue", "")))

    def _end_overdue(self, batch: "_Batch", time_limit_s: float) -> None:
        for worker in [worker for worker in self._workers if worker.overdue]:
            task = worker.task
            self._remove(worker)
            if task is None:
                self._failed_start(f"not ready after {START_LIMIT_S:g} s")
            else:
                message = f"no label after {time_limit_s:g} s; raise labels.time_limit_s if the frame deserves it"
                batch.finish(task, LabelOutcome(LabelReason.TIME_LIMIT, message, None, time_limit_s))

    def _remove(self, worker: WorkerProcess, *, grace_s: float = 0.0) -> str:
        self._workers.remove(worker)
        return worker.kill(grace_s=grace_s)

    def _failed_start(self, cause: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            self._failed_starts = 0
            raise ResumableError(
                f"labelling workers end before they are ready ({cause}); see why with "
                f"`python -c 'import labelers.pool.worker'` and the import of backend {self._order.config.backend}"
            )


class _Batch:
    """The frames of one call, and what has become of them."""

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
        """Whether a frame whose worker died gets another: once, as the worker may have been killed from outside."""
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
