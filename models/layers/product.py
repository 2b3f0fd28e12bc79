"""The product basis: MACE's symmetric contraction, all couplings of up to ν copies of A, evaluated in Horner form."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from models.graph.couplings import monomials, symmetric_couplings
from models.graph.graph import NodeSpecies
from models.graph.operations import concatenate
from models.layers.linear import DegreeLinear
from models.layers.members import channels_first, channels_last, member_channels
from models.layers.parameters import Derived, Initializer
from models.native.product import ProductKernel, terms_and_coefficients


class ProductBasis(nn.Module):
    """B_{i,LM,c} = Σ_ν Σ_η w^{ν,L}_{Z_i,η,c} Σ_m U^{LM,ν}_{η,m} A_{i,m1,c} .. A_{i,mν,c}, then a linear map per L.

    Batatia et al., MACE (2022), eqs. 10 and 11. U and w are first folded into one matrix per species and channel, and
    the sum over the last copy of A is taken outside (Horner):

        B_LM = Σ_a A_a V_{LM,a},   V = W [1, A, A ⊗ A]      (unique pairs only)

    so that an atom costs one small matrix product per channel whatever the number of couplings.
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
        n = (l_max + 1) ** 2
        self.n_components, self.channels, self.n_out, self.correlation = n, channels, (l_out + 1) ** 2, correlation
        pairs = torch.from_numpy(monomials(n, 2)[: max(0, n_powers(n, correlation) - 1 - n)])
        # pairs are picked by matrix products: their derivatives are matrix products too, faster than scattering
        self.first: Tensor
        self.second: Tensor
        self.register_buffer("first", nn.functional.one_hot(pairs[:, 0], n).to(init.dtype), persistent=False)
        self.register_buffer("second", nn.functional.one_hot(pairs[:, 1], n).to(init.dtype), persistent=False)

        for degree in range(l_out + 1):
            couplings = torch.cat(
                [_horner_form(l_max, degree, order, correlation) for order in range(1, correlation + 1)]
            )
            self.register_buffer(f"U_{degree}", couplings.flatten(1).to(init.dtype), persistent=False)
        self.l_max, self.l_out = l_max, l_out
        counts = [len(self.get_buffer(f"U_{degree}")) for degree in range(l_out + 1)]
        self.weights = nn.ParameterList(
            init.normal(n_species, channels, count, std=1 / math.sqrt(count)) for count in counts
        )
        self.linear = DegreeLinear(l_out, channels, channels, init=init)
        self.kernel: ProductKernel | None = None
        self.frozen = False
        self._derived: Derived[tuple[Tensor, ...]] | None = None

    def coupling_weights(self) -> list[Tensor]:
        """The weights w of every degree, (S, C, n_couplings) each, couplings by ascending order."""
        return [member_channels(weight) for weight in self.weights]

    def use_kernel(self) -> None:
        """From now on use the CPU kernel.

        Raises:
            KernelError: If it can't be had.
        """
        dtype = self.weights[0].dtype
        kernel = ProductKernel(self.l_max, self.l_out, self.correlation, self.channels, dtype)
        _, coefficients = terms_and_coefficients(self.l_max, self.l_out, self.correlation)
        self.register_buffer("coefficients", torch.cat(coefficients).to(dtype), persistent=False)
        self.kernel, self._derived = kernel.prepared(), None

    def use_plain(self) -> None:
        """From now on use plain torch."""
        self.kernel = self._derived = None

    def term_weights(self) -> Tensor:
        """Weights of the monomials, shape (S, n_terms, C): for `kernel`, what `folded_weights` is without it."""
        weights = concatenate(self.coupling_weights(), dim=2)  # (S, C, n_couplings)
        return (weights @ self.get_buffer("coefficients")).transpose(1, 2)

    def folded_weights(self) -> tuple[Tensor, ...]:
        """U folded with w, for each species a matrix (C, (L+1)² n, 1 + n + n_pairs), n = (l_max + 1)²."""
        rows = [
            (weight @ self.get_buffer(f"U_{degree}")).unflatten(-1, ((2 * degree + 1) * self.n_components, -1))
            for degree, weight in enumerate(self.coupling_weights())
        ]  # (S, C, (2L+1) n, 1 + n + n_pairs) each
        return (concatenate(rows, dim=2)).unbind(0)

    def freeze(self) -> None:
        """Fold weights once, and again only after they have changed."""
        self.frozen = True

    def derived_weights(self) -> tuple[Tensor, ...]:
        """`folded_weights`, or with a kernel `term_weights`; kept between calls if frozen."""
        if self._derived is not None and self._derived.valid:
            return self._derived.value
        value = self.folded_weights() if self.kernel is None else (self.term_weights(),)
        if not self.frozen or any(weight.requires_grad for weight in self.weights):
            return value
        self._derived = Derived(tuple(part.contiguous() for part in value), self.weights)
        return self._derived.value

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._derived = None  # `assign=True` replaces the weights whose state was noted
        super()._load_from_state_dict(*args, **kwargs)

    def forward(self, A: Tensor, species: NodeSpecies) -> Tensor:
        """Products of A ((l_max+1)², T, C), whose atoms are sorted by species; shape ((l_out+1)², T, C)."""
        if self.kernel is not None:
            (term_weights,) = self.derived_weights()
            return self.linear(self.kernel(A, term_weights, species.kinds))
        weights = self.derived_weights()
        n_members = weights[0].shape[0] // self.channels
        A = channels_first(A, n_members)  # (C, n, T)
        powers = [torch.ones_like(A[:, :1])]
        if self.correlation > 1:
            powers.append(A)
        if len(self.first):
            powers.append((self.first @ A) * (self.second @ A))  # (C, n_pairs, T)
        parts = concatenate(powers, dim=1).split(species.counts, dim=2)  # (C, 1 + n + n_pairs, T_z) each
        V = concatenate(
            [torch.bmm(W, part) for W, part in zip(weights, parts, strict=True) if part.shape[2]], dim=2
        ).view(len(A), self.n_out, self.n_components, -1)
        B = (V * A.unsqueeze(1)).sum(2)  # (C, (L+1)², T)
        return self.linear(channels_last(B, n_members))


def n_powers(n: int, correlation: int) -> int:
    """Number of products of up to `correlation` - 1 of n components: 1, 1 + n, 1 + n + n (n + 1) / 2."""
    return sum([1, n, n * (n + 1) // 2][:correlation])


def _horner_form(l_max: int, l_out: int, order: int, correlation: int) -> Tensor:
    """Couplings of one order laid out for V, with the last component of each monomial outside.

    Shape (n_couplings, 2 l_out + 1, n, n_powers).
    """
    n = (l_max + 1) ** 2
    couplings = torch.from_numpy(symmetric_couplings(l_max, l_out, order))  # (η, 2L+1, n_monomials)
    index = monomials(n, order)
    place = {tuple(row): k for k, row in enumerate(monomials(n, order - 1).tolist())} if order > 1 else {(): 0}
    inner = [place[tuple(row[:-1])] for row in index.tolist()]
    result = torch.zeros(len(couplings), 2 * l_out + 1, n, n_powers(n, correlation), dtype=torch.float64)
    # products of (order - 1) components stand behind all shorter ones
    result[:, :, index[:, -1], n_powers(n, order - 1) + torch.tensor(inner)] = couplings
    return result
