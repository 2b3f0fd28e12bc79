"""Training of one committee member: energy and force loss, Adam, averaged weights, early stop, resumable bitwise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from al_engine.config import ModelConfig, TrainingConfig
from al_engine.errors import InputError
from al_engine.frames import FloatArray, IntArray, LabelledFrame
from al_engine.protocols import Progress, silent
from models.acceleration import accelerate
from models.checkpoint import TrainingState, read_checkpoint, write_checkpoint
from models.constants import constants_from_data, energies_per_element
from models.dataset import TrainingBatch, TrainingSet
from models.ms_mace import MSMACE
from models.start import refuse_other_architecture
from models.weights import TrainedMember, TrainingHistory

FINAL_RATE_SHARE = 0.01
"""Learning rate at the end of the cosine, relative to its peak."""
WARM_UP_SHARE, WARM_UP_UPDATES = 0.05, 100
"""The learning rate rises linearly over this share of all updates, at most so many."""
SHORTEST_WARM_UP = 20
"""But over so many at least, or half of a run shorter than twice that: Adam's first steps are blind."""
PROGRESS_INTERVAL = 20


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
    """Train one member.

    The result depends on the arguments alone, bit for bit on one machine at one number of threads, whether or not
    the run was interrupted and continued from its checkpoint.

    Args:
        frames: The training set; a share of it, drawn by the seed, is held out for validation.
        model: Architecture.
        training: Loss weights, optimizer, early stop.
        seed: Seed of initial weights, held-out frames and batches.
        updates: Gradient updates.
        device: Where to train.
        kernels: On a CPU, use the C++ kernels if they can be had.
        start: Start from this member's weights and constants (scale, neighbour counts; its E0s, which may be of another
            level of theory, are fitted to the frames first), with a fresh optimizer and `warm_learning_rate_factor` on
            the learning rate. It may know more elements than the frames have.
        checkpoint: File to continue from and to write at every validation.
        key: Names the inputs; a checkpoint with another key is ignored.
        progress: Told how many updates are done.

    Returns:
        The member with the averaged weights of its best validation.

    Raises:
        InputError: If there are fewer than two frames, the start does not fit, or training diverges.
    """
    device = torch.device(device)
    network = _initial_model(frames, model, seed=seed, start=start).to(device)
    if kernels:
        accelerate(network)
    held_out, kept = _split(len(frames), training.validation_share, seed=seed)
    train_set = TrainingSet([frames[k] for k in kept], network, device=device)
    validation_set = TrainingSet([frames[k] for k in held_out], network, device=device)
    fit_references = partial(
        _fit_reference_energies, network, train_set, [frames[k] for k in kept], batch_size=training.batch_size
    )
    if start is not None:
        correction = fit_references()
        for each in (train_set, validation_set):
            each.follow_reference_energies(correction)
    peak = training.learning_rate * (1.0 if start is None else training.warm_learning_rate_factor)
    trainer = Trainer(network, training, peak=peak, updates=updates)
    if checkpoint is not None:
        saved = read_checkpoint(checkpoint, key=key, n_weights=trainer.state.weights.numel(), device=device)
        if saved is not None:
            trainer.restore(saved)
    state = trainer.state
    losses: list[Tensor] = []
    while state.updates < updates and state.stale < training.patience:
        batch = train_set.batch(_batch_indices(len(train_set), training.batch_size, state.updates, seed=seed))
        losses.append(trainer.update(batch))
        if state.updates % training.validation_interval == 0 or state.updates == updates:
            note = trainer.validate(validation_set, train_loss=float(torch.stack(losses).mean()))
            losses.clear()
            if checkpoint is not None:
                write_checkpoint(checkpoint, trainer.snapshot(), key=key)
            progress(state.updates, updates, note)
        elif state.updates % PROGRESS_INTERVAL == 0:
            progress(state.updates, updates)
    trainer.load(state.best)
    fit_references()
    return TrainedMember(model=network, history=state.history)


