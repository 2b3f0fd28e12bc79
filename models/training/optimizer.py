"""Base class of the optimizers on a flat weight vector, and Adam; `models.training.muon` has Muon.

The base class has the learning rate's schedule, the clipping of gradients, and the moving average of the weights.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from al_engine.config import TrainingConfig

FINAL_RATE_SHARE = 0.01
"""Learning rate at the end of the cosine, relative to its peak."""
WARM_UP_SHARE, WARM_UP_UPDATES = 0.05, 100
"""Length of the warm-up, in which the learning rate rises linearly: this share of all updates, but no more than this
number of updates."""
SHORTEST_WARM_UP = 20
"""Smallest number of warm-up updates, because Adam's moment estimates are noise at first. In a run of fewer than twice
this number of updates, half of them are the warm-up."""


class FlatOptimizer(ABC):
    """An optimizer on a flat weight vector, so that an update takes only a few operations.

    The weights are a vector (n,), or the stacked vectors of M members, (M, n). Each member's gradient is clipped by its
    own norm, and all other operations act on each member alone, so stacking does not change a member's updates.

    Attributes:
        weights: The weights, changed in place.
        average: Exponential moving average of the weights.
        updates: Number of updates done.
        moments: The optimizer's state tensors by name: vectors of the weights' shape, and its number of steps as a
            scalar. Empty before the first update.
    """

    def __init__(self, weights: Tensor, config: TrainingConfig, *, peak: float, total: int) -> None:
        """Start from a copy of the weights.

        Args:
            weights: Initial weights, shape (n,) or (M, n).
            config: Gradient clipping and decay of the average.
            peak: Peak learning rate.
            total: Number of updates of the whole schedule.
        """
        self.weights = nn.Parameter(weights.detach().clone())
        self.average = weights.detach().clone()
        self.updates = 0
        self.config, self.peak, self.total = config, peak, total
        self.moments: dict[str, Tensor] = {}

    def like(self, weights: Tensor) -> Self:
        """A new optimizer with the same settings, for other weights (n,) or (M, n)."""
        return type(self)(weights, self.config, peak=self.peak, total=self.total)

    def load(self, weights: Tensor) -> None:
        """Replace the weights, but not the average or the moments."""
        with torch.no_grad():
            self.weights.copy_(weights)

    def restore(self, *, weights: Tensor, average: Tensor, moments: Mapping[str, Tensor], updates: int) -> None:
        """Continue from copies of a state, whose parts are named as the attributes are."""
        self.load(weights)
        self.average, self.updates = average.detach().clone(), updates
        device = self.weights.device  # checkpoints are read into the memory of the CPU
        self.moments = {name: values.detach().to(device, copy=True) for name, values in moments.items()}

    def learning_rate(self, update: int) -> float:
        """Learning rate of an update: a linear warm-up, then a cosine down to `FINAL_RATE_SHARE` of the peak.

        The cosine is that of Loshchilov and Hutter, SGDR (arXiv:1608.03983), eq. 5, without restarts.

        Args:
            update: Number of the update, from 0.
        """
        shortest = min(SHORTEST_WARM_UP, self.total // 2)
        warm_up = max(1, shortest, min(WARM_UP_UPDATES, round(WARM_UP_SHARE * self.total)))
        if update < warm_up:
            return self.peak * (update + 1) / warm_up
        x = (update - warm_up) / max(1, self.total - warm_up)
        return self.peak * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * x)))

    def step(self, gradient: Tensor) -> None:
        """Do one update of the weights and of their average, by a gradient of the weights' shape."""
        norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
        clipped = gradient * (self.config.gradient_clip / norm).clamp(max=1.0)
        if not self.moments:
            self.moments = {name: torch.zeros_like(clipped) for name in self.moment_names}
            self.moments["step"] = torch.zeros((), dtype=torch.float32, device=clipped.device)
        with torch.no_grad():
            self._move(clipped, self.learning_rate(self.updates))
        # the average forgets the random initial weights fast; the rule is that of TensorFlow's ExponentialMovingAverage
        decay = min(self.config.ema_decay, (1 + self.updates) / (10 + self.updates))
        self.average.lerp_(self.weights.detach(), 1.0 - decay)
        self.updates += 1

    @property
    @abstractmethod
    def moment_names(self) -> Sequence[str]:
        """Names of the state vectors."""

    @abstractmethod
    def _move(self, gradient: Tensor, rate: float) -> None:
        """Change the state and the weights by one step along a clipped gradient."""


class FlatAdam(FlatOptimizer):
    """Adam in its variant AMSGrad (Reddi et al., ICLR 2018), on a flat weight vector."""

    moment_names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    """PyTorch's names of Adam's first moment, second moment, and largest second moment so far."""

    def _move(self, gradient: Tensor, rate: float) -> None:
        # not torch.optim.Adam, whose constructor loads PyTorch's compiler, which takes seconds in every process
        adam(
            [self.weights],
            [gradient],
            [self.moments["exp_avg"]],
            [self.moments["exp_avg_sq"]],
            [self.moments["max_exp_avg_sq"]],
            [self.moments["step"]],
            fused=True,
            amsgrad=True,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def stack_optimizers(optimizers: Sequence[FlatOptimizer]) -> FlatOptimizer:
    """An optimizer of M stacked members, from copies of the members' optimizers.

    The optimizers must be at the same update of the same schedule.
    """
    first = optimizers[0]
    weights = torch.stack([each.weights.detach() for each in optimizers])
    result = first.like(weights)
    parts = [each.moments for each in optimizers]
    moments = {
        name: torch.stack([part[name] for part in parts])
        if values.dim()
        else values  # the number of steps, equal for all members
        for name, values in parts[0].items()
    }
    average = torch.stack([each.average for each in optimizers])
    result.restore(weights=weights, average=average, moments=moments, updates=first.updates)
    return result


def unstack_optimizer(optimizer: FlatOptimizer, members: Sequence[FlatOptimizer]) -> None:
    """Copy the state of a stacked optimizer back to the members' own optimizers."""
    moments = optimizer.moments
    for m, member in enumerate(members):
        member.restore(
            weights=optimizer.weights[m],
            average=optimizer.average[m],
            moments={name: values[m] if values.dim() else values for name, values in moments.items()},
            updates=optimizer.updates,
        )
