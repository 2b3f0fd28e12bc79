"""Symmetric couplings of up to three copies of A to one degree L: MACE's generalised Clebsch-Gordan coefficients.

Batatia et al., MACE (2022), eq. 10: B_{η,LM} = Σ U^{LM}_η Π_ξ A_ξ. A symmetric coupling of ν copies of the same A is a
homogeneous polynomial of degree ν in A's components, so it is stored as its coefficients over sorted monomials;
symmetrising is then the same as collecting equal monomials.
"""

from collections.abc import Iterator
from functools import cache
from itertools import combinations_with_replacement
from math import factorial, sqrt

import numpy as np

from al_engine.structures.frames import FloatArray, IntArray
from models.graph.spherical import clebsch_gordan

INDEPENDENCE_TOLERANCE = 1e-6
"""Relative size of the part outside the span of earlier couplings below which a coupling counts as dependent."""


@cache
def monomials(n_variables: int, order: int) -> IntArray:
    """Sorted index tuples of all monomials of the given order, shape (n_monomials, order)."""
    return np.array(list(combinations_with_replacement(range(n_variables), order)), dtype=np.int64)


def symmetric_couplings(l_max: int, l_out: int, order: int) -> FloatArray:
    """A basis of the couplings of `order` copies of A (degrees up to `l_max`) to degree `l_out`.

    Deterministic: Gram-Schmidt in a fixed order over fixed coefficients. A coupling of independent components of unit
    variance has components of about unit variance.

    Args:
        l_max: Highest degree in A.
        l_out: Degree of the result.
        order: Number ν of copies, 1 to 3.

    Returns:
        Coefficients, shape (n_couplings, 2 l_out + 1, n_monomials), monomials as listed by `monomials`.
    """
    n_components = (l_max + 1) ** 2
    index = monomials(n_components, order)
    position = {tuple(row): k for k, row in enumerate(index.tolist())}
    # |T|² of the symmetric tensor behind a polynomial is Σ coefficient² / (number of distinct orderings)
    orderings = np.array([_orderings(tuple(row)) for row in index.tolist()], dtype=np.float64)
    basis: list[FloatArray] = []
    for degrees in combinations_with_replacement(range(l_max + 1), order):
        block: list[FloatArray] = []
        for tensor in _coupling_trees(degrees, l_out):
            polynomial = np.zeros((2 * l_out + 1, len(index)))
            for entry in np.argwhere(np.abs(tensor) > 0):
                *components, m_out = entry.tolist()
                key = tuple(sorted(degree**2 + m for degree, m in zip(degrees, components, strict=True)))
                polynomial[m_out, position[key]] += tensor[tuple(entry)]
            size = sqrt(float(np.sum(tensor**2)))
            for _ in range(2):  # the second pass restores orthogonality to rounding
                for other in block:
                    polynomial -= other * np.sum(polynomial * other / orderings)
            rest = sqrt(float(np.sum(polynomial**2 / orderings)))
            if rest > INDEPENDENCE_TOLERANCE * size:
                block.append(polynomial / rest)
        basis.extend(block)
    if not basis:
        return np.zeros((0, 2 * l_out + 1, len(index)))
    return np.stack(basis) * sqrt((2 * l_out + 1) / factorial(order))


def _orderings(indices: tuple[int, ...]) -> int:
    """Number of distinct permutations of a sorted tuple."""
    count = factorial(len(indices))
    for value in set(indices):
        count //= factorial(indices.count(value))
    return count


def _coupling_trees(degrees: tuple[int, ...], l_out: int) -> Iterator[FloatArray]:
    """Coupling tensors ((l1 l2) l12 l3) -> L through every intermediate l12, shape (2 l1 + 1, ..., 2L + 1)."""
    if (sum(degrees) + l_out) % 2:
        return
    if len(degrees) == 1:
        if degrees[0] == l_out:
            yield np.eye(2 * l_out + 1)
        return
    l1, l2, *rest = degrees
    if not rest:
        if abs(l1 - l2) <= l_out <= l1 + l2:
            yield clebsch_gordan(l1, l2, l_out).numpy()
        return
    for l12 in range(abs(l1 - l2), l1 + l2 + 1):
        if abs(l12 - rest[0]) <= l_out <= l12 + rest[0]:
            first, second = clebsch_gordan(l1, l2, l12).numpy(), clebsch_gordan(l12, rest[0], l_out).numpy()
            yield np.einsum("abx,xcm->abcm", first, second)
