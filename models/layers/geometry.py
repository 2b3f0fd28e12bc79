"""What a path sees of the geometry: spherical harmonics and radial basis of every neighbour vector."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from al_engine.config import ModelConfig, PathConfig
from models.graph.operations import concatenate
from models.graph.radial import BesselBasis
from models.graph.spherical import SphericalHarmonics
from models.native.geometry import GeometryKernel

SMALLEST_LENGTH = 1e-3
"""Å. Lengths are clamped here, so that atoms on top of each other give large numbers, not NaN."""


class EdgeFeatures(NamedTuple):
    """Harmonics Y (T, K, (l_max + 1)²) and radial basis B (T, K, n_basis) of a path's neighbours."""

    harmonics: Tensor
    basis: Tensor


class PathGeometry(nn.Module):
    """Y(r̂_ij) and B(r_ij) of one path; holds no weights."""

    def __init__(self, path: PathConfig, config: ModelConfig, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_features = (path.l_max + 1) ** 2 + config.bessel_functions
        self.l_max = path.l_max
        self.kernel: GeometryKernel | None = None
        self.spherical_harmonics = SphericalHarmonics(path.l_max, dtype=dtype)
        self.bessel_basis = BesselBasis(
            cutoff=path.cutoff_ang,
            n_functions=config.bessel_functions,
            envelope_power=config.envelope_power,
            dtype=dtype,
        )

    def use_kernel(self) -> None:
        """From now on use the CPU kernel.

        Raises:
            KernelError: If it can't be had.
        """
        basis = self.bessel_basis
        kernel = GeometryKernel(
            l_max=self.l_max,
            n_radial=len(basis.frequencies),
            power=basis.envelope_power,
            cutoff=basis.cutoff,
            smallest=SMALLEST_LENGTH,
            dtype=basis.frequencies.dtype,
        )
        self.kernel = kernel.prepared()

    def use_plain(self) -> None:
        """From now on use plain torch."""
        self.kernel = None

    def forward(self, vectors: Tensor) -> EdgeFeatures:
        """Features of vectors (T, K, 3) in Å."""
        if self.kernel is not None:
            return EdgeFeatures(*self.kernel(vectors))
        return self.plain(vectors)

    def plain(self, vectors: Tensor) -> EdgeFeatures:
        """`forward` in torch alone."""
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min(SMALLEST_LENGTH)  # (T, K, 1)
        return EdgeFeatures(self.spherical_harmonics(vectors / lengths), self.bessel_basis(lengths))

    def pull_back(self, vectors: Tensor, gradients: EdgeFeatures, jacobian: Tensor | None) -> Tensor:
        """dE/d(vectors) (T, K, 3) from dE/d(features), to be differentiated by these; the kernel needs no Jacobian."""
        if jacobian is None:
            if self.kernel is None:
                jacobian = self.jacobian(vectors)
            else:
                return self.kernel.pull_back(vectors, *gradients)
        return (concatenate(gradients, dim=-1).unsqueeze(-2) @ jacobian).squeeze(-2)

    def jacobian(self, vectors: Tensor) -> Tensor:
        """d[Y, B] / d(vectors), shape (T, K, n_harmonics + n_basis, 3), by forward differentiation."""
        columns = []
        for axis in range(3):
            direction = torch.zeros_like(vectors)
            direction[..., axis] = 1.0
            tangents = torch.func.jvp(self.plain, (vectors,), (direction,))[1]
            columns.append(torch.cat(tangents, dim=-1))
        return torch.stack(columns, dim=-1)


def path_configs(config: ModelConfig) -> list[PathConfig]:
    """The paths of a model by ascending cut-off: short, and long unless it is off."""
    return [config.short] if config.long is None else [config.short, config.long]
