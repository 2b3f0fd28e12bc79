"""What a task consists of: floating-point operations, operators, bytes, kernel launches."""

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
