"""Counts of a task (floating-point operations, operators, bytes, launches), and the best rates of the device."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry


class _Counter(TorchDispatchMode):
    """Counts operators, the bytes of their arguments and results, and the operations of matrix products.

    The bytes are the memory traffic of an evaluation without fusion and without caches: every operator reads its
    arguments and writes its results. Views are not counted.
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


def count_operations(task: Callable[[], object], *, device: torch.device, operators: bool = True) -> dict[str, float]:
    """Run the task and count; on a GPU it runs a second time to count launches.

    Args:
        task: The task.
        device: Device of the task.
        operators: Whether the task consists of PyTorch's operators; otherwise only its launches are counted.

    Returns:
        `flop`: floating-point operations of matrix products (two per multiply-add) by torch's formulas;
        `operators`: operators called, without views; `bytes`: bytes that these operators read and write; `launches`
        (only on a GPU): kernels and copies that ran on the device.
    """
    counts: dict[str, float] = {}
    if operators:
        with _Counter() as counter:
            task()
        counts |= {"flop": counter.flop, "operators": counter.operators, "bytes": counter.bytes}
    if device.type == "cuda":
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            task()
            torch.cuda.synchronize()
        counts["launches"] = sum(event.count for event in record.key_averages())
    return counts


def best_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """The best rates of this device, measured in this process.

    Returns:
        `flop_per_s` of a large square matrix product, `bytes_per_s` (read and written) of a large copy, and
        `s_per_operator` of an operator on a single number, synchronised only after the last operator.
    """
    edge, length, repeats = (8192, 2**28, 20000) if device.type == "cuda" else (2048, 2**26, 20000)
    square = torch.rand(edge, edge, dtype=dtype, device=device)
    product, long = torch.empty_like(square), torch.rand(length, dtype=dtype, device=device)
    copied, scalar = torch.empty_like(long), torch.ones(1, dtype=dtype, device=device)
    return {
        "flop_per_s": 2.0 * edge**3 / _seconds(lambda: torch.mm(square, square, out=product), device),
        "bytes_per_s": 2.0 * length * long.element_size() / _seconds(lambda: copied.copy_(long), device),
        "s_per_operator": _seconds(lambda: [scalar.add_(1.0) for _ in range(repeats)], device) / repeats,
    }


def _seconds(task: Callable[[], object], device: torch.device) -> float:
    """Seconds of the shortest of five runs, after an untimed run."""
    times = []
    for _ in range(6):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        task()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])
