"""Replays give the function's own results bit for bit, and the function is called where they cannot."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from models.inference.committee import EVALUATIONS_BEFORE_REPLAY, REPLAY_PAYS_AFTER, Committee
from models.native.kernel import Kernel
from models.tracing.bundles import layout_of, tensors_of, with_tensors
from models.tracing.replay import COMPARED, Replay


def counted(function):
    def call(*tensors):
        call.times += 1
        return function(*tensors)

    call.times = 0
    return call


def second_derivative(x):
    x = x.detach().requires_grad_()
    (first,) = torch.autograd.grad(x.sin().pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    return first.detach(), second


def test_replayed_derivatives_equal_those_of_autograd_bit_for_bit():
    function = counted(second_derivative)
    replay, generator = Replay(function, after=2), torch.Generator().manual_seed(0)
    for _ in range(20):
        x = torch.randn(7, generator=generator)
        for found, expected in zip(replay(x), second_derivative(x), strict=True):
            assert torch.equal(found, expected)
    assert replay.active
    assert function.times == 2 + 1 + COMPARED  # before the trace, while it is traced, and in comparison


def test_a_changed_weight_is_seen():
    weight = torch.ones(3)
    replay = Replay(lambda x: (x * weight,), after=0)
    for factor in range(6):
        weight.fill_(float(factor))
        assert torch.equal(replay(torch.ones(3))[0], torch.full((3,), float(factor)))
    assert replay.active


def test_other_shapes_go_to_the_function():
    replay = Replay(lambda x: (x.sum(0),), after=0)
    for n in (3, 3, 3, 3, 5, 3):
        assert replay(torch.ones(n, 2))[0].tolist() == [n, n]
    assert replay.active


def test_nan_and_infinity_are_replayed():
    replay = Replay(lambda x: (torch.where(x > 0, x / 0.0, x + float("nan")), x.clamp(max=float("inf"))), after=0)
    for _ in range(5):
        found, _ = replay(torch.tensor([1.0, -1.0]))
        assert found[0].isinf()
        assert found[1].isnan()
    assert replay.active


def test_a_function_that_looks_at_its_values_is_not_replayed():
    replay = Replay(lambda x: (x if x.sum() > 0 else -x,), after=0)
    for value in (1.0, -1.0, 2.0, -2.0):
        assert replay(torch.tensor([value]))[0].item() == abs(value)
    assert replay.failed


def test_a_function_with_a_memory_is_not_replayed():
    results = iter(range(100))
    replay = Replay(lambda x: (x + next(results),), after=0)
    found = [replay(torch.zeros(()))[0].item() for _ in range(4)]
    assert replay.failed
    assert found == sorted(set(found))  # the trace was called for the first result, and is never used


@dataclass(frozen=True)
class Pair:
    first: Tensor
    rest: list[Tensor | None]
    number: int


def test_a_bundle_is_made_of_its_tensors_again():
    pair = Pair(torch.ones(2, requires_grad=True), [torch.zeros(3), None], 4)
    changed = with_tensors(pair, [2 * tensor for tensor in tensors_of(pair)])
    assert (changed.first.tolist(), changed.first.requires_grad, changed.first.is_leaf) == ([2.0, 2.0], True, True)
    assert (changed.rest[0].tolist(), changed.rest[1], changed.number) == ([0.0] * 3, None, 4)
    assert layout_of(changed) == layout_of(pair)
    for other in (
        Pair(torch.ones(3, requires_grad=True), pair.rest, 4),
        Pair(torch.ones(2), pair.rest, 4),
        Pair(pair.first, [torch.zeros(3), torch.zeros(3)], 4),
        Pair(pair.first, pair.rest, 5),
    ):
        assert layout_of(other) != layout_of(pair)


def test_a_bundle_of_something_unknown_has_no_layout():
    with pytest.raises(TypeError, match="object"):
        layout_of([object()])


@pytest.mark.parametrize("kind", ["message", "mace", "zbl", "nequip", "ms-nequip-energy"])
def test_a_replayed_committee_gives_the_same_forces(kind, tiny_model, tiny_config, random_cluster):
    models = [tiny_model(tiny_config(kind), seed=seed) for seed in range(2)]
    frames = [random_cluster(6, seed=1), random_cluster(8, seed=2)]
    positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames]))
    bound = Committee(models, evaluations=REPLAY_PAYS_AFTER).bind(frames)
    eager = Committee(models).bind(frames)
    eager.energy_and_forces(positions, 1)  # finds the neighbours, whose order decides the rounding
    bound.energy_and_forces(positions, 1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(EVALUATIONS_BEFORE_REPLAY + COMPARED + 2):
        moved = positions + 0.05 * torch.randn(positions.shape, generator=generator, dtype=torch.float64)
        energies, forces = bound.energy_and_forces(moved, 1)
    for found, expected in zip((energies, forces), eager.energy_and_forces(moved, 1), strict=True):
        assert torch.equal(found, expected)
    assert bound.replaying(1)
    assert not bound.replaying(0)


def test_an_interrupt_within_an_operator_is_an_interrupt(tiny_model, tiny_config, random_cluster, monkeypatch):
    bound = Committee([tiny_model(tiny_config("mace"))], evaluations=REPLAY_PAYS_AFTER).bind([random_cluster(6)])
    positions = torch.from_numpy(random_cluster(6).positions.copy())
    for _ in range(EVALUATIONS_BEFORE_REPLAY + COMPARED + 1):
        bound.energy_and_forces(positions, 0)
    assert bound.replaying(0)

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Kernel, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bound.energy_and_forces(positions, 0)
