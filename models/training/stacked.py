"""Stacked training of several members on one device.

For small molecules the time of an update is the launch time of its operations. Members stacked in one network
(`models.layers.members`) need the same number of operations as a single member. Each member keeps its own batches,
loss, clipping, optimizer state, average, validation and early stop. Its result equals that of separate training to
rounding.
"""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from al_engine.structures.frames import Frame, IntArray, LabelledFrame
from models.ms_mace import MSMACE
from models.training.dataset import TrainingSet
from models.training.optimizer import stack_optimizers, unstack_optimizer
from models.training.trainer import Trainer, virial_errors

TRAINING_ATOM_BYTES = 8 * 2**20
"""Memory of a training update in plain torch, in bytes per atom, for 64 channels, l = 3, cut-offs of 5 and 10 Å, and
the density of a liquid. (A cluster takes 3 MiB per atom.)"""


def members_at_once(device: torch.device, *, atoms: int, n_members: int) -> int:
    """Number of members that are trained together: on a CPU all, on a GPU the largest number that fits.

    Members fit into half of the GPU's total memory. The free memory does not count, so that repeated runs choose the
    same number.

    Args:
        device: Where training runs.
        atoms: Number of atoms in a member's batch.
        n_members: Number of members.
    """
    if device.type != "cuda":
        return n_members
    room = torch.cuda.get_device_properties(device).total_memory // 2
    return min(n_members, max(1, room // (TRAINING_ATOM_BYTES * atoms)))


def isolated_atom_frames(elements: Sequence[int]) -> list[LabelledFrame]:
    """A frame of an isolated atom for each element, for the end of a set that `pad_to_equal_species_counts` pads."""
    return [
        LabelledFrame(Frame(numbers=np.array([number]), positions=np.zeros((1, 3))), 0.0, np.zeros((1, 3)))
        for number in elements
    ]


def pad_to_equal_species_counts(data: TrainingSet, chosen: Sequence[IntArray]) -> IntArray:
    """Pad each member's batch with isolated atoms, so that all members have equal numbers of nodes of each species.

    Args:
        data: A set that ends with `isolated_atom_frames`.
        chosen: Indices of each member's frames in the set (`TrainingSet.batch`), at least one for each member.

    Returns:
        The indices of the frames of all members, then those of the isolated atoms.
    """
    counts = np.stack([data.species_counts[frames % len(data)].sum(0) for frames in chosen])  # (M, S)
    isolated = len(data) + np.arange(-counts.shape[1], 0)  # the last frames of the set, one for each species
    first_frames = [frames[0] // len(data) * len(data) for frames in chosen]  # index of each member's frame 0
    added = [
        np.repeat(isolated + first, missing)
        for first, missing in zip(first_frames, counts.max(0) - counts, strict=True)
    ]
    return np.concatenate([*chosen, *added])


class StackedTrainer:
    """Updates several members together, on copies of their states; `unstack` copies the states back."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        """Stack trainers of the same architecture in plain torch, at the same update of the same schedule."""
        self.trainers, self.config = trainers, trainers[0].config
        self.optimizer = stack_optimizers([trainer.optimizer for trainer in trainers])
        weights = self.optimizer.weights.detach()
        self.network = stacked_network([trainer.network for trainer in trainers], weights)
        self.parameters = list(self.network.parameters())
        scales = [trainer.network.constants.scale for trainer in trainers]
        self.squared_scales = torch.tensor(scales, dtype=torch.float64, device=weights.device).square()

    def update(self, data: TrainingSet, chosen: Sequence[IntArray]) -> Tensor:
        """Do one optimizer step of every member on its own frames.

        Args:
            data: A set that ends with `isolated_atom_frames`.
            chosen: Indices of each member's frames in the set, the same number for all members.

        Returns:
            Losses of the members in eV² (`Trainer.loss`), shape (M,), without synchronising with the device.
        """
        batch = data.batch(pad_to_equal_species_counts(data, chosen))
        energies, forces, virials = batch.predict_with_virials(self.network, differentiable=True)
        n_members, n_frames = len(chosen), sum(map(len, chosen))
        per_atom = ((energies - batch.energies) * batch.inverse_sizes).square()
        energy_errors = batch.weighted_by_frame(per_atom)[:n_frames].view(n_members, -1)
        # isolated atoms add nothing: the forces on them are zero, and so are their targets
        squared = batch.weighted_by_node((forces - batch.forces).square()).view(n_members, -1).sum(1)
        n_components = 3.0 * np.reshape(batch.sizes[:n_frames], (n_members, -1)).sum(1)
        energy_terms = self.config.energy_weight * energy_errors.mean(1)
        force_terms = self.config.force_weight * squared / torch.from_numpy(n_components).to(squared)
        terms = energy_terms + force_terms
        if virials is not None:
            errors = batch.weighted_by_frame(virial_errors(batch, virials))[:n_frames].view(n_members, -1)
            terms = terms + self.config.stress_weight * errors.mean(1)
        losses = self.squared_scales * terms
        gradients = torch.autograd.grad(losses.sum(), self.parameters, materialize_grads=True)
        self.optimizer.step(torch.cat([part.flatten(1) for part in gradients], dim=1))
        return losses.detach()

    def unstack(self) -> None:
        """Copy the present states back to the members' trainers."""
        unstack_optimizer(self.optimizer, [trainer.optimizer for trainer in self.trainers])


def stacked_network(networks: Sequence[MSMACE], weights: Tensor) -> MSMACE:
    """A network of M members whose parameters are views of stacked weights (M, n), in the first network's order."""
    network = deepcopy(networks[0])
    parameters = list(network.parameters())
    parts = weights.split([parameter.numel() for parameter in parameters], dim=1)
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.unflatten(1, parameter.shape)
    return network
