"""Stacked members: parameters get a leading member axis M, all other tensors stay as they are.

The nodes of all members are concatenated, with equal numbers for each; geometry, gathers and sums over neighbours are
independent of the member. Where weights act, a batched product applies each member's weights to its own nodes. A
network of a single member has no such axis; `models.training.stacked` makes stacked networks.
"""

import torch
from torch import Tensor


def apply_weight(x: Tensor, weight: Tensor, *, nodes: int = 0) -> Tensor:
    """The product x W, with separate W for each member.

    Args:
        x: Values (..., n_in).
        weight: W, shape (n_in, n_out), or of M members (M, n_in, n_out).
        nodes: Axis of x over the nodes.
    """
    if weight.dim() == 2:  # noqa: PLR2004  # a matrix
        return x @ weight
    x = x.movedim(nodes, 0)
    y = torch.bmm(x.reshape(len(weight), -1, x.shape[-1]), weight)
    return y.view(*x.shape[:-1], -1).movedim(0, nodes)


def member_channels(weight: Tensor) -> Tensor:
    """Weights (S, C, n) by species and channel; weights of M members, (M, S, C, n), become (S, M C, n)."""
    return weight.transpose(0, 1).flatten(1, 2) if weight.dim() == 4 else weight  # noqa: PLR2004


def channels_first(features: Tensor, n_members: int) -> Tensor:
    """Features (n, T, C) as a matrix for each member and channel, (M C, n, T / M)."""
    return features.unflatten(1, (n_members, -1)).permute(1, 3, 0, 2).flatten(0, 1).contiguous()


def channels_last(matrices: Tensor, n_members: int) -> Tensor:
    """The inverse of `channels_first`, from (M C, n, T / M) to (n, T, C)."""
    return matrices.unflatten(0, (n_members, -1)).permute(2, 0, 3, 1).flatten(1, 2)
