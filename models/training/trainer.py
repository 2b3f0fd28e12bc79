"""One member in training: its loss, its updates, its validation."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from al_engine.config import TrainingConfig
from al_engine.errors import InputError
from al_engine.structures.frames import IntArray
from models.ms_mace import MSMACE
from models.storage.weights import TrainingHistory
from models.training.checkpoint import TrainingState
from models.training.dataset import TrainingBatch, TrainingSet, chunks
from models.training.optimizer import Descent

DIVERGED = 100.0
"""Times the root mean square of the forces: what predicts none at all has an error below one of them."""
FRAMES_PER_VALIDATION_BATCH = 4
"""Times the batch size: without a double backward pass there is room for more."""


class DivergedError(InputError):
    """The weights have left the region where training leads anywhere."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Weighted loss (eV²), force MAE (eV/Å), energy MAE per atom (eV) beyond a common offset: the E0s take that up."""

    loss: float
    force_mae: float
    energy_mae: float


class Trainer:
    """One network, its weights on their way down, and the best of them by validation."""

    def __init__(self, network: MSMACE, config: TrainingConfig, *, peak: float, updates: int) -> None:
        self.network, self.config = network, config
        self.parameters = list(network.parameters())
        weights = parameters_to_vector(self.parameters)
        self.descent = Descent(weights, config, peak=peak, total=updates)
        vector_to_parameters(self.descent.weights.detach(), self.parameters)  # the network's are views of these now
        self.best = self.descent.average.clone()
        self.best_loss, self.stale = math.inf, 0
        self.history = TrainingHistory()

    def restore(self, saved: TrainingState) -> None:
        """Go on from a checkpoint."""
        self.descent.peak = saved.peak
        self.descent.restore(weights=saved.weights, average=saved.average, moments=saved.moments, updates=saved.updates)
        self.best, self.best_loss, self.stale, self.history = saved.best, saved.best_loss, saved.stale, saved.history

    def snapshot(self) -> TrainingState:
        """What a checkpoint keeps."""
        return TrainingState(
            weights=self.descent.weights,
            average=self.descent.average,
            best=self.best,
            moments=self.descent.moments,
            updates=self.descent.updates,
            peak=self.descent.peak,
            best_loss=self.best_loss,
            stale=self.stale,
            history=self.history,
        )

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
        self.descent.step(torch.cat([part.flatten() for part in gradients]))
        return loss.detach()

    def validate(self, data: TrainingSet, frames: IntArray, *, train_loss: float) -> Errors:
        """Score the averaged weights, remember them if they are the best, add to the history.

        Raises:
            DivergedError: If the loss is not finite, or the force error absurd.
        """
        descent = self.descent
        current = descent.weights.detach().clone()
        descent.load(descent.average)
        errors = self.errors(data, frames)
        descent.load(current)
        if not math.isfinite(errors.loss) or errors.force_mae > DIVERGED * self.network.constants.scale:
            raise DivergedError(
                f"training diverged: force error {errors.force_mae:.3g} eV/Å after {descent.updates} updates at a "
                f"learning rate of {descent.peak:.3g}; check the labels for outliers, or start a new campaign with a "
                "lower training.learning_rate"
            )
        if errors.loss < self.best_loss:
            self.best_loss, self.stale, self.best = errors.loss, 0, descent.average.clone()
        else:
            self.stale += 1
        self.history = self.history.extended(
            updates=descent.updates,
            train_loss=train_loss,
            validation_loss=errors.loss,
            validation_force_mae=errors.force_mae,
            validation_energy_mae=errors.energy_mae,
            learning_rate=descent.learning_rate(descent.updates - 1),
        )
        return errors

    def errors(self, data: TrainingSet, frames: IntArray) -> Errors:
        """Errors over some frames of a set."""
        scale = self.network.constants.scale
        loss_sum, force_sum, n_atoms = 0.0, 0.0, 0
        energy_errors: list[Tensor] = []
        for chosen in chunks(frames, FRAMES_PER_VALIDATION_BATCH * self.config.batch_size):
            batch = data.batch(chosen)
            energies, forces = batch.predict(self.network, differentiable=False)
            loss_sum += len(chosen) * float(self.loss(batch, energies, forces).detach())
            force_sum += len(forces) * scale * float((forces - batch.forces).abs().mean().detach())
            n_atoms += len(forces)
            energy_errors.append(scale * ((energies - batch.energies) * batch.inverse_sizes).detach())
        energy_error = torch.cat(energy_errors)
        return Errors(
            loss=loss_sum / len(frames),
            force_mae=force_sum / n_atoms,
            energy_mae=float((energy_error - energy_error.mean()).abs().mean()),
        )
