"""Real spherical harmonics and Clebsch-Gordan coefficients, in e3nn's conventions.

Components of all degrees lie along one axis of length (l_max + 1)², degree by degree. Parity is natural throughout:
degree l has parity (-1)^l. A coupling (l1, l2) -> l3 therefore exists if |l1 - l2| <= l3 <= l1 + l2 and l1 + l2 + l3 is
even.
"""

import math
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor, nn

from models.graph.coupling_table import wigner_3j


def degree_sizes(l_max: int) -> list[int]:
    """Number of components, 2l + 1, of each degree l from 0 to `l_max`."""
    return [2 * degree + 1 for degree in range(l_max + 1)]


Coupling: TypeAlias = tuple[int, int, int]
"""Degrees (l1, l2, l3) of a coupling (l1, l2) -> l3."""


def couplings_of(l1_max: int, l2_max: int, l3_max: int) -> list[Coupling]:
    """All couplings (l1, l2) -> l3 of natural parity with degrees up to the given maxima, sorted."""
    return [
        (l1, l2, l3)
        for l1 in range(l1_max + 1)
        for l2 in range(l2_max + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, l3_max) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> Tensor:
    """Coefficients of the coupling (l1, l2) -> l3 in float64, shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1).

    They are e3nn's Wigner 3j symbols times sqrt(2 l3 + 1), so that components of unit variance couple to components of
    unit variance.
    """
    return wigner_3j(l1, l2, l3) * math.sqrt(2 * l3 + 1)


class SphericalHarmonics(nn.Module):
    """Real spherical harmonics Y_l^m up to a degree, 'component' normalised: |Y_l|² = 2l + 1.

    They follow from Y_1 = sqrt(3) n by the recursion Y_{l+1} = c_l CG(l, 1, l + 1) Y_l ⊗ n, where the norm fixes
    c_l > 0. The recursion is the Clebsch-Gordan series of Y_l Y_1 at the same direction (Varshalovich et al., Quantum
    Theory of Angular Momentum (1988), section 5.6).
    """

    def __init__(self, l_max: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.l_max = l_max
        pole = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)  # e3nn's polar axis is y
        value = math.sqrt(3.0) * pole
        for degree in range(1, l_max):
            step = clebsch_gordan(degree, 1, degree + 1).reshape(-1, 2 * degree + 3)
            value_next = torch.outer(value, pole).flatten() @ step
            # only m = 0, the middle component, is non-zero at the pole; it is positive by convention
            step = step * (math.sqrt(2 * degree + 3) / value_next[degree + 1])
            value = torch.outer(value, pole).flatten() @ step
            self.register_buffer(f"step_{degree}", step.to(dtype), persistent=False)

    def forward(self, directions: Tensor) -> Tensor:
        """Harmonics of unit vectors (..., 3), shape (..., (l_max + 1)²)."""
        degrees = [torch.ones_like(directions[..., :1])]
        if self.l_max >= 1:
            degrees.append(math.sqrt(3.0) * directions)  # (..., 3)
        for degree in range(1, self.l_max):
            outer = (degrees[-1].unsqueeze(-1) * directions.unsqueeze(-2)).flatten(-2)  # (..., (2l + 1) * 3)
            degrees.append(outer @ self.get_buffer(f"step_{degree}"))  # (..., 2l + 3)
        return torch.cat(degrees, dim=-1)
