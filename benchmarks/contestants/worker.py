"""The worker process of a contestant: it answers requests, a JSON object per line.

This module imports only numpy and torch, which the environments of all contestants have. A contestant turns the name of
a task and structures into a function without arguments. This module times the function, measures its memory and counts
its operations, in the same way for all contestants.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from contestants.counting import best_rates, count_operations
from contestants.profiling import profile_tables
from contestants.structures import Structure, read_structures

Task = Callable[[], object]


class Contestant(Protocol):
    """A model of a package."""

    def describe(self) -> Mapping[str, Any]:
        """Versions, number of parameters and setting of the model, as values that JSON can hold."""

    def modules(self) -> Mapping[str, nn.Module]:
        """The modules of the profile by name."""

    def task(self, name: str, structures: Sequence[Structure]) -> Task:
        """The function that is timed; all preparation is done before it is returned.

        Args:
            name: `forces`: energy and forces with a known neighbour list, returned as (energy (B,) in eV, forces
                (T, 3) in eV/Å). `neighbours`: the neighbour list and the other inputs of the model, which are returned.
                `training`: an update on a batch of all structures. A contestant may have further tasks.
            structures: The structures of the task.

        Raises:
            KeyError: If the contestant has no such task.
        """


Factory = Callable[[Mapping[str, Any], Sequence[Structure], torch.device], Contestant]


def serve(factory: Factory) -> None:
    """Load the contestant that the command line describes, then answer requests until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--setting", type=json.loads, required=True)
    parser.add_argument("--structures", type=Path, required=True)
    parser.add_argument("--device", type=torch.device, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument(
        "--answers",
        type=int,
        required=True,
        help="file descriptor for answers; standard output and error are used by libraries",
    )
    options = parser.parse_args()
    with os.fdopen(options.answers, "w", encoding="utf-8") as answers:
        torch.set_num_threads(options.threads)
        structures = read_structures(options.structures)
        training = [item for name, item in structures.items() if name.startswith("train")]
        session = _Session(factory(options.setting, training, options.device), structures, options.device)
        print(json.dumps(session.contestant.describe()), file=answers, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            answer = getattr(session, request.pop("request"))(**request)
            print(json.dumps(answer), file=answers, flush=True)


class _Session:
    """The requests: each public method answers the request of its name."""

    def __init__(self, contestant: Contestant, structures: Mapping[str, Structure], device: torch.device) -> None:
        self.contestant, self.structures, self.device = contestant, structures, device
        self.task: Task = lambda: None

    def prepare(self, task: str, structures: Sequence[str]) -> dict[str, Any]:
        """Choose the task of all further requests."""
        self.task = lambda: None  # frees the memory of the task before
        self.task = self.contestant.task(task, [self.structures[name] for name in structures])
        return {}

    def warm(self, n: int) -> dict[str, Any]:
        """Run the task n times; returns the seconds of the first and the last run."""
        seconds = []
        for _ in range(n):
            start = time.perf_counter()
            self.task()
            self._synchronize()
            seconds.append(time.perf_counter() - start)
        _return_free_memory()  # contestants take turns: the other contestants need it
        return {"first_s": seconds[0], "last_s": seconds[-1]}

    def measure(self, n: int) -> dict[str, list[float]]:
        """Run the task once untimed and n times timed; returns the milliseconds of each run.

        `cpu_ms` is the CPU time of all threads of the process, `wall_ms` the wall time between two synchronised points,
        and `device_ms` (only on a GPU) the time between two events on the device.
        """
        self.task()
        times: dict[str, list[float]] = {"cpu_ms": [], "wall_ms": []}
        if self.device.type == "cuda":
            times["device_ms"] = []
        for _ in range(n):
            events = self._events()
            self._synchronize()
            cpu, wall = time.process_time(), time.perf_counter()
            if events:
                events[0].record()
            self.task()
            if events:
                events[1].record()
            self._synchronize()
            times["cpu_ms"].append(1e3 * (time.process_time() - cpu))
            times["wall_ms"].append(1e3 * (time.perf_counter() - wall))
            if events:
                times["device_ms"].append(events[0].elapsed_time(events[1]))
        _return_free_memory()
        return times

    def memory(self, n: int) -> dict[str, float]:
        """Peak memory in MiB while the task runs n times, in addition to the memory before; for a new process.

        On a CPU this is the resident set size, whose peak is reset before; on a GPU the memory of tensors.
        """
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.warm(n)
            return {"peak_mib": (torch.cuda.max_memory_allocated() - before) / 2**20}
        _return_free_memory()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak VmHWM
        before = _status_bytes("VmRSS")
        self.warm(n)
        return {"peak_mib": (_status_bytes("VmHWM") - before) / 2**20}

    def count(self, *, operators: bool) -> dict[str, float]:
        """Counts of the task: see `count_operations`."""
        return count_operations(self.task, device=self.device, operators=operators)

    def rates(self, dtype: str) -> dict[str, float]:
        """Best rates of the device: see `best_rates`."""
        return best_rates(self.device, getattr(torch, dtype))

    def profile(self, n: int, rows: int) -> dict[str, str]:
        """Tables of the time of n runs by operator and by module."""
        modules = self.contestant.modules()
        return profile_tables(self.task, modules=modules, n=n, rows=rows, device=self.device)

    def result(self) -> dict[str, Any]:
        """Energies and forces of the task `forces`."""
        output: Any = self.task()
        return {name: value.detach().cpu().tolist() for name, value in zip(("energies", "forces"), output, strict=True)}

    def _events(self) -> Sequence[torch.cuda.Event]:
        return [torch.cuda.Event(enable_timing=True) for _ in range(2)] if self.device.type == "cuda" else []

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _return_free_memory() -> None:
    """Return the free memory of the heap to the kernel, independent of the allocator's thresholds."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _status_bytes(name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if match is None:
        raise OSError(f"/proc/self/status has no {name}; peak memory is measured only on Linux")
    return 1024 * int(match[1])
