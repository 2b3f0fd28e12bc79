"""Where weights come from, and typed lists of modules."""

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


@dataclass(frozen=True, slots=True)
class Initializer:
    """Where a new model's weights come from.

    Attributes:
        generator: Source of randomness.
        dtype: Precision of weights and constants.
    """

    generator: torch.Generator
    dtype: torch.dtype

    def normal(self, *shape: int, std: float | Tensor) -> nn.Parameter:
        """Normal random weights; drawn in float64, so every dtype gets the same values.

        Args:
            shape: Shape of the weights.
            std: Their standard deviation, one for all or broadcast against the shape.
        """
        values = torch.randn(*shape, generator=self.generator, dtype=torch.float64) * std
        return nn.Parameter(values.to(self.dtype))
