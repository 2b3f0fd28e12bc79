"""Time of a task by operator and by module; a backward operator counts for the module of its forward operator."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

BLOCK = "block: "
"""Prefix of the profiler ranges of modules."""
ELSEWHERE = "outside of all modules"
BACKWARD = "autograd::engine::evaluate_function"


def profile_tables(
    task: Callable[[], object], *, modules: Mapping[str, nn.Module], n: int, rows: int, device: torch.device
) -> dict[str, str]:
    """Tables of n runs by operator and by module.

    Args:
        task: The task.
        modules: Modules by name, for the table of modules.
        n: Number of runs.
        rows: Rows of each table.
        device: Device of the task; on a GPU the times are those on the device.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with _ranges(modules), profile(activities=activities) as record:
        for _ in range(n):
            task()
        if device.type == "cuda":
            torch.cuda.synchronize()
    time = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    averages = [row for row in record.key_averages() if not row.key.startswith(BLOCK)]
    by_operator = [(row.key, row.count / n, getattr(row, time) / n) for row in averages]
    by_module = [(name, 1.0, micros / n) for name, micros in _time_of_modules(record.events() or [], time).items()]
    return {"operators": _table(by_operator, rows), "modules": _table(by_module, rows)}


@contextmanager
def _ranges(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Mark the forward passes of modules in the profile, each under its name and class."""
    hooks = []
    for name, module in modules.items():
        title = f"{BLOCK}{name} ({type(module).__name__})"
        open_ranges: list[Any] = []

        def enter(*_: Any, title: str = title, open_ranges: list[Any] = open_ranges) -> None:
            open_ranges.append(record_function(title))
            open_ranges[-1].__enter__()

        def leave(*_: Any, open_ranges: list[Any] = open_ranges) -> None:
            open_ranges.pop().__exit__(None, None, None)

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _time_of_modules(events: Iterable[Any], time: str) -> dict[str, float]:
    """Microseconds by module and pass; an operator belongs to the innermost module around it.

    Autograd numbers the operators of the forward pass, and a backward function has the number of the operator whose
    gradient it computes.
    """
    events = list(events)
    owner_of_number: dict[int, str] = {}
    for event in events:
        if event.sequence_nr >= 0 and not any(a.name.startswith(BACKWARD) for a in _ancestry(event)):
            owner_of_number[event.sequence_nr] = _owner(event)
    totals: dict[str, float] = defaultdict(float)
    for event in events:
        if event.name.startswith(BLOCK):
            continue  # the profiler's own work for the range
        backward = next((a for a in _ancestry(event) if a.name.startswith(BACKWARD)), None)
        owner = _owner(event) if backward is None else owner_of_number.get(backward.sequence_nr, ELSEWHERE)
        totals[f"{'forward' if backward is None else 'backward'}: {owner}"] += getattr(event, time)
    return totals


def _owner(event: Any) -> str:
    names = (a.name.removeprefix(BLOCK) for a in _ancestry(event) if a.name.startswith(BLOCK))
    return next(names, ELSEWHERE)


def _ancestry(event: Any) -> Iterator[Any]:
    """The event and the events around it, innermost first."""
    while event is not None:
        yield event
        event = event.cpu_parent


def _table(rows: Iterable[tuple[str, float, float]], limit: int) -> str:
    """A table of milliseconds, share and calls per run, from rows (name, calls, microseconds), largest time first."""
    ordered = sorted(rows, key=lambda row: -row[2])
    total = sum(micros for _, _, micros in ordered)
    lines = [f"{'ms':>9} {'share':>6} {'calls':>7}  per evaluation; all: {1e-3 * total:.2f} ms"]
    for name, calls, micros in ordered[:limit]:
        lines.append(f"{1e-3 * micros:9.3f} {micros / total:6.1%} {calls:7.1f}  {name}")
    return "\n".join(lines)
