"""What a worker process does first: tie its life to its parent's."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends; exit now if the parent is gone.

    Without it, workers outlive a parent that was killed, and keep computing for nobody. Does nothing but on Linux;
    elsewhere a worker notices when it is done with what it is working on.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
