"""The optimizers on a flat vector, against PyTorch's Adam and Muon."""

import torch

from al_engine.config import TrainingConfig
from models.training.muon import FlatMuon, orthogonalized, weight_matrices
from models.training.optimizer import FlatAdam, stack_optimizers


def test_updates_are_those_of_adam_bit_for_bit():
    """AMSGrad with the same clipped gradients and learning rates; some gradients are clipped, some are not."""
    config = TrainingConfig(gradient_clip=30.0)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(500, generator=generator)
    ours = FlatAdam(start, config, peak=0.01, total=60)
    theirs = torch.nn.Parameter(start.clone())
    adam = torch.optim.Adam([theirs], amsgrad=True, fused=True)
    for update in range(60):
        gradient = torch.randn(500, generator=generator) * (0.5 + update % 7)
        theirs.grad = gradient * (30.0 / torch.linalg.vector_norm(gradient)).clamp(max=1.0)
        adam.param_groups[0]["lr"] = ours.learning_rate(update)
        adam.step()
        ours.step(gradient)
    assert torch.equal(ours.weights, theirs)
    state = adam.state_dict()["state"][0]
    assert ours.moments.keys() == state.keys()
    assert all(torch.equal(ours.moments[name], values) for name, values in state.items())


def network_of(matrices):
    """A module whose parameters are matrices, a vector between them, and a product's weights of three dimensions."""
    module = torch.nn.Module()
    for number, values in enumerate(matrices):
        module.register_parameter(f"matrix{number}", torch.nn.Parameter(values.clone()))
        module.register_parameter(f"vector{number}", torch.nn.Parameter(torch.ones(3)))
    module.register_parameter("product", torch.nn.Parameter(torch.ones(2, 3, 4)))
    module.register_parameter("embedding", torch.nn.Parameter(torch.ones(3, 4)))
    return module


def flat(parameters):
    return torch.cat([each.flatten() for each in parameters])


def test_matrices_are_moved_as_pytorchs_muon_moves_them_and_the_rest_as_adam():
    """Wide, tall and square matrices in one vector. PyTorch orthogonalises in bfloat16, with three digits."""
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(shape, generator=generator) for shape in ((8, 32), (48, 16), (16, 16), (16, 64))]
    network = network_of(matrices)
    config = TrainingConfig(gradient_clip=1e9)
    ours = FlatMuon(flat(network.parameters()), config, peak=0.01, total=30, groups=weight_matrices(network))
    theirs = [torch.nn.Parameter(values.clone()) for values in matrices]
    muon = torch.optim.Muon(theirs, momentum=0.95, nesterov=True, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    others = {name: p for name, p in network.named_parameters() if not name.startswith("matrix")}
    adam = torch.optim.Adam(others.values(), betas=(0.95, 0.99))
    position, where = 0, {}
    for name, parameter in network.named_parameters():
        where[name] = slice(position, position + parameter.numel())
        position += parameter.numel()
    for update in range(30):
        gradient = torch.randn(position, generator=generator) + 0.5
        for number, values in enumerate(theirs):
            values.grad = gradient[where[f"matrix{number}"]].view(values.shape)
        for name, values in others.items():
            values.grad = gradient[where[name]].view(values.shape)
        muon.param_groups[0]["lr"] = adam.param_groups[0]["lr"] = ours.learning_rate(update)
        muon.step()
        adam.step()
        ours.step(gradient)
    for number, (values, start) in enumerate(zip(theirs, matrices, strict=True)):
        moved = ours.weights.detach()[where[f"matrix{number}"]].view(values.shape) - start
        torch.testing.assert_close(moved, values.detach() - start, rtol=0.03, atol=0.03 * float(moved.abs().max()))
    for name, values in others.items():
        torch.testing.assert_close(ours.weights.detach()[where[name]], values.detach().flatten(), rtol=1e-5, atol=1e-6)


def test_singular_values_come_near_one_and_singular_vectors_stay():
    generator = torch.Generator().manual_seed(1)
    left, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(40, 16, generator=generator))
    values = torch.logspace(-1.8, 0, 16)
    found = left.mT @ orthogonalized(left * values @ right.mT) @ right
    assert torch.linalg.matrix_norm(found - found.diag().diag()) < 1e-4
    assert 0.6 < found.diag().min() < found.diag().max() < 1.25
    assert torch.equal(orthogonalized(torch.zeros(2, 4, 8)), torch.zeros(2, 4, 8))


def test_members_side_by_side_are_moved_as_each_alone():
    generator = torch.Generator().manual_seed(2)
    network = network_of([torch.randn(8, 32, generator=generator), torch.randn(24, 16, generator=generator)])
    groups, config = weight_matrices(network), TrainingConfig(gradient_clip=1.0)
    weights = flat(network.parameters())
    alone = [FlatMuon(k * weights, config, peak=0.01, total=10, groups=groups) for k in (1.0, 2.0)]
    stacked = stack_optimizers(alone)
    gradients = torch.randn(10, 2, len(weights), generator=generator)
    for gradient in gradients:
        stacked.step(gradient)
        for optimizer, own in zip(alone, gradient, strict=True):
            optimizer.step(own)
    for optimizer, values in zip(alone, stacked.weights, strict=True):
        torch.testing.assert_close(optimizer.weights.detach(), values.detach(), rtol=1e-5, atol=1e-6)
