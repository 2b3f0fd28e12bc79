"""The building blocks against independent references: e3nn, and explicit sums."""

import itertools

import numpy as np
import pytest
import torch
from e3nn import o3

from models.graph.couplings import symmetric_couplings
from models.graph.graph import NodeSpecies
from models.graph.radial import BesselBasis, polynomial_cutoff
from models.graph.spherical import SphericalHarmonics
from models.layers.linear import ScalarNetwork, SpeciesLinear
from models.layers.message import PathMessage
from models.layers.parameters import Initializer
from models.layers.product import ProductBasis


def initializer(seed=0):
    return Initializer(torch.Generator().manual_seed(seed), torch.float64)


def turned_inverted(l_max):
    """The matrix D of a rotation with inversion, Y(R v) = D Y(v), from e3nn's own harmonics.

    (e3nn's `D_from_matrix` and `D_from_angles` are exact to 1e-7 only.)
    """
    rotation = -o3.angles_to_matrix(*torch.tensor([0.3, 1.1, -2.0], dtype=torch.float64))
    points = torch.randn(60, 3, dtype=torch.float64, generator=initializer(7).generator)
    degrees = list(range(l_max + 1))
    before, after = (
        o3.spherical_harmonics(degrees, x, normalize=True, normalization="component")
        for x in (points, points @ rotation.T)
    )
    return torch.linalg.lstsq(before, after).solution.T


@pytest.mark.parametrize("l_max", range(5))
def test_spherical_harmonics_are_those_of_e3nn(l_max):
    directions = torch.nn.functional.normalize(
        torch.randn(50, 3, dtype=torch.float64, generator=initializer().generator)
    )
    ours = SphericalHarmonics(l_max, dtype=torch.float64)(directions)
    theirs = o3.spherical_harmonics(list(range(l_max + 1)), directions, normalize=True, normalization="component")
    assert (ours - theirs).abs().max() < 1e-12


