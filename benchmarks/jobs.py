"""Parallel jobs of a command: a pool of processes with one thread each."""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch

from al_engine.child_process import die_with_parent

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of new processes with one thread each, which inherit neither torch nor its threads."""
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))  # read when a process starts
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)) as pool:
        yield pool


def _start_worker(parent_pid: int) -> None:
    die_with_parent(parent_pid)
    torch.set_num_threads(1)


def run_all(pool: ProcessPoolExecutor, tasks: Mapping[str, tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
    """Run functions in the processes of a pool; the title of each is logged when it is finished.

    Args:
        pool: The pool.
        tasks: Functions and their arguments by title.

    Raises:
        Exception: The error of the first function that fails; functions that have not begun are cancelled.
    """
    waiting = {pool.submit(function, *arguments): title for title, (function, arguments) in tasks.items()}
    try:
        for done, future in enumerate(as_completed(waiting), start=1):
            future.result()
            log(f"[{done}/{len(tasks)}] {waiting[future]}: done")
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def log(text: str) -> None:
    """Print a line with the time on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
