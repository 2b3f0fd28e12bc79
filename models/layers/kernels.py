"""The C++ kernels of `models.native` as implementations of the operators for CPUs.

Another device takes another table like `CPU`; the layers do not change.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.graph.graph import NodeSpecies
from models.graph.operations import concatenate
from models.layers.geometry import SMALLEST_LENGTH, PlainGeometry
from models.layers.message import PlainMessage
from models.layers.operators import Operated
from models.layers.product import PlainProduct
from models.native.geometry import GeometryKernel
from models.native.message import MessageKernel
from models.native.product import ProductKernel, terms_and_coefficients


class KernelGeometry(nn.Module):
    """`PlainGeometry` by the geometry kernel; derivatives are computed again, which is as fast as a kept Jacobian."""

    keeps_jacobian = False

    def __init__(self, plain: PlainGeometry) -> None:
        """Compile the kernel, or raise a KernelError."""
        super().__init__()
        basis = plain.bessel_basis
        self.kernel = GeometryKernel(
            l_max=plain.l_max,
            n_radial=len(basis.frequencies),
            power=basis.envelope_power,
            cutoff=basis.cutoff,
            smallest=SMALLEST_LENGTH,
            dtype=basis.frequencies.dtype,
        ).prepared()

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """See `GeometryOperator`."""
        return self.kernel(vectors)

    def pull_back(self, vectors: Tensor, g_harmonics: Tensor, g_basis: Tensor, _jacobian: Tensor | None) -> Tensor:
        """See `GeometryOperator`; needs no Jacobian."""
        return self.kernel.pull_back(vectors, g_harmonics, g_basis)


class KernelMessage(nn.Module):
    """`PlainMessage` by the message kernel, in one pass over the neighbours."""

    def __init__(self, plain: PlainMessage) -> None:
        """Compile the kernel, or raise a KernelError."""
        super().__init__()
        self.kernel = MessageKernel(
            l_max=plain.l_max,
            l_used=plain.l_used,
            l_source=plain.l_source,
            l_message=plain.l_message,
            channels=plain.channels,
            n_radial=plain.n_radial,
            dtype=plain.clebsch_gordan.dtype,
        ).prepared()

    def forward(self, Y: Tensor, X: Tensor, W: Tensor, h: Tensor, neighbours: Tensor) -> list[Tensor]:
        """See `MessageOperator`."""
        return self.kernel(Y, X, W, h, neighbours)


class KernelProduct(nn.Module):
    """`PlainProduct` by the product kernel: only terms whose coefficients are not zero."""

    def __init__(self, plain: PlainProduct) -> None:
        """Compile the kernel, or raise a KernelError."""
        super().__init__()
        sizes = (plain.l_max, plain.l_out, plain.correlation)
        self.kernel = ProductKernel(*sizes, plain.channels, plain.first.dtype).prepared()
        _, coefficients = terms_and_coefficients(*sizes)
        self.coefficients: Tensor
        self.register_buffer("coefficients", torch.cat(coefficients).to(plain.first.dtype), persistent=False)

    def fold(self, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Weights of the terms, a single tensor (S, n_terms, C)."""
        return ((concatenate(weights, dim=2) @ self.coefficients).transpose(1, 2),)

    def forward(self, A: Tensor, folded: tuple[Tensor, ...], species: NodeSpecies) -> Tensor:
        """See `ProductOperator`."""
        (weights,) = folded
        return self.kernel(A, weights, species.kinds)


CPU: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    PlainGeometry: KernelGeometry,
    PlainMessage: KernelMessage,
    PlainProduct: KernelProduct,
}
"""The implementation of each operator on CPUs, made from its reference."""


def use_kernels(module: nn.Module) -> None:
    """Put the kernel of every operator inside a module in its place, of all or of none.

    Raises:
        KernelError: If a kernel cannot be compiled or loaded; the module is as before.
    """
    parts = [part for part in module.modules() if isinstance(part, Operated)]
    kernels = [CPU[type(part.reference)](part.reference) for part in parts]
    for part, kernel in zip(parts, kernels, strict=True):
        part.replace_operator(kernel)
