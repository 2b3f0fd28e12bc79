"""Members of a committee side by side in one network: one more axis in front of the weights, and only there.

The nodes of all members stand one after the other, as many for each; geometry, gathers and sums over neighbours do not
ask whose they are. Wherever weights act, each member's act on its own share of the nodes, in one batched product. A
network of one member has no such axis (`models.training.stacked` makes those that do).
"""

import torch
from torch import Tensor


def apply_weight(x: Tensor, weight: Tensor, *, nodes: int = 0) -> Tensor:
    """The product x W, for each member with its own W.

    Args:
        x: Values (..., n_in).
        weight: W, shape (n_in, n_out), or those of M members, (M, n_in, n_out).
        nodes: Axis of x that numbers the nodes.
    """
    if weight.dim() == 2:  # noqa: PLR2004  # a matrix
        return x @ weight
    x = x.movedim(nodes, 0)
    y = torch.bmm(x.reshape(len(weight), -1, x.shape[-1]), weight)
    return y.view(*x.shape[:-1], -1).movedim(0, nodes)


def member_channels(weight: Tensor) -> Tensor:
    """Weights (S, C, n) of every species and channel; those of M members, (M, S, C, n), as of M C channels."""
    return weight.transpose(0, 1).flatten(1, 2) if weight.dim() == 4 else weight  # noqa: PLR2004


def channels_first(features: Tensor, n_members: int) -> Tensor:
    """Features (n, T, C) as one matrix per channel and member, (M C, n, T / M)."""
    return features.unflatten(1, (n_members, -1)).permute(1, 3, 0, 2).flatten(0, 1).contiguous()


def channels_last(matrices: Tensor, n_members: int) -> Tensor:
    """The way back, from (M C, n, T / M) to (n, T, C)."""
    return matrices.unflatten(0, (n_members, -1)).permute(2, 0, 3, 1).flatten(1, 2)
