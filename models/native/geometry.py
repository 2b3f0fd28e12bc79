"""The geometry kernel as torch operators; source and layout: `geometry.cpp`.

There are three operators: the features of vectors, the product of a vector and their Jacobian (backward), and the
product of their Jacobian and a vector (forward). Each product is linear in its vector, and its derivative by this
vector is the other product. Derivatives of the Jacobian itself are not needed: training differentiates forces by
weights, not by positions.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from models.graph.spherical import SphericalHarmonics
from models.native.build import real_type
from models.native.kernel import Kernel, refuse_derivative, save_tensors

Polynomial: TypeAlias = dict[tuple[int, int, int], float]
"""Coefficients by powers of x, y and z."""
SMALLEST_COEFFICIENT = 1e-12
"""Magnitude below which a coefficient is a rounding error and is left out."""

_HEADER = """
#define REAL {real}
constexpr int LANES = REGISTER_BYTES / sizeof(REAL);
#define N_HARMONICS {n_harmonics}
#define N_RADIAL {n_radial}
#define POWER {power}
typedef REAL vec __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL))));
constexpr REAL CUTOFF = {cutoff!r}, SMALLEST = {smallest!r};
static inline void harmonics(vec x, vec y, vec z, vec* Y) {{
{harmonics}
}}
static inline void gradients(vec x, vec y, vec z, vec* dY) {{
{gradients}
}}
"""


@dataclass(frozen=True)
class GeometryKernel(Kernel):
    """Compile-time constants of the geometry kernel.

    Attributes:
        l_max: Highest degree of the harmonics.
        n_radial: Number of Bessel functions.
        power: Power of the polynomial envelope.
        cutoff: Cut-off radius in Å.
        smallest: Lower bound on distances in Å.
        dtype: Precision.
    """

    source: ClassVar[str] = "geometry.cpp"
    l_max: int
    n_radial: int
    power: int
    cutoff: float
    smallest: float
    dtype: torch.dtype

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Harmonics (..., (l_max + 1)²) and radial basis (..., n_radial) of vectors (..., 3) in Å."""
        harmonics, basis = torch.ops.al_engine.edge_features(self.key, vectors)
        return harmonics, basis

    def pull_back(self, vectors: Tensor, g_harmonics: Tensor, g_basis: Tensor) -> Tensor:
        """dE/d(vectors) (..., 3) from dE/d(harmonics) and dE/d(basis), differentiable by both of them."""
        result: Tensor = torch.ops.al_engine.edge_features_backward(self.key, vectors, g_harmonics, g_basis)
        return result

    def header(self) -> str:
        """The sizes and polynomials that `geometry.cpp` needs, as C++."""
        polynomials = harmonic_polynomials(self.l_max)
        return _HEADER.format(
            real=real_type(self.dtype),
            n_harmonics=len(polynomials),
            n_radial=self.n_radial,
            power=self.power,
            cutoff=self.cutoff,
            smallest=self.smallest,
            harmonics="\n".join(f"    Y[{k}] = {_code(p)};" for k, p in enumerate(polynomials)),
            gradients="\n".join(
                f"    dY[{3 * k + axis}] = {_code(_derivative(p, axis))};"
                for k, p in enumerate(polynomials)
                for axis in range(3)
            ),
        )


