"""Training of one network: loss, update, validation."""

import math
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from al_engine.config import TrainingConfig
from al_engine.errors import InputError
from al_engine.structures.frames import IntArray
from models.layers.operators import is_plain
from models.ms_mace import MSMACE
from models.storage.weights import TrainingHistory
from models.tracing.bundles import layout_of, tensors_of, with_tensors
from models.tracing.replay import Replay
from models.training.checkpoint import TrainingState
from models.training.dataset import TrainingBatch, TrainingSet, chunks
from models.training.muon import FlatMuon, weight_matrices
from models.training.optimizer import FlatAdam, FlatOptimizer

DIVERGED = 100.0
"""Force MAE, in units of the RMS label force, above which training counts as diverged; predicting zero gives < 1."""
REPLAY_PAYS_AFTER = 300
"""Number of updates to come from which a trace of the update, which takes some seconds, pays."""
UPDATES_BEFORE_REPLAY = 20
"""Number of updates with batches of a layout before they are traced."""
MOST_LAYOUTS = 4
"""Number of layouts of batches whose updates may be replayed. The batches of a set of equal frames have one layout."""
FRAMES_PER_VALIDATION_BATCH = 4
"""Frames per validation batch, in units of the training batch size: validation has no double backward pass."""


class DivergedError(InputError):
    """The validation loss is not finite, or the force MAE exceeds `DIVERGED` times the RMS label force."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Validation errors.

    Attributes:
        loss: Weighted loss, eV²; its energy term contains a common offset of the energies.
        force_mae: Mean absolute error of force components, eV/Å.
        energy_mae: Mean absolute error of energies per atom after subtraction of its mean, eV: the E0s are fitted to
            absorb that offset.
    """

    loss: float
    force_mae: float
    energy_mae: float


