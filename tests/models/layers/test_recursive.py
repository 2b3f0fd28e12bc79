"""The recursive product basis against its definition, written out with e3nn's coefficients."""

import itertools

import pytest
import torch
from e3nn import o3

from models.graph.graph import NodeSpecies
from models.layers.parameters import Initializer
from models.layers.recursive import RecursiveProduct

SPECIES = [0, 0, 2, 2, 2, 2]
L_MAX, CHANNELS = 2, 3


def nodes():
    index = torch.tensor(SPECIES)
    return NodeSpecies(index, torch.eye(3, dtype=torch.float64)[index], [2, 0, 4])


def product(correlation, l_out=1):
    init = Initializer(torch.Generator().manual_seed(0), torch.float64)
    return RecursiveProduct(
        l_max=L_MAX, l_out=l_out, correlation=correlation, channels=CHANNELS, n_species=3, init=init
    )


def features():
    return torch.randn(9, 6, CHANNELS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def block(x, degree):
    return x[degree**2 : (degree + 1) ** 2]


def step(lower, a, weights, l_out, *, symmetric):
    """P^{k+1}: every natural coupling of P^k and A once, in the order of its degrees."""
    result = torch.zeros((l_out + 1) ** 2, *a.shape[1:], dtype=a.dtype)
    couplings = [
        (l1, l2, l3)
        for l1, l2, l3 in itertools.product(range(L_MAX + 1), range(L_MAX + 1), range(l_out + 1))
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0 and (l1 <= l2 or not symmetric)
    ]
    assert weights.shape[2] == len(couplings)
    for k, (l1, l2, l3) in enumerate(couplings):
        w3j = o3.wigner_3j(l1, l2, l3, dtype=a.dtype) * (2 * l3 + 1) ** 0.5
        coupled = torch.einsum("abm,atc,btc->mtc", w3j, block(lower, l1), block(a, l2))
        result[l3**2 : (l3 + 1) ** 2] += weights[SPECIES, :, k] * coupled
    return result


@pytest.mark.parametrize("l_out", [0, 1])
@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_recursive_product_is_its_definition(correlation, l_out):
    basis, a = product(correlation, l_out), features()
    orders = [a]
    for k, weights in enumerate(basis.weights[: correlation - 1]):
        last = k == correlation - 2
        orders.append(step(orders[-1], a, weights, l_out if last else L_MAX, symmetric=k == 0))
    scaled = [v[SPECIES] for v in basis.weights[max(0, correlation - 1) :]]  # (T, C, L + 1) each
    assert len(scaled) == max(1, correlation - 1)
    expected = torch.cat(
        [
            sum(
                (scaled[k][:, :, degree] if k < len(scaled) else 1.0) * block(order, degree)
                for k, order in enumerate(orders)
            )
            @ basis.linear.weights[degree]
            for degree in range(l_out + 1)
        ]
    )
    result = basis(a, nodes())
    assert torch.allclose(result, expected, atol=1e-12)
    basis.freeze()
    assert torch.equal(basis(a, nodes()), result)


def test_the_orders_are_powers():
    """B(s A) is a polynomial of s whose degree is the correlation order, and every power has a part in it."""
    basis, a = product(3), features()
    s = torch.tensor([0.5, 1.0, 1.5, -1.0, 2.0], dtype=torch.float64)
    values = torch.stack([basis(x * a, nodes()) for x in s])  # (5, 4, T, C)
    powers = s.unsqueeze(1) ** torch.arange(1, 5)
    coefficients = torch.linalg.lstsq(powers, values.flatten(1)).solution
    sizes = coefficients.abs().amax(1)
    assert (sizes[:3] > 0.1).all()
    assert sizes[3] < 1e-10


def test_components_of_unit_variance_stay_so():
    """Averaged over weights: many channels."""
    init = Initializer(torch.Generator().manual_seed(0), torch.float64)
    basis = RecursiveProduct(l_max=3, l_out=1, correlation=3, channels=64, n_species=1, init=init)
    a = torch.randn(16, 400, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    index = torch.zeros(400, dtype=torch.int64)
    b = basis(a, NodeSpecies(index, torch.ones(400, 1, dtype=torch.float64), [400]))
    assert 0.3 < b[0].square().mean() < 10.0
    assert 0.3 < b[1:].square().mean() < 3.0
