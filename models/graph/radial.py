"""Radial basis of a path: Bessel functions times the polynomial cut-off."""

import math

import torch
from torch import Tensor, nn


def polynomial_cutoff(x: Tensor, power: int) -> Tensor:
    """Envelope u(x) of x = r / cutoff: 1 at 0, exactly 0 for x >= 1, twice continuously differentiable at 1.

    u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), eq. 8 of Gasteiger et al., DimeNet (2020,
    arXiv:2003.03123).
    """
    p = power
    x = x.clamp(max=1.0)  # in padded slots x^p could overflow; the derivative, 0 times infinity, is NaN
    tail = 0.5 * (p + 1) * (p + 2) - x * (p * (p + 2) - x * (0.5 * p * (p + 1)))
    return torch.where(x < 1.0, 1.0 - x**p * tail, 0.0)


class BesselBasis(nn.Module):
    """B_n(r) = sqrt(2 / cutoff) sin(n π r / cutoff) / r · u(r / cutoff), n = 1 .. n_functions.

    Gasteiger et al., DimeNet (2020, arXiv:2003.03123), eq. 7, with the envelope u of `polynomial_cutoff`. Here the
    frequencies n π / cutoff are fixed, not trained.
    """

    def __init__(self, *, cutoff: float, n_functions: int, envelope_power: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.envelope_power = envelope_power
        frequencies = math.pi / cutoff * torch.arange(1, n_functions + 1, dtype=torch.float64)
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies.to(dtype), persistent=False)

    def forward(self, lengths: Tensor) -> Tensor:
        """Basis at lengths (..., 1) in Å, all positive; shape (..., n_functions)."""
        envelope = polynomial_cutoff(lengths / self.cutoff, self.envelope_power)  # (..., 1)
        return torch.sin(lengths * self.frequencies) * (math.sqrt(2.0 / self.cutoff) * envelope / lengths)
