"""Training checkpoints: everything needed to continue bit for bit, in one HDF5 file that is whole or absent."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from al_engine.files.hdf5 import hdf5_for_reading, in_memory_hdf5
from al_engine.files.seal import SealState, check_seal
from models.storage.weights import TrainingHistory

SCHEMA = 2


@dataclass(slots=True, eq=False)
class TrainingState:
    """The state of a training run between two updates. Weight vectors have shape (n,).

    Attributes:
        weights: The weights, in the order of `parameters_to_vector`.
        average: Exponential moving average of the weights.
        best: The average with the lowest validation loss so far.
        moments: State tensors of the optimizer by name.
        updates: Updates done.
        peak: Peak learning rate.
        best_loss: Lowest validation loss so far.
        stale: Number of validations since the lowest loss.
        history: One entry per validation.
    """

    weights: Tensor
    average: Tensor
    best: Tensor
    moments: dict[str, Tensor]
    updates: int
    peak: float
    best_loss: float
    stale: int
    history: TrainingHistory


def write_checkpoint(path: Path, state: TrainingState, *, key: str) -> None:
    """Replace the checkpoint at `path`; a kill at any moment leaves the old checkpoint or the new checkpoint.

    Raises:
        ResumableError: If the disk is full or not writable.
    """
    with in_memory_hdf5(path) as file:
        file.attrs.update(schema=SCHEMA, key=key)
        for name in ("updates", "peak", "best_loss", "stale"):
            file.attrs[name] = getattr(state, name)
        for name in ("weights", "average", "best"):
            file[name] = getattr(state, name).detach().cpu().numpy()
        for name, values in state.moments.items():
            file[f"moments/{name}"] = values.detach().cpu().numpy()
        for name, array in asdict(state.history).items():
            file[f"history/{name}"] = array


def read_checkpoint(path: Path, *, key: str, n_weights: int, device: torch.device) -> TrainingState | None:
    """The checkpoint at `path`, or None if there is none, it cannot be read, or it belongs to other inputs."""
    if not path.is_file() or check_seal(path) is not SealState.WHOLE:
        return None
    try:
        with hdf5_for_reading(path) as file:
            attrs = dict(file.attrs)
            if attrs.get("schema") != SCHEMA or attrs.get("key") != key or file["weights"].shape != (n_weights,):
                return None

            def tensor(name: str) -> Tensor:
                return torch.from_numpy(np.asarray(file[name])).to(device)

            return TrainingState(
                weights=tensor("weights"),
                average=tensor("average"),
                best=tensor("best"),
                moments={name: torch.from_numpy(np.asarray(file["moments"][name])) for name in file["moments"]},
                updates=int(attrs["updates"]),
                peak=float(attrs["peak"]),
                best_loss=float(attrs["best_loss"]),
                stale=int(attrs["stale"]),
                history=TrainingHistory(**{name: np.asarray(file["history"][name]) for name in file["history"]}),
            )
    except (OSError, KeyError):
        return None  # unreadable: training starts over, nothing else is lost
