"""Jobs for workers, in a module that they find by its name."""

import os
import signal
import time
from pathlib import Path


def fatal_job(*, progress, folder, deaths):
    """Kill this worker as often as told, then return its process id."""
    del progress
    for number in range(deaths):
        try:
            (Path(folder) / f"death{number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def slow_job(*, progress, seconds):
    progress(1, 2)
    time.sleep(seconds)
    return os.getpid()


def chatty_job(*, progress):
    """Report for ever."""
    while True:
        progress(1, 2, "still here")
