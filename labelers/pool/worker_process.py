"""One worker process as the pool sees it: start it, hand it a frame, hear from it, kill it."""

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
"""Time a worker may take to start and build its labeler."""

_SINGLE_THREADED = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


class WorkerState(Enum):
    """Where a worker is in its life."""

    STARTING = auto()
    IDLE = auto()
    BUSY = auto()


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What a worker is told to build.

    Attributes:
        config: Settings of the labels, backend resolved.
        factory: `module:function` that makes a `Labeler` from a `LabelsConfig`, importable in the worker.
        frame: One that stands for all to be labelled: the worker refuses it before the first label if it can tell then
            that it can't label it. None: there is nothing to look at.
    """

    config: LabelsConfig
    factory: str
    frame: Frame | None = None


def _worker_environment(scratch: str) -> dict[str, str]:
    # Thread counts must stand in the environment before Python starts: OpenBLAS reads them when it is loaded. One
    # thread makes labels bitwise repeatable, and one process per core is faster than threads. PYTHONPATH gives the
    # worker the parent's import path, as multiprocessing's spawn would. TMPDIR is the worker's own and removed with it:
    # a worker that is killed removes nothing itself.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, **_SINGLE_THREADED, "PYTHONPATH": path, "TMPDIR": scratch}


class WorkerProcess:
    """A process running `labelers.pool.worker`.

    A plain subprocess rather than a multiprocessing one: the latter imports the parent's main module again, and with
    it, under Prefect, all of Prefect; and its environment could only be set by changing the parent's.

    Args:
        order: What to build.
        starter: Where the process is started from: its thread must live as long as the worker is wanted, because the
            kernel kills the worker with the *thread* that started it.

    Attributes:
        state: Where the worker is in its life.
        task: Index of the frame it has, while busy.
        deadline: When it is overdue, on `time.monotonic`'s clock; None while idle.
        sent_at: When the current frame was sent, on the same clock.
        answered: How many frames it has answered.
    """

    def __init__(self, order: WorkerOrder, starter: Executor) -> None:
        self.connection, theirs = Pipe()
        self._scratch = TemporaryDirectory(prefix="al-engine-label-", ignore_cleanup_errors=True)
        # -P: a folder `labelers` that happens to stand in the working directory must not be taken for this package.
        command = [sys.executable, "-P", "-m", "labelers.pool.worker", str(theirs.fileno()), str(os.getpid())]
        try:
            self._process: subprocess.Popen[bytes] = starter.submit(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # Fortran prints as it likes
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_worker_environment(self._scratch.name),
                start_new_session=True,  # so that the programs it starts can be ended with it
            ).result()
        except BaseException:
            self.connection.close()
            self._scratch.cleanup()
            raise
        finally:
            theirs.close()  # so that the worker's death is an end of file here
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
        """Whether its time is up."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def set_idle(self) -> None:
        """The worker has answered and may be given a frame."""
        self.state, self.task, self.deadline = WorkerState.IDLE, None, None

    def give(self, task: int, frame: Frame, time_limit_s: float) -> bool:
        """Hand an idle worker a frame; False if it turns out to be dead and never got it."""
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
        """The worker's next message, or None if it died, or talks nonsense, which is as good as dead."""
        try:
            return wire.receive(self.connection)
        except (EOFError, OSError, ValueError):
            return None

    def kill(self, *, grace_s: float = 0.0) -> str:
        """End the process and every program that it has started, whatever they are doing.

        Args:
            grace_s: Time it gets to end by itself, for one that is known to be dying and whose exit status tells why.

        Returns:
            How it ended, in words.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=grace_s)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # a backend in compiled code hears nothing softer
        status = self._process.wait()
        self.connection.close()
        self._scratch.cleanup()
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
