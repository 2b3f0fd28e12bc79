"""What a task consists of: floating-point operations, operators, bytes, kernel launches, and where the time goes."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry


class _Counter(TorchDispatchMode):
    """Counts operators that touch data, the bytes of the tensors they take and give, and matrix products' operations.

    Every operator reads its arguments and writes its results: what an evaluation without any fusion moves through
    memory, caches aside. Views are free.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0
        self.bytes = 0
        self.flop = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [item for item in tree_iter((args, kwargs, result)) if isinstance(item, torch.Tensor)]
            self.operators += 1
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flop += formula(*args, **(kwargs or {}), out_val=result)
        return result


def count_operations(task: Callable[[], object], *, device: torch.device) -> dict[str, float]:
    """Run the task once and count; on a GPU once more for its launches.

    Returns:
        `flop`: floating-point operations of matrix products (two per multiply-add) by torch's formulas;
        `operators`: operators called, views aside; `bytes`: what they read and write; `launches` (GPUs alone):
        kernels and copies that ran on the device.
    """
    with _Counter() as counter:
        task()
    counts: dict[str, float] = {
        "flop": counter.flop,
        "operators": counter.operators,
        "bytes": counter.bytes,
    }
    if device.type == "cuda":
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            task()
            torch.cuda.synchronize()
        counts["launches"] = sum(event.count for event in record.key_averages())
    return counts


def profile_tables(task: Callable[[], object], *, n: int, rows: int, device: torch.device) -> dict[str, str]:
    """Tables of n runs: `operators` and `blocks`, the ranges that the contestant named by `record_function`."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as record:
        for _ in range(n):
            task()
        if device.type == "cuda":
            torch.cuda.synchronize()
    averages = record.key_averages()
    order = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return {"operators": averages.table(sort_by=order, row_limit=rows)}