def test_cutoff_polynomial_vanishes_twice_differentiably():
    x = torch.tensor([1.0 - 1e-4, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    value = polynomial_cutoff(x, 6)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert (value[1:] == 0).all()
    assert (first[1:] == 0).all()
    assert (second[1:] == 0).all()
    # (1 - x)³ p (p + 1) (p + 2) / 6 close to 1: value, slope and curvature shrink with the distance
    assert value[0].item() == pytest.approx(56e-12, rel=1e-2)
    assert second[0].item() == pytest.approx(6 * 56e-4, rel=1e-2)
    assert polynomial_cutoff(torch.zeros(1), 6) == 1.0


def test_bessel_functions_are_orthonormal_without_the_envelope():
    """∫ B_m B_n r² dr = δ_mn over the sphere of the cut-off (DimeNet, appendix)."""
    basis = BesselBasis(cutoff=4.0, n_functions=4, envelope_power=6, dtype=torch.float64)
    r = torch.linspace(1e-4, 4.0 - 1e-9, 20001, dtype=torch.float64)[:, None]
    bare = basis(r) / polynomial_cutoff(r / 4.0, 6)
    keep = (r < 3.99).squeeze(1)
    overlap = torch.trapezoid((bare[:, :, None] * bare[:, None, :] * r[:, :, None] ** 2)[keep], r[keep, :, None], dim=0)
    assert (overlap - torch.eye(4, dtype=torch.float64)).abs().max() < 1e-2


def test_networks_keep_unit_variance():
    x = torch.randn(4000, 32, dtype=torch.float64, generator=initializer(1).generator)
    y = ScalarNetwork(32, [64, 64], 16, init=initializer())(x)
    assert y.square().mean().item() == pytest.approx(1.0, rel=0.25)


def test_species_linear_uses_each_species_weights():
    linear = SpeciesLinear(1, 3, 2, 2, init=initializer())
    h = torch.randn(4, 5, 3, dtype=torch.float64, generator=initializer(1).generator)
    species = [0, 0, 1, 1, 1]
    result = linear.forward_species(h, torch.eye(2, dtype=torch.float64)[species])
    for m, t in itertools.product(range(4), range(5)):
        weight = linear.weights[0 if m == 0 else 1].view(2, 3, 2)[species[t]]
        assert torch.allclose(result[m, t], h[m, t] @ weight, atol=1e-12)


@pytest.mark.parametrize("l_out", [0, 1, 2])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_couplings_span_all_symmetric_equivariants(l_out, order):
    """The number of couplings is the multiplicity of L in the symmetric power, computed from its character."""
    l_max = 2
    couplings = symmetric_couplings(l_max, l_out, order)
    angles = (np.arange(400) + 0.5) * np.pi / 400

    def character(angle, parity):
        return sum((parity**d) * (1 + 2 * sum(np.cos(m * angle) for m in range(1, d + 1))) for d in range(l_max + 1))

    def symmetric(angle, parity):
        p1, p2, p3 = (character(k * angle, parity**k) for k in (1, 2, 3))
        return {1: p1, 2: (p1**2 + p2) / 2, 3: (p1**3 + 3 * p1 * p2 + 2 * p3) / 6}[order]

    out = 1 + 2 * sum(np.cos(m * angles) for m in range(1, l_out + 1))
    measure = (1 - np.cos(angles)) / len(angles)
    proper = np.sum(measure * symmetric(angles, 1) * out)
    improper = np.sum(measure * symmetric(angles, -1) * out * (-1) ** l_out)
    assert len(couplings) == round((proper + improper) / 2)


def naive_product(basis, features, species, l_max, l_out):
    """The product basis by its definition, monomial by monomial."""
    n_nodes, channels = features.shape[1:]
    rows = []
    for degree in range(l_out + 1):
        weights = basis.weights[degree]
        result = torch.zeros(2 * degree + 1, n_nodes, channels, dtype=features.dtype)
        first = 0
        for order in range(1, basis.correlation + 1):
            coefficients = torch.from_numpy(symmetric_couplings(l_max, degree, order))
            tuples = itertools.combinations_with_replacement(range((l_max + 1) ** 2), order)
            for k, indices in enumerate(tuples):
                product = torch.prod(features[list(indices)], dim=0)  # (T, C)
                w = weights[species][:, :, first : first + len(coefficients)]  # (T, C, η)
                result += torch.einsum("tce,em,tc->mtc", w, coefficients[:, :, k], product)
            first += len(coefficients)
        rows.append(result)
    return torch.cat([row @ w for row, w in zip(rows, basis.linear.weights, strict=True)])


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_product_basis_is_its_definition_and_equivariant(correlation):
    l_max, l_out, channels = 2, 1, 3
    basis = ProductBasis(
        l_max=l_max, l_out=l_out, correlation=correlation, channels=channels, n_species=3, init=initializer()
    )
    features = torch.randn(9, 6, channels, dtype=torch.float64, generator=initializer(1).generator)
    index = torch.tensor([0, 0, 2, 2, 2, 2])
    species = NodeSpecies(index, torch.eye(3, dtype=torch.float64)[index], [2, 0, 4])
    fast = basis(features, species)
    assert torch.allclose(fast, naive_product(basis, features, index, l_max, l_out), atol=1e-12)

    turn_in, turn_out = turned_inverted(l_max), turned_inverted(l_out)
    turned = basis(torch.einsum("mn,ntc->mtc", turn_in, features), species)
    assert torch.allclose(turned, torch.einsum("mn,ntc->mtc", turn_out, fast), atol=1e-10)

    basis.freeze()
    assert torch.equal(basis(features, species), fast)


def test_message_is_its_definition():
    """By e3nn's Wigner 3j symbols, neighbour by neighbour and coupling by coupling."""
    from al_engine.config import PathConfig
    from models.layers.geometry import EdgeFeatures

    n, k, c = 4, 3, 2
    path = PathConfig(cutoff_ang=4.0, channels=c, l_max=2, radial_mlp=[])
    message = PathMessage(path, l_hidden=1, hidden_channels=3, l_message=2, n_basis=4, init=initializer())
    generator = initializer(1).generator
    h = torch.randn(4, n, 3, dtype=torch.float64, generator=generator)
    edges = EdgeFeatures(
        torch.randn(n, k, 9, dtype=torch.float64, generator=generator),
        torch.randn(n, k, 4, dtype=torch.float64, generator=generator),
    )
    neighbours = torch.randint(n, (n, k), generator=generator)
    fast = message(h, neighbours, edges)

    up = message.up(h)  # (4, n, c)
    radial = message.radial(edges.basis).view(n, k, -1, c)
    parts = {0: [], 1: [], 2: []}
    for p, (l1, l2, l3) in enumerate(message.couplings):
        w3j = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
        harmonics = edges.harmonics[:, :, l1**2 : (l1 + 1) ** 2]
        source = up[l2**2 : (l2 + 1) ** 2][:, neighbours]  # (2 l2 + 1, n, k, c)
        parts[l3].append(torch.einsum("abm,tka,btkc,tkc->mtc", w3j, harmonics, source, radial[:, :, p]))
    for l3, part in parts.items():
        assert torch.allclose(fast[l3], torch.cat(part, dim=-1), atol=1e-12)
