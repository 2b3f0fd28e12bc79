"""Muon on one flat weight vector: the momentum of each weight matrix is made orthogonal before the step.

Jordan et al., Muon: an optimizer for hidden layers in neural networks (kellerjordan.github.io/posts/muon, 2024). A step
changes all directions of a matrix by the same amount, where Adam's step follows the few directions with large
gradients. The size of a step is that of Adam's (Liu et al., arXiv:2502.16982, section 2.2), so that one learning rate
serves both. Weights that are no matrices (`weight_matrices`) are moved by Adam.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from al_engine.config import TrainingConfig
from models.training.optimizer import FlatOptimizer

MOMENTUM, SECOND_DECAY, EPSILON = 0.95, 0.99, 1e-8
"""Decay of the first moment (Muon's momentum and Adam's beta 1) and of Adam's second moment, and Adam's epsilon."""
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan et al.: five iterations bring singular values from 0.01 to 1 to between 0.7 and 1.2."""
ITERATIONS = 5
RMS_OF_ADAM = 0.2
"""Typical root mean square of Adam's steps, in units of the learning rate (Liu et al., eq. 4)."""


@dataclass(frozen=True, slots=True, eq=False)
class MatrixGroup:
    """K weight matrices with the same smaller dimension, each as (smaller, larger) and padded to the largest.

    Attributes:
        index: Position in the flat vector of each entry, shape (K, smaller, larger); n, the length of the vector, for
            padding.
        factor: Factor on the orthogonal matrices so that a step has the size of Adam's, shape (K, 1, 1).
    """

    index: Tensor
    factor: Tensor


def weight_matrices(network: nn.Module) -> list[MatrixGroup]:
    """The weight matrices of a network in the flat vector of its parameters, in groups.

    The matrices are the linear maps between features and in the radial functions. The embedding of elements and the
    weights of products of messages multiply single features: they are no matrices.
    """
    found: dict[int, list[Tensor]] = defaultdict(list)
    start = 0
    for name, parameter in network.named_parameters():
        if parameter.dim() == 2 and min(parameter.shape) > 1 and "embedding" not in name:  # noqa: PLR2004
            index = torch.arange(start, start + parameter.numel()).view(parameter.shape)
            found[min(parameter.shape)].append(index if index.shape[0] <= index.shape[1] else index.mT)
        start += parameter.numel()
    of_weights = next(network.parameters())
    groups = []
    for matrices in found.values():
        larger = max(index.shape[1] for index in matrices)
        padded = [pad(index, (0, larger - index.shape[1]), value=start) for index in matrices]
        factors = [RMS_OF_ADAM * index.shape[1] ** 0.5 for index in matrices]
        index, factor = torch.stack(padded).to(of_weights.device), of_weights.new_tensor(factors).view(-1, 1, 1)
        groups.append(MatrixGroup(index, factor))
    return groups


def orthogonalized(matrices: Tensor) -> Tensor:
    """The nearest matrices (..., k, l), k <= l, with orthonormal rows, to about 20 %, by Newton-Schulz iterations.

    Singular vectors stay, singular values come near 1. Columns of zeros stay zero.
    """
    a, b, c = NEWTON_SCHULZ
    result = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + EPSILON)
    for _ in range(ITERATIONS):
        square = result @ result.mT
        result = a * result + (b * square + c * square @ square) @ result
    return result


class FlatMuon(FlatOptimizer):
    """Muon with Nesterov momentum on the matrices of a flat weight vector, Adam on the other weights."""

    moment_names = ("exp_avg", "exp_avg_sq")

    def __init__(
        self, weights: Tensor, config: TrainingConfig, *, peak: float, total: int, groups: Sequence[MatrixGroup]
    ) -> None:
        """As `FlatOptimizer`; `groups` are the `weight_matrices` of the network."""
        super().__init__(weights, config, peak=peak, total=total)
        self.groups = groups

    def like(self, weights: Tensor) -> Self:
        """A new optimizer with the same settings, for other weights of the same network."""
        return type(self)(weights, self.config, peak=self.peak, total=self.total, groups=self.groups)

    def _move(self, gradient: Tensor, rate: float) -> None:
        first, second, step = (self.moments[name] for name in (*self.moment_names, "step"))
        step += 1
        first.lerp_(gradient, 1.0 - MOMENTUM)
        second.mul_(SECOND_DECAY).addcmul_(gradient, gradient, value=1.0 - SECOND_DECAY)
        deviation = (second / (1.0 - SECOND_DECAY**step)).sqrt_().add_(EPSILON)
        direction = first / (1.0 - MOMENTUM**step) / deviation
        # the last entry is the padding of the matrices
        direction, momentum = (pad(each, (0, 1)) for each in (direction, first.lerp(gradient, 1.0 - MOMENTUM)))
        for group in self.groups:
            direction[..., group.index] = group.factor * orthogonalized(momentum[..., group.index])
        self.weights.add_(direction[..., :-1], alpha=-rate)
