"""Training of committee members, one by one or stacked: early stop, and checkpoints that continue bit for bit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from al_engine.config import ModelConfig, TrainingConfig
from al_engine.errors import InputError
from al_engine.protocols import Progress, silent
from al_engine.structures.frames import FloatArray, IntArray, LabelledFrame
from models.inference.acceleration import accelerate
from models.layers.message import PathMessage
from models.ms_mace import MSMACE, ModelConstants
from models.storage.weights import TrainedMember
from models.training.checkpoint import read_checkpoint, write_checkpoint
from models.training.constants import constants_from_data, energies_per_element, with_isolated_atoms
from models.training.dataset import TrainingBatch, TrainingSet, chunks
from models.training.stacked import StackedTrainer, isolated_atom_frames, members_at_once
from models.training.start import refuse_other_architecture
from models.training.trainer import FRAMES_PER_VALIDATION_BATCH, DivergedError, Trainer

PROGRESS_INTERVAL = 20
MOST_HALVINGS = 20
"""Largest number of times that `_scale_down_initial_forces` halves the radial functions."""
LOWEST_PEAK_SHARE = 1 / 8
"""A member that diverges restarts at half its learning rate, down to this share of the configured rate."""


@dataclass(frozen=True, slots=True, eq=False)
class MemberTask:
    """The inputs of training that differ between members.

    Attributes:
        seed: Seed of initial weights, held-out frames and batches.
        start: Member whose weights and constants (scale, neighbour counts) training starts from, with a new optimizer
            and the learning rate times `warm_learning_rate_factor`. Its E0s or its cohesion, which may be of another
            level of theory, are fitted to the frames first. It may know more elements than the frames have.
        checkpoint: File to continue from, written at every validation.
        key: Identifies the inputs; a checkpoint with another key is ignored.
    """

    seed: int
    start: TrainedMember | None = None
    checkpoint: Path | None = None
    key: str = ""


def train_member(
    *,
    frames: Sequence[LabelledFrame],
    model: ModelConfig,
    training: TrainingConfig,
    seed: int,
    updates: int,
    device: torch.device | str = "cpu",
    kernels: bool = True,
    start: TrainedMember | None = None,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Progress = silent,
) -> TrainedMember:
    """Train one member by `train_members`, with arguments as documented there and in `MemberTask`.

    On a CPU the result is a function of the arguments, bit for bit on one machine at one number of threads, whether or
    not the run was interrupted and continued from its checkpoint. On a GPU sums have no fixed order.
    """
    task = MemberTask(seed=seed, start=start, checkpoint=checkpoint, key=key)
    (member,) = train_members(
        frames=frames,
        model=model,
        training=training,
        tasks=[task],
        updates=updates,
        device=device,
        kernels=kernels,
        progress=progress,
    )
    return member


def train_members(
    *,
    frames: Sequence[LabelledFrame],
    model: ModelConfig,
    training: TrainingConfig,
    tasks: Sequence[MemberTask],
    updates: int,
    device: torch.device | str = "cpu",
    kernels: bool = True,
    isolated_atoms: Mapping[int, float] | None = None,
    progress: Progress = silent,
) -> list[TrainedMember]:
    """Train members on one device; several members are stacked.

    Each member's result equals that of separate training to rounding. On a GPU four stacked members of small molecules
    cost about as much as a single member. Members that do not fit into the memory of the GPU are trained afterwards. On
    a CPU it is faster to train each member in a process of its own.

    Args:
        frames: The training set; each member holds out a share of it, drawn by its seed, for validation.
        model: Architecture.
        training: Loss weights, optimizer, early stop.
        tasks: The members.
        updates: Gradient updates of each member.
        device: Where to train.
        kernels: On a CPU, use the C++ kernels for a single member if they can be compiled.
        isolated_atoms: Energy of an isolated atom of each element in eV, by atomic number, which the members then
            reproduce; None: the E0s are fitted to the frames.
        progress: Called with the number of updates done.

    Returns:
        The members with the averaged weights of their best validations.

    Raises:
        InputError: If there are fewer than two frames, a member to start from has another architecture, or training
            diverges at every learning rate down to an eighth of the configured rate.
    """
    device = torch.device(device)
    if not training.stress_weight:
        frames = [item if item.stress is None else replace(item, stress=None) for item in frames]
    atoms = training.batch_size * max((len(item) for item in frames), default=1)
    at_once = members_at_once(device, atoms=atoms, n_members=len(tasks))
    fresh = cache(partial(constants_from_data, frames, model, isolated_atoms=isolated_atoms))
    adapted = partial(with_isolated_atoms, frames=frames, isolated_atoms=isolated_atoms)
    members = []
    for first in range(0, len(tasks), at_once):
        group = tasks[first : first + at_once]
        networks = [_initial_model(task, model, fresh, adapted).to(device) for task in group]
        if kernels and len(group) == 1:
            accelerate(networks[0])
        data = _training_set(frames, networks, device=device)
        runs = [
            _Run(task, network, frames=frames, data=data, member=m, training=training, updates=updates)
            for m, (task, network) in enumerate(zip(group, networks, strict=True))
        ]
        while unfinished := [run for run in runs if not run.finished]:
            # after a resume members may be at different updates: the least advanced are trained first
            last = min(run.schedule_position for run in unfinished)
            _advance([run for run in unfinished if run.schedule_position == last], data, progress)
        members += [run.result() for run in runs]
    return members


def _training_set(frames: Sequence[LabelledFrame], networks: Sequence[MSMACE], *, device: torch.device) -> TrainingSet:
    """The frames with every network's targets; for several networks, followed by isolated atoms for padding."""
    elements = {network.constants.elements for network in networks}
    if len(elements) > 1:
        raise InputError(
            "members that are trained together must know the same elements; start all of them from models with the "
            "same elements"
        )
    added = isolated_atom_frames(*elements) if len(networks) > 1 else []
    return TrainingSet([*frames, *added], *networks, device=device)


