"""Base class of the kernels: compile-time constants, key, and compiled library; and helpers of their derivatives."""

import ctypes
from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass, fields
from functools import cache, cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from models.native.build import load_library


@dataclass(frozen=True)
class Kernel(ABC):
    """Compile-time constants of a kernel, and its compiled library.

    A subclass adds a field for each constant: numbers, and a dtype as the last field.

    Attributes:
        source: Source file in this folder.
    """

    source: ClassVar[str]

    @abstractmethod
    def header(self) -> str:
        """The C++ definitions that are put in front of the source."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the kernel itself: it never changes, and a loaded library cannot be copied."""
        return self

    @cached_property
    def key(self) -> str:
        """All fields as a string: a torch operator can take a string, but not a kernel."""
        *numbers, dtype = astuple(self)
        return " ".join([*map(repr, numbers), str(dtype).removeprefix("torch.")])

    @classmethod
    def from_key(cls, key: str) -> Self:
        """The kernel with a key; equal keys give the same object, whose library is loaded once."""
        kernel: Self = _from_key(cls, key)
        return kernel

    def __reduce__(self) -> tuple[Any, ...]:
        """By the key: a loaded library cannot be pickled, and is loaded again where the copy is used."""
        return _from_key, (type(self), self.key)

    @cached_property
    def library(self) -> ctypes.CDLL:
        """The compiled functions.

        Raises:
            KernelError: If compiling or loading fails.
        """
        return load_library(self.source, self.header())

    def prepared(self) -> Self:
        """The object that `from_key` gives for this kernel's key, compiled now.

        Raises:
            KernelError: If compiling or loading fails.
        """
        kernel = self.from_key(self.key)
        _ = kernel.library
        return kernel

    def call(self, function: str, sizes: tuple[int, ...], *tensors: Tensor | None) -> None:
        """Call a function of the library.

        Args:
            function: Name of the function.
            sizes: Its first arguments.
            tensors: Contiguous tensors, whose addresses are its other arguments; None is a null pointer.
        """
        pointers = [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]
        getattr(self.library, function)(*map(ctypes.c_int64, sizes), *pointers)


@cache
def _from_key(kind: Any, key: str) -> Any:
    *numbers, dtype = key.split()
    types = [field.type for field in fields(kind)][:-1]  # without the dtype's
    values = [float(number) if type_ is float else int(number) for number, type_ in zip(numbers, types, strict=True)]
    return kind(*values, getattr(torch, dtype))


def save_tensors(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Save the key and all tensor inputs of an operator, for its derivative."""
    ctx.key, *rest = inputs
    ctx.save_for_backward(*(item for item in rest if isinstance(item, Tensor)))


def save_derivative(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Save the inputs of a backward operator, for its derivative.

    The last input says whether the operator computes gradients of the weights. For an output without a gradient, the
    derivative receives None instead of zeros, and skips the terms of this output.
    """
    save_tensors(ctx, inputs, output)
    ctx.with_weights = inputs[-1]
    ctx.set_materialize_grads(False)


def refuse_derivative(operator: str) -> None:
    """Make it an error to differentiate an operator's results; by default torch would omit the derivative.

    Args:
        operator: Qualified name, such as `al_engine::message_backward_twice`.
    """

    def raise_error(_ctx: Any, *_gradients: Tensor) -> None:
        raise RuntimeError(f"{operator} has no derivative; use plain torch (acceleration: off) to differentiate again")

    torch.library.register_autograd(operator, raise_error)