class Trainer:
    """Trains one network: loss, optimizer step, validation; keeps the averaged weights of the best validation."""

    def __init__(self, network: MSMACE, config: TrainingConfig, *, peak: float, updates: int) -> None:
        self.network, self.config = network, config
        # plain torch is what the user asked for; on a GPU sums have no fixed order
        self._may_replay = network.device.type == "cpu" and not is_plain(network)
        self.parameters = list(network.parameters())
        weights = parameters_to_vector(self.parameters)
        self.optimizer: FlatOptimizer = (
            FlatAdam(weights, config, peak=peak, total=updates)
            if config.optimizer == "adam"
            else FlatMuon(weights, config, peak=peak, total=updates, groups=weight_matrices(network))
        )
        # from here on the parameters are views of the optimizer's vector
        vector_to_parameters(self.optimizer.weights.detach(), self.parameters)
        self.best = self.optimizer.average.clone()
        self.best_loss, self.stale = math.inf, 0
        self.history = TrainingHistory()
        self._replays: dict[Hashable, Replay] = {}

    def restore(self, saved: TrainingState) -> None:
        """Continue from a checkpoint."""
        self.optimizer.peak = saved.peak
        self.optimizer.restore(
            weights=saved.weights, average=saved.average, moments=saved.moments, updates=saved.updates
        )
        self.best, self.best_loss, self.stale, self.history = saved.best, saved.best_loss, saved.stale, saved.history

    def snapshot(self) -> TrainingState:
        """The state that a checkpoint stores."""
        return TrainingState(
            weights=self.optimizer.weights,
            average=self.optimizer.average,
            best=self.best,
            moments=self.optimizer.moments,
            updates=self.optimizer.updates,
            peak=self.optimizer.peak,
            best_loss=self.best_loss,
            stale=self.stale,
            history=self.history,
        )

    def loss(self, batch: TrainingBatch, energies: Tensor, forces: Tensor, virials: Tensor | None = None) -> Tensor:
        """Loss w_E <w (ΔE / N)²> + w_F <w ΔF²> + w_S <w (V Δσ / N)²>, w being the weight of the frame.

        The means are over frames, force components and stress components. The first two terms are the loss of
        mace-torch's `WeightedEnergyForcesLoss`, the third is that of its `WeightedEnergyForcesVirialsLoss`. The third
        is a mean over all frames; those without a stress count as exact.
        """
        per_atom = (energies - batch.energies) * batch.inverse_sizes
        energy_term = self.config.energy_weight * batch.weighted_by_frame(per_atom.square()).mean()
        force_term = self.config.force_weight * batch.weighted_by_node((forces - batch.forces).square()).mean()
        total = energy_term + force_term
        if virials is not None and batch.virials is not None:
            errors = batch.weighted_by_frame(virial_errors(batch, virials))
            total = total + self.config.stress_weight * errors.mean()
        return self.network.constants.scale**2 * total

    def update(self, batch: TrainingBatch) -> Tensor:
        """One optimizer step; returns the loss as a tensor, without synchronising with the device."""
        replay = self._replay(batch)
        loss, gradient = self._loss_and_gradient(batch) if replay is None else replay(*tensors_of(batch))
        self.optimizer.step(gradient)
        return loss

    def _loss_and_gradient(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """The loss and its derivative by all weights, a vector."""
        loss = self.loss(batch, *batch.predict_with_virials(self.network, differentiable=True))
        gradients = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        return loss.detach(), torch.cat([part.flatten() for part in gradients])

    def _replay(self, batch: TrainingBatch) -> Replay | None:
        """The replay of `_loss_and_gradient` for batches like this one; None if there is none, or it does not pay."""
        if not self._may_replay or self.optimizer.total < REPLAY_PAYS_AFTER:
            return None
        layout = layout_of(batch)
        if layout not in self._replays and len(self._replays) < MOST_LAYOUTS:
            self._replays[layout] = Replay(
                lambda *tensors: self._loss_and_gradient(with_tensors(batch, tensors)), after=UPDATES_BEFORE_REPLAY
            )
        return self._replays.get(layout)

    def validate(self, data: TrainingSet, frames: IntArray, *, train_loss: float) -> Errors:
        """Evaluate the averaged weights on validation frames, keep the best weights, extend the history.

        Raises:
            DivergedError: If the loss is not finite, or the force MAE exceeds `DIVERGED` times the RMS label force.
        """
        optimizer = self.optimizer
        current = optimizer.weights.detach().clone()
        optimizer.load(optimizer.average)
        errors = self.errors(data, frames)
        optimizer.load(current)
        if not math.isfinite(errors.loss) or errors.force_mae > DIVERGED * self.network.constants.scale:
            raise DivergedError(
                f"training diverged: force error {errors.force_mae:.3g} eV/Å after {optimizer.updates} updates at a "
                f"learning rate of {optimizer.peak:.3g}; check the labels for outliers, or go on in a fork with a "
                "lower rate: `al-engine fork DIR NEW --set training.learning_rate=RATE`"
            )
        if errors.loss < self.best_loss:
            self.best_loss, self.stale, self.best = errors.loss, 0, optimizer.average.clone()
        else:
            self.stale += 1
        self.history = self.history.extended(
            updates=optimizer.updates,
            train_loss=train_loss,
            validation_loss=errors.loss,
            validation_force_mae=errors.force_mae,
            validation_energy_mae=errors.energy_mae,
            learning_rate=optimizer.learning_rate(optimizer.updates - 1),
        )
        return errors

    def errors(self, data: TrainingSet, frames: IntArray) -> Errors:
        """Errors of the current weights over frames of a set, given by index."""
        scale = self.network.constants.scale
        loss_sum, force_sum, n_atoms = 0.0, 0.0, 0
        energy_errors: list[Tensor] = []
        for chosen in chunks(frames, FRAMES_PER_VALIDATION_BATCH * self.config.batch_size):
            batch = data.batch(chosen)
            energies, forces, virials = batch.predict_with_virials(self.network, differentiable=False)
            loss_sum += len(chosen) * float(self.loss(batch, energies, forces, virials).detach())
            force_sum += len(forces) * scale * float((forces - batch.forces).abs().mean().detach())
            n_atoms += len(forces)
            energy_errors.append(scale * ((energies - batch.energies) * batch.inverse_sizes).detach())
        energy_error = torch.cat(energy_errors)
        return Errors(
            loss=loss_sum / len(frames),
            force_mae=force_sum / n_atoms,
            energy_mae=float((energy_error - energy_error.mean()).abs().mean()),
        )


def virial_errors(batch: TrainingBatch, virials: Tensor) -> Tensor:
    """Mean squared error of the virial components per atom of each frame, in network units, shape (B,).

    It is zero for frames whose stress is not known.
    """
    if batch.virials is None:
        return virials.new_zeros(len(virials))
    known = ~torch.isnan(batch.virials)
    difference = torch.where(known, virials - torch.nan_to_num(batch.virials), torch.zeros_like(virials))
    return (difference * batch.inverse_sizes[:, None, None]).square().mean((1, 2))