class _Run:
    """The training of one member: its data, and the steps between updates."""

    def __init__(
        self,
        task: MemberTask,
        network: MSMACE,
        *,
        frames: Sequence[LabelledFrame],
        data: TrainingSet,
        member: int,
        training: TrainingConfig,
        updates: int,
    ) -> None:
        self.task, self.network, self.training, self.updates = task, network, training, updates
        self.frames, self.data, self.member = frames, data, member
        held_out, kept = _split(len(frames), training.validation_share, seed=task.seed)
        first_target = member * len(data)  # of this member
        self.held_out, self.kept = held_out + first_target, kept + first_target
        self.peak = training.learning_rate
        if task.start is None:
            _scale_down_initial_forces(network, data.batch(self.kept[: training.batch_size]))
        else:
            correction = self._fit_offsets()
            if network.cohesion is None:
                data.shift_targets(correction, member=member)
            else:
                data.renew_targets(member=member)
            self.peak *= training.warm_learning_rate_factor
        self.initial = parameters_to_vector(network.parameters()).detach().clone()
        self.trainer = Trainer(network, training, peak=self.peak, updates=updates)
        if task.checkpoint is not None:
            weights = self.trainer.optimizer.weights
            saved = read_checkpoint(task.checkpoint, key=task.key, n_weights=weights.numel(), device=weights.device)
            if saved is not None:
                self.trainer.restore(saved)

    @property
    def finished(self) -> bool:
        """Whether all updates are done, or validation has not improved for too long."""
        return self.trainer.optimizer.updates >= self.updates or self.trainer.stale >= self.training.patience

    @property
    def schedule_position(self) -> tuple[int, float]:
        """Updates done and peak learning rate: members with equal values can be stacked."""
        return self.trainer.optimizer.updates, self.trainer.optimizer.peak

    def batch(self, update: int) -> IntArray:
        """Frames of an update, as indices of `TrainingSet.batch`."""
        return self.kept[_batch_indices(len(self.kept), self.training.batch_size, update, seed=self.task.seed)]

    def validate(self, *, train_loss: float) -> str:
        """Validate and write the checkpoint; returns the force error in meV/Å as text."""
        try:
            errors = self.trainer.validate(self.data, self.held_out, train_loss=train_loss)
            message = f"{1000 * errors.force_mae:.0f}"
        except DivergedError:  # restart from the initial weights: a campaign survives a member that diverges
            peak = 0.5 * self.trainer.optimizer.peak
            if peak < LOWEST_PEAK_SHARE * self.peak:
                raise
            vector_to_parameters(self.initial.clone(), list(self.network.parameters()))
            self.trainer = Trainer(self.network, self.training, peak=peak, updates=self.updates)
            message = f"none (diverged; again at half the learning rate, {peak:.2g})"
        if self.task.checkpoint is not None:
            write_checkpoint(self.task.checkpoint, self.trainer.snapshot(), key=self.task.key)
        return message

    def result(self) -> TrainedMember:
        """The member with its best weights."""
        self.trainer.optimizer.load(self.trainer.best)
        self._fit_offsets()
        return TrainedMember(model=self.network, history=self.trainer.history)

    def _fit_offsets(self) -> FloatArray:
        """Fit the energies of bonded atoms to the energy residuals by least squares; returns the changes in eV, (S,).

        These are the E0s, or the cohesion if the E0s are labels of isolated atoms.

        Forces do not constrain an additive constant and dominate the loss, so training hardly finds the energy offset.
        """
        network = self.network
        residuals: list[Tensor] = []
        with torch.no_grad():
            for chosen in chunks(self.kept, FRAMES_PER_VALIDATION_BATCH * self.training.batch_size):
                batch = self.data.batch(chosen)
                residuals.append(batch.energies - network.network_energies(batch.graph, batch.geometry.edges))
        missing = network.constants.scale * torch.cat(residuals).cpu().numpy()
        kept = [self.frames[k] for k in self.kept % len(self.data)]
        correction = energies_per_element(kept, missing, network.constants.elements)
        network.add_to_offsets(correction.tolist())
        return correction


