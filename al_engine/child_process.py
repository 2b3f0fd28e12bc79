"""A child process that this process starts, sends JSON messages to, and takes with it when it ends.

JSON rather than pickle: compiled code may corrupt a child, and a corrupt message must not make the parent execute code.
Python's JSON floats are read back bit for bit, NaN and infinity included.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Message = dict[str, Any]
"""Values that JSON can hold."""

SINGLE_THREADED = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Environment variables that limit maths libraries to one thread; the libraries read them when they are loaded."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ChildProcess:
    """A process that runs `python -m MODULE SOCKET PARENT`.

    It is a plain subprocess. A `multiprocessing` process would import the parent's main module again (under Prefect,
    all of Prefect), and its environment could be set only by changing the parent's. The maths libraries of the child
    have one thread, which makes results bitwise repeatable.

    Args:
        module: The module, whose main function is `run_child`.
        starter: Executor that starts the process. Its thread must outlive the child, because the kernel kills the child
            when the *thread* that started it ends.
        environment: Environment variables that differ from the parent's.
        own_group: Whether the child leads a process group, so that programs which the child starts are killed with it.
            Otherwise the child is suspended and killed together with the parent's group.
        silent: Whether the error output of the child is discarded, as its other output always is.

    Attributes:
        connection: The parent's end of the socket.
    """

    def __init__(
        self,
        module: str,
        starter: Executor,
        *,
        environment: Mapping[str, str] | None = None,
        own_group: bool = False,
        silent: bool = False,
    ) -> None:
        self.connection, theirs = Pipe()
        self._own_group = own_group
        # -P: Python must not import a folder of the working directory instead of a package of the same name.
        command = [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(os.getpid())]
        # PYTHONPATH gives the child the parent's import path.
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        try:
            self._process: subprocess.Popen[bytes] = starter.submit(
                _started_without_interrupts,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # Fortran code prints
                stderr=subprocess.DEVNULL if silent else None,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **SINGLE_THREADED, "PYTHONPATH": path, **(environment or {})},
                start_new_session=own_group,
            ).result()
        except BaseException:
            self.connection.close()
            raise
        finally:
            theirs.close()  # so that the child's death ends the connection

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def send(self, message: Message) -> bool:
        """Send a message.

        Returns:
            Whether the message was sent; False if the child is dead.
        """
        try:
            send(self.connection, message)
        except OSError:
            return False
        return True

    def receive(self) -> Message | None:
        """Wait for the child's next message; None if the child died or sent an invalid message."""
        try:
            return receive(self.connection)
        except (EOFError, OSError, ValueError):
            return None

    def kill_process(self) -> None:
        """Send SIGKILL to the process and, if it leads a group, to every program that it has started."""
        with suppress(ProcessLookupError):  # compiled code may not handle a weaker signal
            if self._own_group:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def kill(self, *, grace_s: float = 0.0) -> str:
        """Kill the process as `kill_process` does, wait for its end, and close the connection.

        Args:
            grace_s: Time to wait before the kill, s, so that a dying process leaves the exit status of its failure.

        Returns:
            How the process ended, in words.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=grace_s)
        self.kill_process()
        status = self._process.wait()
        self.connection.close()
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"


def _started_without_interrupts(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a process that Ctrl-C does not reach until `_connect` has made it ignore Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the process inherits the mask of this thread
    try:
        return subprocess.Popen(command, **options)  # noqa: S603 (this interpreter and one of our modules)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _connect(arguments: list[str]) -> Connection:
    """Connect this process, which a `ChildProcess` has started, to its parent, and make it end with its parent.

    Args:
        arguments: File descriptor of the socket, and process id of the parent.
    """
    socket, parent_pid = (int(argument) for argument in arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    die_with_parent(parent_pid)
    return Connection(socket)


def run_child(arguments: list[str], serve: Callable[[Connection], None]) -> int:
    """The main function of a program that a `ChildProcess` runs: serve the parent until it closes the connection.

    Args:
        arguments: File descriptor of the socket, and process id of the parent.
        serve: Answers the messages of a connection; ends with `EOFError` or `OSError` when the parent closes it.

    Returns:
        The exit status.
    """
    connection = _connect(arguments)
    with suppress(EOFError, OSError):
        serve(connection)
    return 0


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends; exit now if the parent is gone.

    Otherwise a child outlives a parent that was killed, and goes on computing. The kernel is asked on Linux only; on
    other systems a child notices the end of its parent when it has finished its current task.

    Args:
        parent_pid: Process id of the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def send(connection: Connection, message: Message) -> None:
    """Send a message.

    Raises:
        OSError: If the other process has closed the connection.
    """
    connection.send_bytes(json.dumps(message).encode())


def receive(connection: Connection) -> Message:
    """Wait for a message.

    Raises:
        EOFError: If the other process has closed the connection.
        OSError: If the connection is broken.
        ValueError: If the bytes received are not a JSON object.
    """
    message = json.loads(connection.recv_bytes())
    if not isinstance(message, dict):
        raise ValueError(f"expected a JSON object, got {type(message).__name__}")  # noqa: TRY004 - bad data, not a bug
    return message
