"""Weights: how they are initialised, and how fast they learn.

Every weight is drawn with its own standard deviation `std`, the one that keeps activations of unit variance. e3nn and
MACE store weights at unit variance and multiply by `std` in each forward pass; here the product is stored and the
optimizer sees weight / std, which is the same training without the multiplications.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Modules(nn.ModuleList, Generic[M]):
    """A list of modules of one kind, for the type checker."""

    def __iter__(self) -> Iterator[M]:
        """Iterate over the modules."""
        return cast("Iterator[M]", super().__iter__())


class Weight(nn.Parameter):
    """A parameter that remembers the standard deviation it was drawn with."""

    drawn_std: Tensor


@dataclass(frozen=True, slots=True)
class Initializer:
    """Where a new model's weights come from.

    Attributes:
        generator: Source of randomness.
        dtype: Precision of weights and constants.
    """

    generator: torch.Generator
    dtype: torch.dtype

    def normal(self, *shape: int, std: float | Tensor) -> Weight:
        """Normal random weights; drawn in float64, so every dtype gets the same values.

        Args:
            shape: Shape of the weights.
            std: Their standard deviation, one for all or broadcast against the shape.
        """
        std = torch.as_tensor(std, dtype=torch.float64)
        values = torch.randn(*shape, generator=self.generator, dtype=torch.float64) * std
        weight = Weight(values.to(self.dtype))
        weight.drawn_std = std.expand(shape).to(self.dtype)
        return weight


def weight_scales(module: nn.Module) -> Tensor:
    """Standard deviation of every single weight, in the order of `parameters_to_vector`, shape (n_weights,)."""
    scales = []
    for name, parameter in module.named_parameters():
        if not isinstance(parameter, Weight):
            raise TypeError(f"{name} was not made by an Initializer")
        scales.append(parameter.drawn_std.flatten())
    return torch.cat(scales)
