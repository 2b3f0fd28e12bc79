"""Geometry of a path: spherical harmonics and radial basis of every neighbour vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from al_engine.config import ModelConfig, PathConfig
from models.graph.operations import concatenate
from models.graph.radial import BesselBasis
from models.graph.spherical import SphericalHarmonics
from models.layers.operators import GeometryOperator, Operated

SMALLEST_LENGTH = 1e-3
"""Lower bound on distances in Å: coincident atoms then give large numbers, not NaN."""


class EdgeFeatures(NamedTuple):
    """Harmonics Y (T, K, (l_max + 1)²) and radial basis B (T, K, n_basis) of a path's neighbours."""

    harmonics: Tensor
    basis: Tensor


class PlainGeometry(nn.Module):
    """`GeometryOperator` in plain torch."""

    keeps_jacobian = True

    def __init__(self, path: PathConfig, config: ModelConfig, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.l_max = path.l_max
        self.spherical_harmonics = SphericalHarmonics(path.l_max, dtype=dtype)
        self.bessel_basis = BesselBasis(
            cutoff=path.cutoff_ang,
            n_functions=config.bessel_functions,
            envelope_power=config.envelope_power,
            dtype=dtype,
        )

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """See `GeometryOperator`."""
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min(SMALLEST_LENGTH)  # (T, K, 1)
        return self.spherical_harmonics(vectors / lengths), self.bessel_basis(lengths)

    def pull_back(self, vectors: Tensor, g_harmonics: Tensor, g_basis: Tensor, jacobian: Tensor | None) -> Tensor:
        """See `GeometryOperator`, from `jacobian` if it is given."""
        if jacobian is None:
            jacobian = self.jacobian(vectors)
        return (concatenate([g_harmonics, g_basis], dim=-1).unsqueeze(-2) @ jacobian).squeeze(-2)

    def jacobian(self, vectors: Tensor) -> Tensor:
        """d[Y, B] / d(vectors), shape (T, K, n_harmonics + n_basis, 3), by forward differentiation."""
        columns = []
        for axis in range(3):
            direction = torch.zeros_like(vectors)
            direction[..., axis] = 1.0
            tangents = torch.func.jvp(self.forward, (vectors,), (direction,))[1]
            columns.append(torch.cat(tangents, dim=-1))
        return torch.stack(columns, dim=-1)


class PathGeometry(Operated[GeometryOperator]):
    """Y(r̂_ij) and B(r_ij) of one path; holds no weights."""

    def __init__(self, path: PathConfig, config: ModelConfig, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_features = (path.l_max + 1) ** 2 + config.bessel_functions
        self.plain = PlainGeometry(path, config, dtype=dtype)
        self.set_reference(self.plain)

    def forward(self, vectors: Tensor) -> EdgeFeatures:
        """Features of vectors (T, K, 3) in Å."""
        return EdgeFeatures(*self.operator(vectors))

    def pull_back(self, vectors: Tensor, gradients: EdgeFeatures, jacobian: Tensor | None) -> Tensor:
        """dE/d(vectors) (T, K, 3) from dE/d(features), differentiable by dE/d(features).

        `jacobian` is used if it is given; otherwise the operator computes the derivatives again.
        """
        return self.operator.pull_back(vectors, *gradients, jacobian)

    def jacobian(self, vectors: Tensor) -> Tensor:
        """d[Y, B] / d(vectors), shape (T, K, n_harmonics + n_basis, 3)."""
        return self.plain.jacobian(vectors)


class Geometry(Protocol):
    """Edge features of all paths, and derivatives of an energy by the neighbour vectors."""

    @property
    def edges(self) -> Sequence[EdgeFeatures]:
        """Features of every path."""

    def differentiate(self, energy: Tensor, *, differentiable: bool = False) -> list[Tensor]:
        """dE/d(vectors) as tensors (T, k, 3) that add up, each for its k leading columns.

        Args:
            energy: A scalar function of `edges`.
            differentiable: Whether the result will be differentiated again.
        """


@dataclass(frozen=True, slots=True, eq=False)
class VectorGeometry:
    """Features that torch differentiates by the vectors (T, K, 3) they were computed from: positions that change."""

    edges: list[EdgeFeatures]
    vectors: Tensor

    def differentiate(self, energy: Tensor, *, differentiable: bool = False) -> list[Tensor]:
        """A list of a single tensor (T, K, 3)."""
        return list(torch.autograd.grad(energy, self.vectors, create_graph=differentiable))


@dataclass(frozen=True, slots=True, eq=False)
class ConstantGeometry:
    """Features of positions that never change: the derivative by vectors follows from the derivative by features.

    Attributes:
        edges: Features of every path, without history.
        paths: The path geometries.
        vectors: Neighbour vectors of every path in Å, (T, K, 3) each.
        jacobians: d(features) / d(vectors) of every path, (T, K, n_features, 3) each, or None where it is not kept.
    """

    edges: list[EdgeFeatures]
    paths: Sequence[PathGeometry]
    vectors: list[Tensor]
    jacobians: Sequence[Tensor | None]

    def differentiate(self, energy: Tensor, *, differentiable: bool = False) -> list[Tensor]:
        """A single tensor if all paths have equal numbers of columns (small molecules), else a tensor for each path."""
        leaves = [part for features in self.edges for part in features]
        gradients = torch.autograd.grad(energy, leaves, create_graph=differentiable)
        by_path = [
            path.pull_back(vectors, EdgeFeatures(*gradients[2 * k : 2 * k + 2]), jacobian)  # (T, K, 3)
            for k, (path, vectors, jacobian) in enumerate(zip(self.paths, self.vectors, self.jacobians, strict=True))
        ]
        if len({part.shape[1] for part in by_path}) > 1:
            return by_path
        return [sum(by_path[1:], start=by_path[0])]


def path_configs(config: ModelConfig) -> list[PathConfig]:
    """The paths of a model by ascending cut-off: the short path, and the long path if the model has it."""
    return [config.short] if config.long is None else [config.short, config.long]
