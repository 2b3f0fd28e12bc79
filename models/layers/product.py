"""The product basis: MACE's symmetric contraction of up to ν copies of A, evaluated in Horner form."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.graph.couplings import monomials, symmetric_couplings
from models.graph.graph import NodeSpecies
from models.graph.operations import concatenate
from models.layers.linear import DegreeLinear
from models.layers.members import channels_first, channels_last, member_channels
from models.layers.operators import Operated, ProductOperator
from models.layers.parameters import Derived, Initializer


class PlainProduct(nn.Module):
    """`ProductOperator` in plain torch: coefficients U and weights w form a matrix W for each species and channel.

    The symmetric contraction of Batatia et al., MACE (2022), eqs. 10 and 11, is evaluated by Horner's rule, with the
    sum over the last copy of A outside,

        B_LM = Σ_a A_a V_{LM,a},   V = W [1, A, A ⊗ A]      (unique pairs only)

    so that an atom costs a small matrix product for each channel, independent of the number of couplings.

    Attributes:
        l_max: Highest degree of A.
        l_out: Highest degree of the products.
        correlation: Highest order ν in A.
        channels: Channels C of a single member.
        counts: Number of couplings to each degree.
    """

    def __init__(self, *, l_max: int, l_out: int, correlation: int, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        n = (l_max + 1) ** 2
        self.l_max, self.l_out, self.correlation, self.channels = l_max, l_out, correlation, channels
        self.n_components, self.n_out = n, (l_out + 1) ** 2
        pairs = torch.from_numpy(monomials(n, 2)[: max(0, n_powers(n, correlation) - 1 - n)])
        # pairs are picked by matrix products: their derivatives are matrix products too, faster than scattering
        self.first: Tensor
        self.second: Tensor
        self.register_buffer("first", nn.functional.one_hot(pairs[:, 0], n).to(dtype), persistent=False)
        self.register_buffer("second", nn.functional.one_hot(pairs[:, 1], n).to(dtype), persistent=False)
        self.counts = []
        for degree in range(l_out + 1):
            couplings = torch.cat(
                [_horner_form(l_max, degree, order, correlation) for order in range(1, correlation + 1)]
            )
            self.counts.append(len(couplings))
            self.register_buffer(f"U_{degree}", couplings.flatten(1).to(dtype), persistent=False)

    def fold(self, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """U folded with w: for each species a matrix W (C, (L+1)² n, 1 + n + n_pairs), n = (l_max + 1)²."""
        rows = [
            (weight @ self.get_buffer(f"U_{degree}")).unflatten(-1, ((2 * degree + 1) * self.n_components, -1))
            for degree, weight in enumerate(weights)
        ]  # (S, C, (2L+1) n, 1 + n + n_pairs) each
        return concatenate(rows, dim=2).unbind(0)

    def forward(self, A: Tensor, folded: tuple[Tensor, ...], species: NodeSpecies) -> Tensor:
        """See `ProductOperator`; M stacked members count as M C channels."""
        n_members = folded[0].shape[0] // self.channels
        A = channels_first(A, n_members)  # (C, n, T)
        powers = [torch.ones_like(A[:, :1])]
        if self.correlation > 1:
            powers.append(A)
        if len(self.first):
            powers.append((self.first @ A) * (self.second @ A))  # (C, n_pairs, T)
        parts = concatenate(powers, dim=1).split(species.counts, dim=2)  # (C, 1 + n + n_pairs, T_z) each
        V = concatenate(
            [torch.bmm(W, part) for W, part in zip(folded, parts, strict=True) if part.shape[2]], dim=2
        ).view(len(A), self.n_out, self.n_components, -1)
        B = (V * A.unsqueeze(1)).sum(2)  # (C, (L+1)², T)
        return channels_last(B, n_members)


class ProductBasis(Operated[ProductOperator]):
    """B_{i,LM,c} = Σ_ν Σ_η w^{ν,L}_{Z_i,η,c} Σ_m U^{LM,ν}_{η,m} A_{i,m1,c} .. A_{i,mν,c}, then a linear map per L.

    Batatia et al., MACE (2022), eqs. 10 and 11.
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
        self.l_max, self.l_out, self.correlation, self.channels = l_max, l_out, correlation, channels
        plain = PlainProduct(l_max=l_max, l_out=l_out, correlation=correlation, channels=channels, dtype=init.dtype)
        self.set_reference(plain)
        self.weights = nn.ParameterList(
            init.normal(n_species, channels, count, std=1 / math.sqrt(count)) for count in plain.counts
        )
        self.linear = DegreeLinear(l_out, channels, channels, init=init)
        self.frozen = False
        self._folded: Derived[tuple[Tensor, ...]] | None = None

    @property
    def n_out(self) -> int:
        """Components of the products."""
        return (self.l_out + 1) ** 2

    def set_reference(self, operator: ProductOperator) -> None:
        """Use an operator in plain torch, which folds weights its own way."""
        self._folded = None
        super().set_reference(operator)

    def replace_operator(self, operator: nn.Module) -> None:
        """Use another implementation, which folds weights its own way."""
        self._folded = None
        super().replace_operator(operator)

    def freeze(self) -> None:
        """Fold weights once, and again only after they have changed."""
        self.frozen = True

    def folded_weights(self) -> tuple[Tensor, ...]:
        """The weights as the operator takes them; kept between calls if frozen."""
        if self._folded is not None and self._folded.valid:
            return self._folded.value
        value = self.operator.fold([member_channels(weight) for weight in self.weights])
        if not self.frozen or any(weight.requires_grad for weight in self.weights):
            return value
        self._folded = Derived(tuple(part.contiguous() for part in value), self.weights)
        return self._folded.value

    def forward(self, A: Tensor, species: NodeSpecies) -> Tensor:
        """Products of A ((l_max+1)², T, C), whose receivers are sorted by species; shape ((l_out+1)², T, C)."""
        return self.linear(self.operator(A, self.folded_weights(), species))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._folded = None  # `assign=True` replaces the weights whose state was noted
        super()._load_from_state_dict(*args, **kwargs)


def n_powers(n: int, correlation: int) -> int:
    """Number of products of up to `correlation` - 1 of n components: 1, 1 + n, 1 + n + n (n + 1) / 2."""
    return sum([1, n, n * (n + 1) // 2][:correlation])


def _horner_form(l_max: int, l_out: int, order: int, correlation: int) -> Tensor:
    """Couplings of a given order in the layout of V, with the last component of each monomial outside.

    Shape (n_couplings, 2 l_out + 1, n, n_powers).
    """
    n = (l_max + 1) ** 2
    couplings = torch.from_numpy(symmetric_couplings(l_max, l_out, order))  # (η, 2L+1, n_monomials)
    index = monomials(n, order)
    place = {tuple(row): k for k, row in enumerate(monomials(n, order - 1).tolist())} if order > 1 else {(): 0}
    inner = [place[tuple(row[:-1])] for row in index.tolist()]
    result = torch.zeros(len(couplings), 2 * l_out + 1, n, n_powers(n, correlation), dtype=torch.float64)
    # products of (order - 1) components follow all shorter products
    result[:, :, index[:, -1], n_powers(n, order - 1) + torch.tensor(inner)] = couplings
    return result