def harmonic_polynomials(l_max: int) -> list[Polynomial]:
    """The harmonics of `SphericalHarmonics` as polynomials in the components of the unit vector, (l_max + 1)² of them.

    They follow from the same recursion, whose matrices `SphericalHarmonics` holds.
    """
    recursion = SphericalHarmonics(l_max, dtype=torch.float64)
    degree_0: list[Polynomial] = [{(0, 0, 0): 1.0}]
    degree_1: list[Polynomial] = [{(1, 0, 0): 3**0.5}, {(0, 1, 0): 3**0.5}, {(0, 0, 1): 3**0.5}]
    degrees = [degree_0, degree_1][: l_max + 1]
    for degree in range(1, l_max):
        step = recursion.get_buffer(f"step_{degree}").tolist()  # ((2l + 1) * 3, 2l + 3)
        following: list[Polynomial] = []
        for m in range(2 * degree + 3):
            total: Polynomial = defaultdict(float)
            for k, row in enumerate(step):  # rows run over (component of degree l, axis)
                for powers, value in degrees[-1][k // 3].items():
                    total[_raised(powers, k % 3, by=1)] += row[m] * value
            following.append({key: value for key, value in total.items() if abs(value) > SMALLEST_COEFFICIENT})
        degrees.append(following)
    return [polynomial for degree in degrees for polynomial in degree]


def _derivative(polynomial: Polynomial, axis: int) -> Polynomial:
    """The derivative of a polynomial by x, y or z (`axis` 0, 1 or 2)."""
    return {_raised(powers, axis, by=-1): value * powers[axis] for powers, value in polynomial.items() if powers[axis]}


def _raised(powers: tuple[int, int, int], axis: int, *, by: int) -> tuple[int, int, int]:
    """Powers of x, y and z with the power of an axis changed by `by`."""
    i, j, k = (n + by * (axis == other) for other, n in enumerate(powers))
    return i, j, k


def _code(polynomial: Polynomial) -> str:
    """A polynomial as a C++ expression."""
    terms = [
        "*".join([f"REAL({value!r})", *"x" * i, *"y" * j, *"z" * k]) for (i, j, k), value in sorted(polynomial.items())
    ]
    return " + ".join(["vec{}", *terms])


# v: vectors; Y, B: harmonics, radial basis; g_: derivatives of the energy; t: a direction; t_: derivatives along t
torch.library.define("al_engine::edge_features", "(str kernel, Tensor v) -> (Tensor, Tensor)")
torch.library.define("al_engine::edge_features_backward", "(str kernel, Tensor v, Tensor g_Y, Tensor g_B) -> Tensor")
torch.library.define("al_engine::edge_features_forward", "(str kernel, Tensor v, Tensor t) -> (Tensor, Tensor)")


@torch.library.impl("al_engine::edge_features", "CPU")
def _features(key: str, v: Tensor) -> tuple[Tensor, Tensor]:
    v = v.contiguous()
    Y, B = _features_shape(key, v)
    GeometryKernel.from_key(key).call("features", (v.numel() // 3,), *(v, Y, B))
    return Y, B


@torch.library.impl("al_engine::edge_features_backward", "CPU")
def _features_backward(key: str, v: Tensor, g_Y: Tensor, g_B: Tensor) -> Tensor:
    v, g_Y, g_B = v.contiguous(), g_Y.contiguous(), g_B.contiguous()
    g_v = torch.empty_like(v)
    GeometryKernel.from_key(key).call("features_backward", (v.numel() // 3,), *(v, g_Y, g_B, g_v))
    return g_v


@torch.library.impl("al_engine::edge_features_forward", "CPU")
def _features_forward(key: str, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    v, t = v.contiguous(), t.contiguous()
    t_Y, t_B = _features_shape(key, v)
    GeometryKernel.from_key(key).call("features_forward", (v.numel() // 3,), *(v, t, t_Y, t_B))
    return t_Y, t_B


@torch.library.register_fake("al_engine::edge_features")
def _features_shape(key: str, v: Tensor) -> tuple[Tensor, Tensor]:
    kernel = GeometryKernel.from_key(key)
    return v.new_empty(*v.shape[:-1], (kernel.l_max + 1) ** 2), v.new_empty(*v.shape[:-1], kernel.n_radial)


@torch.library.register_fake("al_engine::edge_features_backward")
def _features_backward_shape(key: str, v: Tensor, g_Y: Tensor, g_B: Tensor) -> Tensor:
    return v.new_empty(v.shape)


@torch.library.register_fake("al_engine::edge_features_forward")
def _features_forward_shape(key: str, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return _features_shape(key, v)


def _differentiate(ctx: Any, g_Y: Tensor, g_B: Tensor) -> tuple[Tensor | None, ...]:
    v, *_ = ctx.saved_tensors
    return None, torch.ops.al_engine.edge_features_backward(ctx.key, v, g_Y, g_B)


def _differentiate_twice(ctx: Any, t: Tensor) -> tuple[Tensor | None, ...]:
    v, *_ = ctx.saved_tensors
    if ctx.needs_input_grad[1]:
        raise RuntimeError(
            "the geometry kernel has no second derivatives by positions; use plain torch (acceleration: off)"
        )
    t_Y, t_B = torch.ops.al_engine.edge_features_forward(ctx.key, v, t)
    return None, None, t_Y, t_B


torch.library.register_autograd("al_engine::edge_features", _differentiate, setup_context=save_tensors)
torch.library.register_autograd("al_engine::edge_features_backward", _differentiate_twice, setup_context=save_tensors)
refuse_derivative("al_engine::edge_features_forward")
