"""A frozen model keeps values that depend only on weights; it must notice when weights change, move or are trained."""

from copy import deepcopy

import pytest
import torch

from models.layers.kernels import use_kernels
from models.layers.operators import is_plain
from models.ms_mace import MSMACE
from models.native import build

KERNELS = [
    False,
    pytest.param(True, marks=pytest.mark.skipif(build.find_compiler() is None, reason="there is no C++ compiler")),
]


@pytest.fixture(params=KERNELS)
def kernels(request):
    return request.param


def frozen(config, tiny_model, *, seed, kernels, warm=None):
    """A frozen model; with a frame it is evaluated once, so that the values it keeps are computed."""
    model = tiny_model(config, seed=seed)
    if kernels:
        use_kernels(model)
    if warm is not None:
        warm(model)
    return model


def test_reloaded_weights_count(config, kernels, tiny_model, random_cluster, evaluate):
    """Weights are copied into those of the frozen model, or replace them."""
    frame = random_cluster()
    expected, forces = evaluate(frozen(config, tiny_model, seed=5, kernels=kernels), frame)
    for assign in (False, True):
        model = frozen(config, tiny_model, seed=3, kernels=kernels, warm=lambda model: evaluate(model, frame))
        model.load_state_dict(deepcopy(tiny_model(config, seed=5).state_dict()), assign=assign)
        for _ in range(2):
            energy, found = evaluate(model, frame)
            assert energy == expected
            assert (found == forces).all()


def test_weights_changed_in_place_count(config, kernels, tiny_model, random_cluster, evaluate):
    frame = random_cluster()
    model = frozen(config, tiny_model, seed=3, kernels=kernels, warm=lambda model: evaluate(model, frame))
    never_frozen = MSMACE(config, model.constants, seed=3)
    before = evaluate(model, frame)[0]
    for changed in (model, never_frozen):
        with torch.no_grad():
            for weight in changed.parameters():
                weight.mul_(0.9)
    energy, forces = evaluate(model, frame)
    expected, expected_forces = evaluate(never_frozen, frame)
    assert energy == pytest.approx(expected, rel=1e-12)
    assert abs(energy - before) > 1e-6
    assert abs(forces - expected_forces).max() < 1e-9 * abs(expected_forces).max()


def test_gradients_by_the_weights_of_a_frozen_model_are_not_lost(config, kernels, tiny_model, random_cluster, graph_of):
    """Gradients by all weights: also by folded weights and those of atoms without neighbours."""
    kept = frozen(config, tiny_model, seed=3, kernels=kernels)
    graph, positions = graph_of(kept, random_cluster())
    edges = kept.edge_features(graph.vectors(graph.to_nodes(positions)), graph.columns)
    kept.network_energies(graph, edges)
    fresh = MSMACE(config, kept.constants, seed=3)
    results = []
    for model in (kept.requires_grad_(), fresh):
        energy = model.network_energies(graph, edges).sum()
        results.append(torch.autograd.grad(energy, list(model.parameters()), materialize_grads=True))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_model_moved_to_another_precision_is_as_if_made_in_it(config, kernels, tiny_model, random_cluster, evaluate):
    """Constants are computed in the new precision, not rounded from the old; E0s and repulsion stay in float64."""
    frame = random_cluster()
    model = frozen(config, tiny_model, seed=3, kernels=kernels, warm=lambda model: evaluate(model, frame))
    double = evaluate(tiny_model(config), frame)
    single = tiny_model(config.model_copy(update={"dtype": "float32"}))
    assert model.to(torch.float32).config.dtype == "float32"
    assert model.dtype == torch.float32
    assert evaluate(model, frame)[0] == evaluate(single, frame)[0]
    assert (evaluate(model, frame)[1] == evaluate(single, frame)[1]).all()
    model.to(torch.float64).load_state_dict(tiny_model(config).state_dict())
    assert evaluate(model, frame)[0] == double[0]
    assert (evaluate(model, frame)[1] == double[1]).all()


@pytest.mark.skipif(build.find_compiler() is None, reason="there is no C++ compiler")
def test_a_model_can_use_kernels_again_in_another_precision(tiny_config, tiny_model, random_cluster, evaluate):
    model, frame = tiny_model(tiny_config()), random_cluster()
    use_kernels(model)
    model.to(torch.float32)
    plain = evaluate(model, frame)[1]
    assert is_plain(model)
    use_kernels(model)
    assert abs(evaluate(model, frame)[1] - plain).max() < 1e-4 * abs(plain).max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_precision_that_no_network_has_is_refused(tiny_config, tiny_model, random_cluster, evaluate, dtype):
    model, frame = tiny_model(tiny_config()), random_cluster()
    expected = evaluate(model, frame)[0]
    with pytest.raises(TypeError, match="float32 or float64"):
        model.to(dtype)
    assert evaluate(model, frame)[0] == expected  # as if nothing had happened


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_frozen_model_moves_to_a_gpu_and_back(config, kernels, tiny_model, random_cluster, evaluate):
    frame = random_cluster()
    model = frozen(config, tiny_model, seed=3, kernels=kernels, warm=lambda model: evaluate(model, frame))
    expected = evaluate(model, frame)
    assert all(tensor.is_cuda for tensor in model.cuda().state_dict().values())
    energy, forces = evaluate(model.cpu(), frame)
    assert energy == pytest.approx(expected[0], rel=1e-12)
    assert abs(forces - expected[1]).max() < 1e-10


def test_a_copy_of_a_frozen_model_has_weights_of_its_own(tiny_config, tiny_model, random_cluster, evaluate):
    model, frame = tiny_model(tiny_config()), random_cluster()
    expected = evaluate(model, frame)[0]
    copy = deepcopy(model)
    with torch.no_grad():
        next(copy.parameters()).mul_(2.0)
    assert evaluate(model, frame)[0] == expected
    assert evaluate(copy, frame)[0] != expected
