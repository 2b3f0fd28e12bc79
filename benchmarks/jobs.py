"""Side by side: processes of one thread each that work off what a command has to compute."""

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
    """Processes with one thread each, new ones: they inherit neither torch nor its threads."""
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))  # read when a process starts
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)) as pool:
        yield pool


def _start_worker(parent_pid: int) -> None:
    die_with_parent(parent_pid)
    torch.set_num_threads(1)


def run_all(pool: ProcessPoolExecutor, tasks: Mapping[str, tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
    """Run functions with their arguments, by title, side by side; each is said when it is done.

    Raises:
        Exception: Whatever the first one to fail raised, after the others that were running.
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
    """A line for whoever watches."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
