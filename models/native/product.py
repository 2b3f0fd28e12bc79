"""The product kernel as torch operators with first and second derivatives; source and layout: `product.cpp`."""

from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.graph.couplings import monomials, symmetric_couplings
from models.native.build import real_type, table
from models.native.kernel import Kernel, refuse_derivative, save_derivative, save_tensors

SMALLEST_COEFFICIENT = 1e-9
"""Magnitude below which a coefficient is a rounding error and is left out."""

_HEADER = """
#define REAL {real}
#define CHANNELS {channels}
#define N_IN {n_in}
#define N_OUT {n_out}
#define N_TERMS {n_terms}
struct Group {{ int out, a, b, first, end; }};
"""


@dataclass(frozen=True)
class ProductKernel(Kernel):
    """Compile-time constants of the product kernel.

    Attributes:
        l_max: Highest degree of A.
        l_out: Highest degree of the products.
        correlation: Highest order in A.
        channels: Channels C.
        dtype: Precision.
    """

    source: ClassVar[str] = "product.cpp"
    l_max: int
    l_out: int
    correlation: int
    channels: int
    dtype: torch.dtype

    def __call__(self, A: Tensor, weights: Tensor, species: Tensor) -> Tensor:
        """Products of A, shape ((l_out + 1)², T, C).

        Args:
            A: Features, shape ((l_max + 1)², T, C).
            weights: Weights of the terms (`terms_and_coefficients`), shape (S, n_terms, C): the weights of the
                couplings times the coefficients.
            species: Species of each atom, shape (T,).
        """
        result: Tensor = torch.ops.al_engine.product(self.key, A, weights, species)
        return result

    def header(self) -> str:
        """The sizes and tables that `product.cpp` needs, as C++."""
        terms, _ = terms_and_coefficients(self.l_max, self.l_out, self.correlation)
        groups = []
        for key, members in groupby(enumerate(terms), key=lambda item: item[1][:3]):
            indices = [index for index, _ in members]
            groups.append((*key, indices[0], indices[-1] + 1))
        sizes = _HEADER.format(
            real=real_type(self.dtype),
            channels=self.channels,
            n_in=(self.l_max + 1) ** 2,
            n_out=(self.l_out + 1) ** 2,
            n_terms=len(terms),
        )
        last = ",".join(str(term[3]) for term in terms)
        return sizes + table("Group", "groups", groups) + f"static const int last_factor[] = {{{last}}};\n"


@cache
def terms_and_coefficients(
    l_max: int, l_out: int, correlation: int
) -> tuple[list[tuple[int, int, int, int]], tuple[Tensor, ...]]:
    """The polynomials of the products, as terms, and the coefficients of the couplings in these terms.

    A term (m, a, b, d) adds w · A_a A_b A_d to component m of the products; the index (l_max + 1)² stands for the
    factor 1.

    Args:
        l_max: Highest degree of A.
        l_out: Highest degree of the products.
        correlation: Highest order in A.

    Returns:
        The terms, sorted, and for each degree L a matrix of coefficients (n_couplings to L, n_terms), float64. The
        couplings to a degree are listed by order, from 1 to `correlation`.
    """
    constant = (l_max + 1) ** 2
    found: list[tuple[tuple[int, int, int, int], int, int, float]] = []
    counts = []
    for degree in range(l_out + 1):
        first = 0  # index of the order's first coupling among the couplings to the degree
        for order in range(1, correlation + 1):
            couplings = symmetric_couplings(l_max, degree, order)  # (η, 2 L + 1, n_monomials)
            index = monomials(constant, order).tolist()
            for eta, m, k in np.argwhere(np.abs(couplings) > SMALLEST_COEFFICIENT).tolist():
                factors = [*index[k], *[constant] * (3 - order)]
                # terms with the same m, a and b form a group, so a single factor comes last
                a, b, d = factors if order != 1 else (constant, constant, factors[0])
                found.append(((degree**2 + m, a, b, d), degree, first + eta, float(couplings[eta, m, k])))
            first += len(couplings)
        counts.append(first)
    terms = sorted({term for term, *_ in found})
    place = {term: k for k, term in enumerate(terms)}
    matrices = tuple(torch.zeros(count, len(terms), dtype=torch.float64) for count in counts)
    for term, degree, eta, value in found:
        matrices[degree][eta, place[term]] = value
    return terms, matrices


