"""Initial weights, tensors derived from weights, and typed lists of modules."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class Modules(nn.ModuleList, Generic[M]):
    """A list of modules with a common type, for the type checker."""

    def __iter__(self) -> Iterator[M]:
        """Iterate over the modules."""
        return cast("Iterator[M]", super().__iter__())


@dataclass(frozen=True, slots=True)
class Initializer:
    """Draws the weights of a new model.

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
            std: Standard deviation, a number or a tensor that broadcasts against the shape.
        """
        values = torch.randn(*shape, generator=self.generator, dtype=torch.float64) * std
        return nn.Parameter(values.to(self.dtype))


class Derived(Generic[T]):
    """Tensors computed from weights, valid until one of the weights changes or needs a gradient.

    Changes are seen by the version counter (in-place operations, `load_state_dict`) and by the address and dtype
    (`Module.to`) of every weight. Writing through `weight.data`, which hides from the counter, is not seen.

    Attributes:
        value: The tensors.
    """

    def __init__(self, value: T, weights: Iterable[Tensor]) -> None:
        """Note the state of the weights that `value` was computed from."""
        self.value = value
        self._weights = list(weights)
        self._state = self._current_state()

    @property
    def valid(self) -> bool:
        """Whether the weights have not changed since `value` was computed."""
        return self._state == self._current_state()

    def _current_state(self) -> list[tuple[int, int, torch.dtype, bool]]:
        return [(w._version, w.data_ptr(), w.dtype, w.requires_grad) for w in self._weights]  # noqa: SLF001
