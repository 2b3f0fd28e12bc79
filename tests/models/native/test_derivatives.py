"""First and second derivatives of every operator against finite differences; missing derivatives are errors."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from models.layers.kernels import use_kernels
from models.native import build
from models.native.geometry import GeometryKernel
from models.native.message import MessageKernel
from models.native.product import ProductKernel, terms_and_coefficients

pytestmark = pytest.mark.skipif(build.find_compiler() is None, reason="there is no C++ compiler")
N, K = 3, 2
"""Atoms and neighbours of each."""


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def message(channels=2):
    """The operator as a function of harmonics, radial inputs, radial weights and features, and arguments for it."""
    kernel = MessageKernel(
        l_max=1, l_used=1, l_source=1, l_message=1, channels=channels, n_radial=3, dtype=torch.float64
    ).prepared()
    neighbours = torch.tensor([[1, 2], [0, 3], [3, 1]])  # node 3 gives and does not receive
    inputs = [
        random(N, K, 4),
        random(N, K, 3, seed=1),
        random(3, len(kernel.couplings) * channels, seed=2),
        random(4, N + 1, channels, seed=3),
    ]
    return lambda *x: torch.cat([part.flatten() for part in kernel(*x, neighbours)]), inputs


def product():
    """The operator as a function of features and weights of monomials, and arguments for it."""
    kernel = ProductKernel(l_max=1, l_out=1, correlation=3, channels=2, dtype=torch.float64).prepared()
    n_terms = len(terms_and_coefficients(1, 1, 3)[0])
    species = torch.tensor([0, 1, 1])
    return lambda a, w: kernel(a, w, species), [random(4, N, 2), random(2, n_terms, 2, seed=1)]


@pytest.mark.parametrize("operator", [message, product])
def test_derivatives_by_every_input_are_finite_differences(operator):
    function, inputs = operator()
    assert gradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("operator", [message, product])
def test_second_derivatives_by_every_input_are_finite_differences(operator):
    """Derivatives by inputs and weights, also mixed."""
    function, inputs = operator()
    assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("which", range(4))
def test_second_derivatives_of_a_message_by_one_input_at_a_time(which):
    """The other inputs are constants, for which an operator may skip terms."""
    function, inputs = message()
    fixed = [x.detach() for x in inputs]

    def of_one(x):
        return function(*fixed[:which], x, *fixed[which + 1 :]).square()

    assert gradgradcheck(of_one, inputs[which], fast_mode=True)


@pytest.mark.parametrize("which", range(2))
def test_second_derivatives_of_a_product_by_one_input_at_a_time(which):
    function, inputs = product()
    fixed = [x.detach() for x in inputs]

    def of_one(x):
        return function(*fixed[:which], x, *fixed[which + 1 :]).square()

    assert gradgradcheck(of_one, inputs[which], fast_mode=True)


def test_derivatives_of_the_geometry_are_finite_differences():
    """Also of the backward operator by its linear arguments; its derivative by positions is an error."""
    kernel = GeometryKernel(3, 4, 6, 3.0, 1e-3, torch.float64).prepared()
    vectors = random(5, 3)
    assert gradcheck(kernel, vectors, fast_mode=True)
    cotangents = [random(5, 16, seed=1), random(5, 4, seed=2)]
    assert gradcheck(lambda *g: kernel.pull_back(vectors.detach(), *g), cotangents, fast_mode=True)
    with pytest.raises(RuntimeError, match="no second derivatives by positions"):
        gradgradcheck(kernel, vectors, fast_mode=True)


@pytest.mark.parametrize("operator", [message, product])
def test_third_derivatives_are_refused(operator):
    function, inputs = operator()

    def differentiated(value):
        return sum(g.square().sum() for g in torch.autograd.grad(value, inputs, create_graph=True))

    second = differentiated(function(*inputs).square().sum())
    with pytest.raises(RuntimeError, match="has no derivative"):
        torch.autograd.grad(differentiated(second), inputs)


def test_a_model_with_kernels_has_the_same_hessian_by_its_weights(config, tiny_model, random_cluster, graph_of):
    """Compared by a Hessian-vector product of a loss that is not linear in any weight."""
    frame = random_cluster()

    def product_with_ones(*, kernels):
        model = tiny_model(config)
        model.requires_grad_(requires_grad=True)  # a frozen model may be trained on
        if kernels:
            use_kernels(model)
        graph, positions = graph_of(model, frame)
        edges = model.edge_features(graph.vectors(graph.to_nodes(positions)), graph.columns)
        loss = model.network_energies(graph, edges).square().sum()
        weights = list(model.parameters())
        first = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
        second = torch.autograd.grad(sum(g.sum() for g in first), weights, materialize_grads=True)
        return torch.cat([part.flatten() for part in second])

    plain, ours = (product_with_ones(kernels=kernels) for kernels in (False, True))
    assert plain.abs().max() > 1.0
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9 * float(plain.abs().max()))
