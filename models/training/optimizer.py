"""The way down: Adam on a schedule with clipped gradients, and the moving average of the weights."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from al_engine.config import TrainingConfig

FINAL_RATE_SHARE = 0.01
"""Learning rate at the end of the cosine, relative to its peak."""
WARM_UP_SHARE, WARM_UP_UPDATES = 0.05, 100
"""The learning rate rises linearly over this share of all updates, at most so many."""
SHORTEST_WARM_UP = 20
"""But over so many at least, or half of a run shorter than twice that: Adam's first steps are blind."""


class Descent:
    """Weights on their way down: Adam (amsgrad), a few operations per update.

    They are one vector (n,), or those of M members side by side, (M, n). A gradient is clipped by its member's norm,
    and all else acts entry by entry: side by side, members do what each would do alone.

    Attributes:
        weights: The weights, changed in place.
        average: Their exponential moving average.
        updates: Updates done.
    """

    def __init__(self, weights: Tensor, config: TrainingConfig, *, peak: float, total: int) -> None:
        """Start from copies of weights, at a learning rate with a given peak over so many updates in all."""
        self.weights = nn.Parameter(weights.detach().clone())
        self.average = weights.detach().clone()
        self.updates = 0
        self.config, self.peak, self.total = config, peak, total
        self._adam = torch.optim.Adam([self.weights], lr=peak, amsgrad=True, fused=True)

    @property
    def moments(self) -> dict[str, Tensor]:
        """Adam's state by name; empty before the first update."""
        return dict(self._adam.state_dict()["state"].get(0, {}))

    def load(self, weights: Tensor) -> None:
        """Replace the weights; everything else stays."""
        with torch.no_grad():
            self.weights.copy_(weights)

    def restore(self, *, weights: Tensor, average: Tensor, moments: Mapping[str, Tensor], updates: int) -> None:
        """Go on from copies of another descent's state."""
        self.load(weights)
        self.average, self.updates = average.detach().clone(), updates
        state = {name: values.detach().clone() for name, values in moments.items()}
        self._adam.load_state_dict({"state": {0: state}, "param_groups": self._adam.state_dict()["param_groups"]})

    def learning_rate(self, update: int) -> float:
        """Linear warm-up, then a cosine down to a hundredth of the peak."""
        shortest = min(SHORTEST_WARM_UP, self.total // 2)
        warm_up = max(1, shortest, min(WARM_UP_UPDATES, round(WARM_UP_SHARE * self.total)))
        if update < warm_up:
            return self.peak * (update + 1) / warm_up
        x = (update - warm_up) / max(1, self.total - warm_up)
        return self.peak * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * x)))

    def step(self, gradient: Tensor) -> None:
        """One update along a gradient of the weights' shape."""
        norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
        self.weights.grad = gradient * (self.config.gradient_clip / norm).clamp(max=1.0)
        self._adam.param_groups[0]["lr"] = self.learning_rate(self.updates)
        self._adam.step()
        decay = min(self.config.ema_decay, (1 + self.updates) / (10 + self.updates))  # soon forgets the random start
        self.average.lerp_(self.weights.detach(), 1.0 - decay)
        self.updates += 1


def side_by_side(descents: Sequence[Descent]) -> Descent:
    """One descent of several members, from copies of theirs: of one schedule, after as many updates."""
    first = descents[0]
    weights = torch.stack([each.weights.detach() for each in descents])
    result = Descent(weights, first.config, peak=first.peak, total=first.total)
    parts = [each.moments for each in descents]
    moments = {
        name: torch.stack([part[name] for part in parts]) if values.dim() else values  # the step is one for all
        for name, values in parts[0].items()
    }
    average = torch.stack([each.average for each in descents])
    result.restore(weights=weights, average=average, moments=moments, updates=first.updates)
    return result


def hand_back(descent: Descent, members: Sequence[Descent]) -> None:
    """Let members go on, each for itself, from where they are side by side."""
    moments = descent.moments
    for m, member in enumerate(members):
        member.restore(
            weights=descent.weights[m],
            average=descent.average[m],
            moments={name: values[m] if values.dim() else values for name, values in moments.items()},
            updates=descent.updates,
        )