# w: weights of the terms; g: derivative of the energy by the products; g_: derivatives by an input; v_: directions
torch.library.define("al_engine::product", "(str kernel, Tensor A, Tensor w, Tensor species) -> Tensor")
torch.library.define(
    "al_engine::product_backward",
    "(str kernel, Tensor g, Tensor A, Tensor w, Tensor species, bool with_weights) -> (Tensor, Tensor)",
)
torch.library.define(
    "al_engine::product_backward_twice",
    "(str kernel, Tensor? v_A, Tensor? v_w, Tensor g, Tensor A, Tensor w, Tensor species) -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl("al_engine::product", "CPU")
def _product(key: str, A: Tensor, w: Tensor, species: Tensor) -> Tensor:
    A, w = A.contiguous(), w.contiguous()
    result = A.new_empty((ProductKernel.from_key(key).l_out + 1) ** 2, *A.shape[1:])
    ProductKernel.from_key(key).call("product", (A.shape[1],), *(A, w, species, result))
    return result


@torch.library.impl("al_engine::product_backward", "CPU")
def _product_backward(
    key: str, g: Tensor, A: Tensor, w: Tensor, species: Tensor, with_weights: bool
) -> tuple[Tensor, Tensor]:
    g, A, w = g.contiguous(), A.contiguous(), w.contiguous()
    g_A, g_w = torch.empty_like(A), torch.zeros_like(w) if with_weights else w.new_empty(0)
    tensors = (g, A, w, species, g_A, g_w if with_weights else None)
    ProductKernel.from_key(key).call("product_backward", (A.shape[1],), *tensors)
    return g_A, g_w


@torch.library.impl("al_engine::product_backward_twice", "CPU")
def _product_backward_twice(
    key: str, v_A: Tensor | None, v_w: Tensor | None, g: Tensor, A: Tensor, w: Tensor, species: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of <v_A, g_A> + <v_w, g_w> by g, A and w; a direction v_A or v_w that is None is zero.

    The products B(A, w) are linear in w, so <v_w, g_w> is <g, B(A, v_w)>. Its derivatives by g and A are therefore
    B(A, v_w) and the backward product with v_w in place of w.
    """
    kernel, sizes = ProductKernel.from_key(key), (A.shape[1],)
    g, A, w = g.contiguous(), A.contiguous(), w.contiguous()
    if v_A is None:
        results = torch.zeros_like(g), torch.zeros_like(A), torch.zeros_like(w)
    else:
        results = torch.empty_like(g), torch.empty_like(A), torch.zeros_like(w)
        kernel.call("product_backward_twice", sizes, *(v_A.contiguous(), g, A, w, species, *results))
    if v_w is not None:
        v_w = v_w.contiguous()
        g_g, g_A = torch.empty_like(g), torch.empty_like(A)
        kernel.call("product", sizes, *(A, v_w, species, g_g))
        kernel.call("product_backward", sizes, *(g, A, v_w, species, g_A, None))
        results = results[0] + g_g, results[1] + g_A, results[2]
    return results


@torch.library.register_fake("al_engine::product")
def _product_shape(key: str, A: Tensor, w: Tensor, species: Tensor) -> Tensor:
    return A.new_empty((ProductKernel.from_key(key).l_out + 1) ** 2, *A.shape[1:])


@torch.library.register_fake("al_engine::product_backward")
def _product_backward_shape(
    key: str, g: Tensor, A: Tensor, w: Tensor, species: Tensor, with_weights: bool
) -> tuple[Tensor, Tensor]:
    return A.new_empty(A.shape), w.new_empty(w.shape) if with_weights else w.new_empty(0)


@torch.library.register_fake("al_engine::product_backward_twice")
def _product_backward_twice_shape(
    key: str, v_A: Tensor | None, v_w: Tensor | None, g: Tensor, A: Tensor, w: Tensor, species: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return g.new_empty(g.shape), A.new_empty(A.shape), w.new_empty(w.shape)


def _differentiate(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    A, w, species = ctx.saved_tensors
    with_weights = bool(ctx.needs_input_grad[2])
    g_A, g_w = torch.ops.al_engine.product_backward(ctx.key, g, A, w, species, with_weights)
    return None, g_A, g_w if with_weights else None, None


def _differentiate_twice(ctx: Any, v_A: Tensor | None, v_w: Tensor | None) -> tuple[Tensor | None, ...]:
    v_w = v_w if ctx.with_weights else None  # without weights g_w is a tensor without elements
    g_g, g_A, g_w = torch.ops.al_engine.product_backward_twice(ctx.key, v_A, v_w, *ctx.saved_tensors)
    return None, g_g, g_A, g_w, None, None


torch.library.register_autograd("al_engine::product", _differentiate, setup_context=save_tensors)
torch.library.register_autograd("al_engine::product_backward", _differentiate_twice, setup_context=save_derivative)
refuse_derivative("al_engine::product_backward_twice")
