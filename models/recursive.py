"""The recursive product basis: one factor of A after another, a cheaper relative of MACE's symmetric contraction."""

import torch
from torch import Tensor, nn

from models.graph import NodeSpecies
from models.linear import DegreeLinear
from models.operations import concatenate
from models.parameters import Initializer
from models.spherical import clebsch_gordan, degree_sizes


class RecursiveProduct(nn.Module):
    """B_{i,LM,c} = Σ_k v^{k,L}_{Z_i,c} P^k_{i,LM,c}, then a linear map per L; P^1 = A.

    The orders k up to ν follow from each other:

        P^{k+1}_{i,l3m3,c} = Σ_{l1,l2} w^{k,l1l2l3}_{Z_i,c} Σ_{m1,m2} CG^{l3m3}_{l1m1,l2m2} P^k_{i,l1m1,c} A_{i,l2m2,c}

    (v = 1 for the last of several orders, which w scales already.) The body order is that of `ProductBasis`, but three
    copies of A are coupled through degrees up to l_max of natural parity only, with products of two weights.

    CG and w are first folded into one matrix per species and channel, so that an order costs an atom one small matrix
    product per channel: P^{k+1}_M = Σ_a A_a V_{M,a}, V = W P^k.
    """

    def __init__(
        self,
        *,
        l_max: int,
        l_out: int,
        correlation: int,
        channels: int,
        n_species: int,
        init: Initializer,
    ) -> None:
        super().__init__()
        self.channels, self.n_out, self.l_out = channels, (l_out + 1) ** 2, l_out
        self.weights = nn.ParameterList()
        for order in range(2, correlation + 1):
            last = order == correlation
            couplings, std = _couplings(l_max, l_out if last else l_max, symmetric=order == 2)  # noqa: PLR2004  # A with A
            self.register_buffer(f"couplings_{order}", couplings.to(init.dtype), persistent=False)
            spread = std * correlation**-0.5 if last else std
            self.weights.append(init.normal(n_species, channels, len(couplings), std=spread))
        n_lower = max(1, correlation - 1)  # orders scaled by v
        self.lower = nn.ParameterList(
            init.normal(n_species, channels, l_out + 1, std=correlation**-0.5) for _ in range(n_lower)
        )
        sizes = torch.tensor(degree_sizes(l_out))
        self.spread: Tensor  # from degrees to components
        spread_matrix = torch.eye(l_out + 1, dtype=init.dtype).repeat_interleave(sizes, dim=1)
        self.register_buffer("spread", spread_matrix, persistent=False)
        n = (l_max + 1) ** 2
        self.split_sizes = [self.n_out, n - self.n_out] if n > self.n_out else [n]
        self.linear = DegreeLinear(l_out, channels, channels, init=init)
        self._folded: list[tuple[Tensor, ...]] | None = None

    def folded_weights(self) -> list[tuple[Tensor, ...]]:
        """For each species the matrices W of every step, (C, n_next * n, n), then v of lower orders, (C, (L+1)², 1)."""
        if self._folded is not None:
            return self._folded
        n = sum(self.split_sizes)
        steps = [
            (weight @ self.get_buffer(f"couplings_{order}")).unflatten(-1, (-1, n)).unbind(0)
            for order, weight in enumerate(self.weights, start=2)
        ]
        lower = [(v @ self.spread).unsqueeze(-1).unbind(0) for v in self.lower]
        return list(zip(*steps, *lower, strict=True))

    def freeze(self) -> None:
        """Fold once and for all: the weights will not change any more."""
        self._folded = None
        self._folded = [tuple(matrix.detach() for matrix in species) for species in self.folded_weights()]

    def forward(self, A: Tensor, species: NodeSpecies) -> Tensor:
        """Products of A ((l_max+1)², T, C), whose atoms are sorted by species; shape ((l_out+1)², T, C)."""
        parts = A.permute(2, 0, 1).contiguous().split(species.counts, dim=2)  # (C, n, T_z): one matrix per channel
        B = [
            self._products(part, folded)
            for part, folded in zip(parts, self.folded_weights(), strict=True)
            if part.shape[2]
        ]
        return self.linear(concatenate(B, dim=2).permute(1, 2, 0))

    def _products(self, A: Tensor, folded: tuple[Tensor, ...]) -> Tensor:
        """B (C, (L+1)², T) of A (C, n, T) of one species."""
        steps, lower = folded[: len(self.weights)], folded[len(self.weights) :]
        C, n, T = A.shape
        orders = [A]
        for W in steps:
            V = torch.bmm(W, orders[-1]).view(C, -1, n, T)
            orders.append((V * A.unsqueeze(1)).sum(2))
        terms = [v * order.split(self.split_sizes, dim=1)[0] for v, order in zip(lower, orders, strict=False)]
        return sum(terms, start=orders[-1]) if steps else terms[0]


def _couplings(l_max: int, l_out: int, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Clebsch-Gordan couplings (l1, l2) -> l3 of P with A, and the standard deviation of the weight of each.

    Args:
        l_max: Highest l1 and l2.
        l_out: Highest l3.
        symmetric: P is A: (l1, l2) and (l2, l1) are the same, one of them is kept.

    Returns:
        Coefficients over (l3 m3, component of A, component of P), flattened: (n_couplings, (l_out + 1)² n²), and
        standard deviations (n_couplings,) with which components of unit variance couple to unit variance.
    """
    n = (l_max + 1) ** 2
    rows: list[Tensor] = []
    std: list[float] = []
    for l3 in range(l_out + 1):
        first = len(rows)
        for l1 in range(l_max + 1):
            for l2 in range(l1 if symmetric else 0, l_max + 1):
                if not abs(l1 - l2) <= l3 <= l1 + l2 or (l1 + l2 + l3) % 2:
                    continue
                row = torch.zeros((l_out + 1) ** 2, n, n, dtype=torch.float64)
                row[l3**2 : (l3 + 1) ** 2, l2**2 : (l2 + 1) ** 2, l1**2 : (l1 + 1) ** 2] = clebsch_gordan(
                    l1, l2, l3
                ).permute(2, 1, 0)
                rows.append(row.flatten())
        std += [(len(rows) - first) ** -0.5] * (len(rows) - first)
    return torch.stack(rows), torch.tensor(std, dtype=torch.float64)
