"""Members of a committee trained side by side on one device: one update of all costs little more than one of one.

Where a small molecule leaves a device waiting for the next operation, four members in one network
(`models.layers.members`) are as many operations as one. Each member keeps its own batches, loss, clipping, optimizer
state, average, validation and early stop, so it comes out as if it had been trained alone, to rounding.
"""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from al_engine.structures.frames import Frame, IntArray, LabelledFrame
from models.ms_mace import MSMACE
from models.training.dataset import TrainingSet
from models.training.optimizer import hand_back, side_by_side
from models.training.trainer import Trainer

TRAINING_ATOM_BYTES = 8 * 2**20
"""Of an atom in an update on plain paths: 64 channels, l 3, cut-offs of 5 and 10 Å, in a liquid; in a cluster 3 MiB."""


def members_at_once(device: torch.device, *, atoms: int, n_members: int) -> int:
    """How many members with batches of so many atoms are trained side by side: all, or on a GPU what half of it holds.

    Depends on the memory a GPU has, not on what is free, so that a run is always the same.
    """
    if device.type != "cuda":
        return n_members
    room = torch.cuda.get_device_properties(device).total_memory // 2
    return min(n_members, max(1, room // (TRAINING_ATOM_BYTES * atoms)))


def single_atoms(elements: Sequence[int]) -> list[LabelledFrame]:
    """One atom of each element alone, for the end of a set that `levelled` draws from."""
    return [
        LabelledFrame(Frame(numbers=np.array([number]), positions=np.zeros((1, 3))), 0.0, np.zeros((1, 3)))
        for number in elements
    ]


def levelled(data: TrainingSet, chosen: Sequence[IntArray]) -> IntArray:
    """Frames of several members, then single atoms that bring all members to as many nodes of each species.

    Args:
        data: A set that ends with `single_atoms`.
        chosen: Frames of each member.
    """
    counts = np.stack([data.species_counts[frames % len(data)].sum(0) for frames in chosen])  # (M, S)
    atoms = len(data) + np.arange(-counts.shape[1], 0)
    added = [
        np.repeat(atoms + frames[0] // len(data) * len(data), missing)
        for frames, missing in zip(chosen, counts.max(0) - counts, strict=True)
    ]
    return np.concatenate([*chosen, *added])


class StackedTrainer:
    """Several members' trainers for some updates: what they hold is copied, and `hand_back` copies it back."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        """Members of one architecture, on plain paths, after as many updates of one schedule."""
        self.trainers, self.config = trainers, trainers[0].config
        self.descent = side_by_side([trainer.descent for trainer in trainers])
        weights = self.descent.weights.detach()
        self.network = stacked_network([trainer.network for trainer in trainers], weights)
        self.parameters = list(self.network.parameters())
        scales = [trainer.network.constants.scale for trainer in trainers]
        self.squared_scales = torch.tensor(scales, dtype=torch.float64, device=weights.device).square()

    def update(self, data: TrainingSet, chosen: Sequence[IntArray]) -> Tensor:
        """One step of every member on frames of its own; returns their losses (M,) without waiting for them."""
        batch = data.batch(levelled(data, chosen))
        energies, forces = batch.predict(self.network, differentiable=True)
        n_members, n_frames = len(chosen), sum(map(len, chosen))
        per_atom = ((energies - batch.energies) * batch.inverse_sizes)[:n_frames].view(n_members, -1)
        squared = (forces - batch.forces).square().view(n_members, -1).sum(1)  # single atoms have and want no forces
        components = 3.0 * np.reshape(batch.sizes[:n_frames], (n_members, -1)).sum(1)
        energy_terms = self.config.energy_weight * per_atom.square().mean(1)
        force_terms = self.config.force_weight * squared / torch.from_numpy(components).to(squared)
        losses = self.squared_scales * (energy_terms + force_terms)
        gradients = torch.autograd.grad(losses.sum(), self.parameters, materialize_grads=True)
        self.descent.step(torch.cat([part.flatten(1) for part in gradients], dim=1))
        return losses.detach()

    def hand_back(self) -> None:
        """Let every member go on from where it is now."""
        hand_back(self.descent, [trainer.descent for trainer in self.trainers])


def stacked_network(networks: Sequence[MSMACE], weights: Tensor) -> MSMACE:
    """A network of M members whose parameters are views of their weights (M, n), in the order of the first's."""
    network = deepcopy(networks[0])
    parameters = list(network.parameters())
    parts = weights.split([parameter.numel() for parameter in parameters], dim=1)
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.unflatten(1, parameter.shape)
    return network
