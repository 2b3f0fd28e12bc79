"""The recursive product basis: one factor of A after another, with weights at every step."""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from al_engine.structures.frames import FloatArray, IntArray
from models.graph.couplings import monomials, symmetric_couplings
from models.graph.spherical import Coupling, clebsch_gordan, couplings_of
from models.layers.members import member_channels
from models.layers.parameters import Initializer
from models.layers.product import ProductBasis


class RecursiveProduct(ProductBasis):
    """B_{i,LM,c} = Σ_k v^{k,L}_{Z_i,c} P^k_{i,LM,c}, then a linear map per L; P^1 = A.

    The orders k up to ν follow from each other:

        P^{k+1}_{i,l3m3,c} = Σ_{l1,l2} w^{k,l1l2l3}_{Z_i,c} Σ_{m1,m2} CG^{l3m3}_{l1m1,l2m2} P^k_{i,l1m1,c} A_{i,l2m2,c}

    through degrees up to l_max of natural parity; v = 1 for the last of several orders, which w scales already.

    B is an equivariant polynomial of A, and so a sum of MACE's symmetric couplings η, like `ProductBasis`; only that
    the coefficients of the third order are Σ_{pq} K_{pq,η} w^1_p w^2_q, with constants K, instead of free. It is
    evaluated in that form, by the same code at the same cost.
    """

    def new_weights(self, n_species: int, init: Initializer) -> nn.ParameterList:
        """Weights w (S, C, n_couplings) of every step, then v (S, C, l_out + 1) of the orders that have one."""
        shape = (n_species, self.channels)
        weights = nn.ParameterList()
        for order in range(2, self.correlation + 1):
            into = np.array([l3 for _, _, l3 in _step(self.l_max, self.l_out, self.correlation, order=order)])
            terms = np.count_nonzero(into[:, None] == into, axis=1)  # of the sum that each one is part of
            if order == self.correlation:
                terms *= self.correlation  # orders are summed too
            weights.append(init.normal(*shape, len(into), std=torch.from_numpy(terms**-0.5)))
        self.n_steps = len(weights)
        for _ in range(max(1, self.correlation - 1)):
            weights.append(init.normal(*shape, self.l_out + 1, std=self.correlation**-0.5))
        for degree, mixing in enumerate(_mixing(self.l_max, self.l_out, self.correlation)):
            for order, K in enumerate(mixing, start=2):
                self.register_buffer(f"K_{order}_{degree}", torch.from_numpy(K).to(init.dtype), persistent=False)
        return weights

    def coupling_weights(self) -> list[Tensor]:
        """What the products of weights amount to as weights of symmetric couplings, (S, C, n_couplings) per degree."""
        weights = [member_channels(weight) for weight in self.weights]
        steps, scales = weights[: self.n_steps], [v.split(1, dim=2) for v in weights[self.n_steps :]]
        result = []
        for degree in range(self.l_out + 1):
            orders = [scales[0][degree]]
            if len(steps) > 0:
                second = steps[0] @ self.get_buffer(f"K_2_{degree}")
                orders.append(second * scales[1][degree] if len(steps) > 1 else second)
            if len(steps) > 1:
                orders.append(torch.einsum("scp,scq,pqe->sce", *steps, self.get_buffer(f"K_3_{degree}")))
            result.append(torch.cat(orders, dim=2))
        return result


def _step(l_max: int, l_out: int, correlation: int, *, order: int) -> list[Coupling]:
    """Couplings (l1, l2) -> l3 of P^{order - 1} with A that a product of some correlation order takes."""
    couplings = couplings_of(l_max, l_max, l_out if order == correlation else l_max)
    return [p for p in couplings if order > 2 or p[0] <= p[1]]  # noqa: PLR2004  # A with A: each pair once


@cache
def _mixing(l_max: int, l_out: int, correlation: int) -> list[list[FloatArray]]:
    """Couplings in steps as sums of symmetric couplings η.

    Returns:
        For every degree up to `l_out` the coefficients of order 2, (n_first, n_η), and 3, (n_first, n_second, n_η), as
        far as `correlation` goes.
    """
    n = (l_max + 1) ** 2
    result: list[list[FloatArray]] = [[] for _ in range(l_out + 1)]
    if correlation == 1:
        return result
    first = _step(l_max, l_out, correlation, order=2)
    pairs = [_next_order(np.eye(n)[p[0] ** 2 : (p[0] + 1) ** 2], p, l_max=l_max, order=1) for p in first]
    for degree, mixing in enumerate(result):
        basis = symmetric_couplings(l_max, degree, 2)
        K2 = np.zeros((len(first), len(basis)))
        for row, p, pair in zip(K2, first, pairs, strict=True):
            if p[2] == degree:
                row[:] = _coefficients(pair, basis)
        mixing.append(K2)
        if correlation == 2:  # noqa: PLR2004
            continue
        second = _step(l_max, l_out, correlation, order=3)
        basis = symmetric_couplings(l_max, degree, 3)
        K3 = np.zeros((len(first), len(second), len(basis)))
        for i, (p, pair) in enumerate(zip(first, pairs, strict=True)):
            for j, q in enumerate(second):
                if (q[0], q[2]) == (p[2], degree):
                    K3[i, j] = _coefficients(_next_order(pair, q, l_max=l_max, order=2), basis)
        mixing.append(K3)
    return result


def _next_order(P: FloatArray, coupling: Coupling, *, l_max: int, order: int) -> FloatArray:
    """Couple polynomials with A.

    Args:
        P: Components of degree l1 as polynomials of A: coefficients (2 l1 + 1, n_monomials) of some order.
        coupling: (l1, l2) -> l3.
        l_max: Highest degree in A.
        order: Order of the monomials of P.

    Returns:
        The components of degree l3 over the monomials of the next order, (2 l3 + 1, n_monomials).
    """
    l1, l2, l3 = coupling
    n = (l_max + 1) ** 2
    products = _products(n, order)[:, l2**2 : (l2 + 1) ** 2]  # (n_monomials, 2 l2 + 1)
    terms = np.einsum("xm,xyz->zmy", P, clebsch_gordan(l1, l2, l3).numpy())
    result = np.zeros((2 * l3 + 1, len(monomials(n, order + 1))))
    np.add.at(result.T, products.ravel(), terms.reshape(2 * l3 + 1, -1).T)
    return result


@cache
def _products(n: int, order: int) -> IntArray:
    """Where a monomial times a variable stands among the monomials of the next order, (n_monomials, n)."""
    place = {tuple(row): k for k, row in enumerate(monomials(n, order + 1).tolist())}
    return np.array([[place[tuple(sorted([*row, a]))] for a in range(n)] for row in monomials(n, order).tolist()])


def _coefficients(polynomial: FloatArray, basis: FloatArray) -> FloatArray:
    """Coefficients (n_η,) of an equivariant polynomial (2L + 1, n_monomials) in a basis (n_η, 2L + 1, n_monomials)."""
    return np.linalg.lstsq(basis.reshape(len(basis), -1).T, polynomial.ravel(), rcond=None)[0].astype(np.float64)
