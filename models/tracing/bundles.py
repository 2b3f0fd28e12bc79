"""Values made of tensors and other things, such as a batch, as a list of their tensors and back."""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

Value = TypeVar("Value")


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors inside a value: data classes, lists and tuples are searched, fields and elements in order."""
    return [each for each in _leaves(value) if isinstance(each, Tensor)]


def layout_of(value: Any) -> Hashable:
    """Everything about a value except the numbers in its tensors; values of equal layout differ in them alone.

    Raises:
        TypeError: If the value holds something of which no layout is known.
    """
    return tuple(_layout(each) for each in _leaves(value))


def with_tensors(value: Value, tensors: Iterable[Tensor]) -> Value:
    """A value with other tensors in the order of `tensors_of`, detached; those require gradients that did before."""
    result: Value = _replaced(value, iter(tensors))
    return result


def _leaves(value: Any) -> Iterator[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _leaves(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        yield len(value)
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def _layout(leaf: Any) -> Hashable:
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.dtype, leaf.device, leaf.requires_grad
    if isinstance(leaf, np.ndarray):
        return leaf.shape, leaf.dtype.str, leaf.tobytes()
    if isinstance(leaf, nn.Module):
        return id(leaf)
    if leaf is None or isinstance(leaf, bool | int | float | str):
        return type(leaf), leaf
    raise TypeError(f"no layout is known of {type(leaf).__name__}")


def _replaced(value: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(value, Tensor):
        return next(tensors).detach().requires_grad_(value.requires_grad)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _replaced(getattr(value, field.name), tensors) for field in fields(value)})
    if isinstance(value, list):
        return [_replaced(each, tensors) for each in value]
    if isinstance(value, tuple):
        elements = [_replaced(each, tensors) for each in value]
        return type(value)(*elements) if hasattr(value, "_fields") else tuple(elements)
    return value
