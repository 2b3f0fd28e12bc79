"""Makes a worker process end together with the process that started it."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends; exit now if the parent is gone.

    Otherwise workers outlive a parent that was killed, and go on computing. The kernel is asked on Linux only; on other
    systems a worker notices the end of its parent when it has finished its current task.

    Args:
        parent_pid: Process id of the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
