"""Operators of a model: arithmetic without weights, in plain torch or as registered for a device.

A layer module owns weights and calls its `operator`. The reference implementation is plain torch and differentiable to
any order; implementations for a device are registered in `models.layers.kernels` and put in its place. No module asks
which implementation it calls.
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar, cast

from torch import Tensor, nn

from models.graph.graph import NodeSpecies


class GeometryOperator(Protocol):
    """Spherical harmonics and radial basis of neighbour vectors."""

    keeps_jacobian: bool
    """Whether derivatives of constant positions are cheaper with a Jacobian that is kept than computed again."""

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Harmonics (..., (l_max + 1)²) and radial basis (..., n_basis) of vectors (..., 3) in Å."""

    def pull_back(self, vectors: Tensor, g_harmonics: Tensor, g_basis: Tensor, jacobian: Tensor | None) -> Tensor:
        """dE/d(vectors) (..., 3) from dE/d(harmonics) and dE/d(basis), differentiable by both of them.

        `jacobian` is d[harmonics, basis] / d(vectors), or None if it was not kept.
        """


class MessageOperator(Protocol):
    """The sum over neighbours of a path, and its coupling."""

    def __call__(self, Y: Tensor, X: Tensor, W: Tensor, h: Tensor, neighbours: Tensor) -> list[Tensor]:
        """Messages to T receivers from N nodes, degree by degree: (2l + 1, T, n_l C) each, n_l couplings to degree l.

        Args:
            Y: Harmonics, shape (T, K, (l_max + 1)²).
            X: Inputs of the last radial layer, shape (T, K, H); all zero outside the cut-off.
            W: Weights of the last radial layer, shape (H, P C), P couplings.
            h: Features of the nodes, shape ((l_source + 1)², N, C).
            neighbours: Node of each neighbour, shape (T, K).
        """


class ProductOperator(Protocol):
    """Symmetric products of up to `correlation` copies of A."""

    def fold(self, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Weights of the couplings, (S, C, n_couplings) for each degree, combined with the coupling coefficients."""

    def __call__(self, A: Tensor, folded: tuple[Tensor, ...], species: NodeSpecies) -> Tensor:
        """Products ((l_out + 1)², T, C) of A ((l_max + 1)², T, C) of receivers sorted by species."""


O = TypeVar("O", bound=GeometryOperator | MessageOperator | ProductOperator)  # noqa: E741  # O for operator


class Operated(nn.Module, Generic[O]):
    """A module whose arithmetic is done by an operator.

    Attributes:
        reference: The operator in plain torch.
        operator: The operator in use: the reference, or an implementation registered for the device.
    """

    reference: O
    operator: O

    def set_reference(self, operator: O) -> None:
        """Use an operator in plain torch."""
        self.reference = self.operator = operator

    def replace_operator(self, operator: nn.Module) -> None:
        """Use another implementation of the same operator."""
        self.operator = cast("O", operator)

    @property
    def is_plain(self) -> bool:
        """Whether the operator in use is the reference."""
        return self.operator is self.reference


def use_plain(module: nn.Module) -> None:
    """Put every operator inside a module back to its reference."""
    for part in module.modules():
        if isinstance(part, Operated):
            part.set_reference(part.reference)


def is_plain(module: nn.Module) -> bool:
    """Whether every operator inside a module is the reference."""
    return all(part.is_plain for part in module.modules() if isinstance(part, Operated))