def _initial_model(
    frames: Sequence[LabelledFrame], config: ModelConfig, *, seed: int, start: TrainedMember | None
) -> MSMACE:
    if start is None:
        return MSMACE(config, constants_from_data(frames, config), seed=seed)
    refuse_other_architecture(start.model.config, config, where="the member to start from")
    network = MSMACE(config, start.model.constants, seed=seed)
    network.load_state_dict(start.model.state_dict())
    return network


def _fit_reference_energies(
    network: MSMACE, train_set: TrainingSet, frames: Sequence[LabelledFrame], *, batch_size: int
) -> FloatArray:
    """Let the E0s absorb the mean error of the energies; returns by how much each rose in eV, shape (S,).

    Forces outweigh energies in the loss and do not see a constant, so training hardly finds it; least squares do.
    """
    residuals: list[Tensor] = []
    with torch.no_grad():
        for chosen in train_set.chunks(4 * batch_size):
            batch = train_set.batch(chosen)
            residuals.append(batch.energies - network.network_energies(batch.graph, batch.edges))
    missing = network.constants.scale * torch.cat(residuals).cpu().numpy()
    elements = network.constants.elements
    correction = energies_per_element(frames, missing, elements)
    network.set_reference_energies((np.array(network.constants.reference_energies) + correction).tolist())
    return correction


def _split(n_frames: int, share: float, *, seed: int) -> tuple[IntArray, IntArray]:
    """Indices of the frames held out (at least one) and of the others (at least one)."""
    if n_frames < 2:  # noqa: PLR2004  # one to train on, one to validate on
        raise InputError(f"training needs at least 2 frames, got {n_frames}; label more")
    shuffled = np.random.default_rng([seed, 0]).permutation(n_frames)
    n_held_out = min(max(1, round(share * n_frames)), n_frames - 1)
    return np.sort(shuffled[:n_held_out]), np.sort(shuffled[n_held_out:])


