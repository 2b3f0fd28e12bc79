"""The pool's view of a worker process: its state, the frame that it labels, and its deadline."""

import time
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum, auto
from tempfile import TemporaryDirectory

from al_engine.child_process import ChildProcess
from al_engine.config import LabelsConfig
from al_engine.structures.frames import Frame
from labelers.pool.wire import frame_to_message

START_LIMIT_S = 120.0
"""Longest time for a worker to start and build its labeler, s."""


class WorkerState(Enum):
    """The state of a worker: starting, idle or busy with a frame."""

    STARTING = auto()
    IDLE = auto()
    BUSY = auto()


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """Description of the labeler that a worker is to build.

    Attributes:
        config: Settings of the labels; the backend is not `auto`.
        factory: `module:function` that makes a `Labeler` from a `LabelsConfig`, importable in the worker.
        frame: A frame representative of all frames to label, which the labeler checks once it is built; None: no check.
    """

    config: LabelsConfig
    factory: str
    frame: Frame | None = None


class WorkerProcess(ChildProcess):
    """A process that runs `labelers.pool.worker`.

    Each worker has its own folder for temporary files. The pool removes it, because a killed worker can't.

    Args:
        order: Description of the labeler to build.
        starter: Executor that starts the process, see `ChildProcess`.

    Attributes:
        state: The worker's state.
        task: Index of the frame that the worker is labelling; None unless it is busy.
        deadline: Time after which the worker is overdue, `time.monotonic` in s; None while it is idle.
        sent_at: Time at which the last frame was sent, `time.monotonic` in s.
        answered: Number of frames that the worker has answered; the pool counts them.
    """

    def __init__(self, order: WorkerOrder, starter: Executor) -> None:
        self._scratch = TemporaryDirectory(prefix="al-engine-label-", ignore_cleanup_errors=True)
        environment = {"TMPDIR": self._scratch.name}
        try:
            super().__init__("labelers.pool.worker", starter, environment=environment, own_group=True, silent=True)
        except BaseException:
            self._scratch.cleanup()
            raise
        self.state = WorkerState.STARTING
        self.task: int | None = None
        self.sent_at = 0.0
        self.answered = 0
        self.deadline: float | None = time.monotonic() + START_LIMIT_S
        self.send(
            {
                "config": order.config.model_dump(mode="json"),
                "factory": order.factory,
                "frame": None if order.frame is None else frame_to_message(order.frame),
            }
        )

    @property
    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def set_idle(self) -> None:
        """Mark the worker as idle after it has answered."""
        self.state, self.task, self.deadline = WorkerState.IDLE, None, None

    def give(self, task: int, frame: Frame, time_limit_s: float) -> bool:
        """Send a frame to an idle worker.

        Args:
            task: Index of the frame.
            frame: The frame.
            time_limit_s: Time after which the worker is overdue, s.

        Returns:
            Whether the frame was sent; False if the worker is dead.
        """
        if not self.send(frame_to_message(frame)):
            return False
        self.state, self.task, self.sent_at = WorkerState.BUSY, task, time.monotonic()
        self.deadline = self.sent_at + time_limit_s
        return True

    def kill(self, *, grace_s: float = 0.0) -> str:
        """Kill the process and the programs that it started, and remove its temporary files.

        Args:
            grace_s: As in `ChildProcess.kill`.

        Returns:
            The cause of the process's end, as `ChildProcess.kill` returns it.
        """
        cause = super().kill(grace_s=grace_s)
        self._scratch.cleanup()
        return cause
