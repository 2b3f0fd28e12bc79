"""The optimizer on a flat vector, against PyTorch's Adam."""

import torch

from al_engine.config import TrainingConfig
from models.training.optimizer import FlatAdam


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