def _batch_indices(n_frames: int, batch_size: int, update: int, *, seed: int) -> IntArray:
    """Frames of one update: each epoch is a fresh permutation, a function of seed and epoch alone."""
    per_epoch = max(1, n_frames // batch_size)
    epoch, batch = divmod(update, per_epoch)
    shuffled = np.random.default_rng([seed, 1, epoch]).permutation(n_frames)
    return shuffled[batch * batch_size : (batch + 1) * batch_size]


@dataclass(frozen=True, slots=True)
class _Errors:
    """Weighted loss (eV²), force MAE (eV/Å), energy MAE per atom (eV) beyond a common offset: the E0s take that up."""

    loss: float
    force_mae: float
    energy_mae: float


class Trainer:
    """One network, its optimizer and its averaged weights, all as flat vectors: a few operations per update."""

    def __init__(self, network: MSMACE, config: TrainingConfig, *, peak: float, updates: int) -> None:
        self.network, self.config, self.peak, self.total = network, config, peak, updates
        self.parameters = list(network.parameters())
        weights = nn.Parameter(parameters_to_vector(self.parameters).detach().clone())
        vector_to_parameters(weights.detach(), self.parameters)  # the network's parameters are views of `weights` now
        self.optimizer = torch.optim.Adam([weights], lr=peak, amsgrad=True, fused=True)
        self.state = TrainingState(
            weights=weights,
            average=weights.detach().clone(),
            best=weights.detach().clone(),
            moments={},
            updates=0,
            best_loss=math.inf,
            stale=0,
            history=TrainingHistory(),
        )

    def load(self, weights: Tensor) -> None:
        """Make the network use these weights."""
        with torch.no_grad():
            self.state.weights.copy_(weights)

    def restore(self, saved: TrainingState) -> None:
        """Go on from a checkpoint."""
        self.load(saved.weights)
        for name in ("average", "best", "updates", "best_loss", "stale", "history"):
            setattr(self.state, name, getattr(saved, name))
        state = {0: dict(saved.moments)}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def snapshot(self) -> TrainingState:
        """The state with Adam's moments."""
        self.state.moments = dict(self.optimizer.state_dict()["state"][0])
        return self.state

    def learning_rate(self, update: int) -> float:
        """Linear warm-up, then a cosine down to a hundredth of the peak."""
        shortest = min(SHORTEST_WARM_UP, self.total // 2)
        warm_up = max(1, shortest, min(WARM_UP_UPDATES, round(WARM_UP_SHARE * self.total)))
        if update < warm_up:
            return self.peak * (update + 1) / warm_up
        x = (update - warm_up) / max(1, self.total - warm_up)
        return self.peak * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * x)))

    def loss(self, batch: TrainingBatch, energies: Tensor, forces: Tensor) -> Tensor:
        """w_E <(ΔE / N)²> + w_F <ΔF²>, averages over frames and over force components, in eV² and eV²/Å²."""
        per_atom = (energies - batch.energies) * batch.inverse_sizes
        energy_term = self.config.energy_weight * per_atom.square().mean()
        force_term = self.config.force_weight * (forces - batch.forces).square().mean()
        return self.network.constants.scale**2 * (energy_term + force_term)

    def update(self, batch: TrainingBatch) -> Tensor:
        """One step of the optimizer; returns the loss without waiting for it."""
        energies, forces = batch.predict(self.network, differentiable=True)
        loss = self.loss(batch, energies, forces)
        gradients = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        gradient = torch.cat([part.flatten() for part in gradients])
        norm = torch.linalg.vector_norm(gradient)
        self.state.weights.grad = gradient * (self.config.gradient_clip / norm).clamp(max=1.0)
        update = self.state.updates
        self.optimizer.param_groups[0]["lr"] = self.learning_rate(update)
        self.optimizer.step()
        decay = min(self.config.ema_decay, (1 + update) / (10 + update))  # early averages forget the random start
        self.state.average.lerp_(self.state.weights.detach(), 1.0 - decay)
        self.state.updates = update + 1
        return loss.detach()

    def validate(self, frames: TrainingSet, *, train_loss: float) -> str:
        """Score the averaged weights, remember them if they are the best, add to the history; returns a short note."""
        state = self.state
        current = state.weights.detach().clone()
        self.load(state.average)
        errors = self.errors(frames)
        self.load(current)
        if not math.isfinite(errors.loss):
            raise InputError(
                f"training diverged: the loss is {errors.loss} after {state.updates} updates; "
                "lower training.learning_rate or check the labels for outliers"
            )
        if errors.loss < state.best_loss:
            state.best_loss, state.stale, state.best = errors.loss, 0, state.average.clone()
        else:
            state.stale += 1
        state.history = state.history.extended(
            updates=state.updates,
            train_loss=train_loss,
            validation_loss=errors.loss,
            validation_force_mae=errors.force_mae,
            validation_energy_mae=errors.energy_mae,
            learning_rate=self.learning_rate(state.updates - 1),
        )
        return f"force error {1000 * errors.force_mae:.0f} meV/Å"

    def errors(self, frames: TrainingSet) -> _Errors:
        """Errors over a whole set."""
        scale = self.network.constants.scale
        loss_sum, force_sum, n_atoms = 0.0, 0.0, 0
        energy_errors: list[Tensor] = []
        for chosen in frames.chunks(4 * self.config.batch_size):
            batch = frames.batch(chosen)
            energies, forces = batch.predict(self.network, differentiable=False)
            loss_sum += len(chosen) * float(self.loss(batch, energies, forces).detach())
            force_sum += len(forces) * scale * float((forces - batch.forces).abs().mean().detach())
            n_atoms += len(forces)
            energy_errors.append(scale * ((energies - batch.energies) * batch.inverse_sizes).detach())
        energy_error = torch.cat(energy_errors)
        return _Errors(
            loss=loss_sum / len(frames),
            force_mae=force_sum / n_atoms,
            energy_mae=float((energy_error - energy_error.mean()).abs().mean()),
        )
