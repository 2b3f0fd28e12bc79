"""Tensor operations with cheaper derivatives than torch's own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class _Concatenate(torch.autograd.Function):
    """`torch.cat` with `split` as its derivative and `cat` as its second derivative.

    torch's own derivative slices each part; in a double backward pass each slice becomes a zero-filled copy.
    """

    @staticmethod
    def forward(ctx: Any, dim: int, *parts: Tensor) -> Tensor:
        ctx.dim, ctx.sizes = dim, [part.shape[dim] for part in parts]
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *gradients[0].split(ctx.sizes, ctx.dim))


def concatenate(parts: Sequence[Tensor], *, dim: int = 0) -> Tensor:
    """`torch.cat`, with cheap first and second derivatives."""
    if len(parts) == 1:
        return parts[0]
    result: Tensor = _Concatenate.apply(dim, *parts)
    return result
