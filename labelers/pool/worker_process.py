"""The pool's handle of a worker process: start it, send it a frame, receive its answer, kill it."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory

from al_engine.config import LabelsConfig
from al_engine.structures.frames import Frame
from labelers.pool import wire

START_LIMIT_S = 120.0
"""Longest time for a worker to start and build its labeler, s."""

_SINGLE_THREADED = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


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


def _worker_environment(scratch: str) -> dict[str, str]:
    """The environment variables of a worker whose temporary files go into `scratch`."""
    # Thread counts must be set before Python starts, because OpenBLAS reads them when it is loaded. A single thread
    # makes labels bitwise repeatable, and one process per core is faster than threads. PYTHONPATH gives the worker the
    # parent's import path, as multiprocessing's spawn would. Each worker has its own TMPDIR, which the pool removes: a
    # killed worker can't remove its files.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, **_SINGLE_THREADED, "PYTHONPATH": path, "TMPDIR": scratch}


class WorkerProcess:
    """A process that runs `labelers.pool.worker`.

    It is a plain subprocess. A `multiprocessing` process would import the parent's main module again (under Prefect,
    all of Prefect), and its environment could be set only by changing the parent's.

    Args:
        order: Description of the labeler to build.
        starter: Executor that starts the process. Its thread must outlive the worker, because the kernel kills the
            worker when the *thread* that started it ends.

    Attributes:
        connection: The pool's end of the socket.
        state: The worker's state.
        task: Index of the frame that the worker is labelling; None unless it is busy.
        deadline: Time from which the worker is overdue, `time.monotonic` in s; None while it is idle.
        sent_at: Time at which the current frame was sent, `time.monotonic` in s.
        answered: Number of frames answered.
    """

    def __init__(self, order: WorkerOrder, starter: Executor) -> None:
        self.connection, theirs = Pipe()
        self._scratch = TemporaryDirectory(prefix="al-engine-label-", ignore_cleanup_errors=True)
        # -P: Python must not import a folder `labelers` in the working directory instead of this package.
        command = [sys.executable, "-P", "-m", "labelers.pool.worker", str(theirs.fileno()), str(os.getpid())]
        try:
            self._process: subprocess.Popen[bytes] = starter.submit(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # Fortran backends print
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_worker_environment(self._scratch.name),
                start_new_session=True,  # so that programs it starts can be killed with it
            ).result()
        except BaseException:
            self.connection.close()
            self._scratch.cleanup()
            raise
        finally:
            theirs.close()  # so that the worker's death ends the connection
        self.state = WorkerState.STARTING
        self.task: int | None = None
        self.sent_at = 0.0
        self.answered = 0
        self.deadline: float | None = time.monotonic() + START_LIMIT_S
        self._send(
            {
                "config": order.config.model_dump(mode="json"),
                "factory": order.factory,
                "frame": None if order.frame is None else wire.frame_to_message(order.frame),
            }
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

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
            time_limit_s: Time until the worker is overdue, s.

        Returns:
            Whether the frame was sent; False if the worker is dead.
        """
        if not self._send(wire.frame_to_message(frame)):
            return False
        self.state, self.task, self.sent_at = WorkerState.BUSY, task, time.monotonic()
        self.deadline = self.sent_at + time_limit_s
        return True

    def _send(self, message: wire.Message) -> bool:
        try:
            wire.send(self.connection, message)
        except OSError:
            return False
        return True

    def receive(self) -> wire.Message | None:
        """Wait for the worker's next message; None if the worker died or sent an invalid message."""
        try:
            return wire.receive(self.connection)
        except (EOFError, OSError, ValueError):
            return None

    def kill(self, *, grace_s: float = 0.0) -> str:
        """Kill the process and every program that it has started.

        Args:
            grace_s: Time to wait before the kill, s, so that a dying process leaves the exit status of its failure.

        Returns:
            How the process ended, in words.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=grace_s)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # compiled code may not handle a weaker signal
        status = self._process.wait()
        self.connection.close()
        self._scratch.cleanup()
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