def _advance(runs: Sequence[_Run], data: TrainingSet, progress: Progress) -> None:
    """Train members at the same schedule position until their next validation, and validate them."""
    first = runs[0]
    update, last = first.trainer.optimizer.updates, first.updates
    interval = first.training.validation_interval
    end = min(last, (update // interval + 1) * interval)
    together = StackedTrainer([run.trainer for run in runs]) if len(runs) > 1 else None
    losses: list[Tensor] = []
    for done in range(update, end):
        if together is None:
            losses.append(first.trainer.update(data.batch(first.batch(done))))
        else:
            losses.append(together.update(data, [run.batch(done) for run in runs]))
        if (done + 1) % PROGRESS_INTERVAL == 0 and done + 1 < end:
            progress(done + 1, last)
    if together is not None:
        together.unstack()
    mean_losses = torch.stack(losses).mean(0).reshape(-1).tolist()
    note = ", ".join(run.validate(train_loss=loss) for run, loss in zip(runs, mean_losses, strict=True))
    progress(end, last, f"force error {note} meV/Å")


def _initial_model(
    task: MemberTask,
    config: ModelConfig,
    fresh: Callable[[], ModelConstants],
    adapted: Callable[[ModelConstants], ModelConstants],
) -> MSMACE:
    """The network before the first update: random, or that of the start with adapted constants."""
    if task.start is None:
        return MSMACE(config, fresh(), seed=task.seed)
    refuse_other_architecture(task.start.model.config, config, where="the member to start from")
    network = MSMACE(config, adapted(task.start.model.constants), seed=task.seed)
    network.load_state_dict(task.start.model.state_dict())
    return network


def _scale_down_initial_forces(network: MSMACE, batch: TrainingBatch) -> None:
    """Halve the radial functions of a random network until its RMS force does not exceed that of the labels.

    A data-dependent initialisation as in layer-sequential unit variance (Mishkin and Matas, arXiv:1511.06422). The size
    of products of up to three messages over several layers cannot be predicted from the weights: without this step one
    random network in ten had forces a million times those of the labels, and did not recover.
    """
    radials = [module.radial.weights[-1] for module in network.modules() if isinstance(module, PathMessage)]
    for _ in range(MOST_HALVINGS):
        _, forces = batch.predict(network, differentiable=False)
        mean_square = float(forces.detach().square().mean())
        if mean_square <= float(batch.forces.square().mean()):  # False for NaN: the halving continues
            return
        with torch.no_grad():
            for weights in radials:
                weights.mul_(0.5)


def _split(n_frames: int, share: float, *, seed: int) -> tuple[IntArray, IntArray]:
    """Indices of the frames held out (at least one) and of the others (at least one)."""
    if n_frames < 2:  # noqa: PLR2004  # a frame to train on and a frame to validate on
        raise InputError(f"training needs at least 2 frames, got {n_frames}; label more frames")
    shuffled = np.random.default_rng([seed, 0]).permutation(n_frames)
    n_held_out = min(max(1, round(share * n_frames)), n_frames - 1)
    return np.sort(shuffled[:n_held_out]), np.sort(shuffled[n_held_out:])


def _batch_indices(n_frames: int, batch_size: int, update: int, *, seed: int) -> IntArray:
    """Indices of the frames of an update: each epoch is a new permutation, a function of seed and epoch."""
    per_epoch = max(1, n_frames // batch_size)
    epoch, batch = divmod(update, per_epoch)
    shuffled = np.random.default_rng([seed, 1, epoch]).permutation(n_frames)
    return shuffled[batch * batch_size : (batch + 1) * batch_size]
