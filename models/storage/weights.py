"""Members in HDF5: weights as datasets, configuration and constants as JSON attributes, without pickle."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import h5py
import numpy as np
import torch

from al_engine.config import ModelConfig
from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray
from models.ms_mace import MSMACE, ModelConstants

SCHEMA = 2
"""Version of the layout of a group that `write_member` writes."""
READABLE = (1, SCHEMA)
"""Versions that `read_member` reads."""


def _empty() -> FloatArray:
    return np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingHistory:
    """The course of a training run: arrays of shape (V,), with an entry for each of the V validations.

    Attributes:
        updates: Number of gradient updates done.
        train_loss: Mean weighted loss since the previous validation, eV².
        validation_loss: Weighted loss on held-out frames with the averaged weights, eV².
        validation_force_mae: Mean absolute force error on held-out frames, eV/Å.
        validation_energy_mae: Mean absolute energy error per atom on held-out frames, after subtraction of the mean
            error, eV.
        learning_rate: Learning rate of the last update.
    """

    updates: FloatArray = field(default_factory=_empty)
    train_loss: FloatArray = field(default_factory=_empty)
    validation_loss: FloatArray = field(default_factory=_empty)
    validation_force_mae: FloatArray = field(default_factory=_empty)
    validation_energy_mae: FloatArray = field(default_factory=_empty)
    learning_rate: FloatArray = field(default_factory=_empty)

    def extended(self, **entry: float) -> "TrainingHistory":
        """The history with an additional entry: a value for each attribute, by name."""
        return TrainingHistory(**{name: np.append(values, entry[name]) for name, values in asdict(self).items()})


@dataclass(frozen=True, slots=True, eq=False)
class TrainedMember:
    """A trained model and its training history."""

    model: MSMACE
    history: TrainingHistory = field(default_factory=TrainingHistory)


def write_member(group: h5py.Group, member: TrainedMember) -> None:
    """Write a member into an empty group."""
    group.attrs["schema"] = SCHEMA
    group.attrs["config"] = member.model.config.model_dump_json()
    constants = asdict(member.model.constants)
    if not constants["cohesion"]:
        del constants["cohesion"]  # earlier versions neither write nor know it
    group.attrs["constants"] = json.dumps(constants)
    weights = group.create_group("weights")
    for name, weight in member.model.named_parameters():
        weights.create_dataset(name, data=weight.detach().cpu().numpy())
    history = group.create_group("history")
    for name, values in asdict(member.history).items():
        history.create_dataset(name, data=values)


def read_member(group: h5py.Group, *, device: torch.device | str = "cpu") -> TrainedMember:
    """Read a member that `write_member` wrote.

    Args:
        group: The group.
        device: Device of the model.

    Raises:
        InputError: If the group is not a member, its schema is unknown, its product basis is no longer supported, its
            config is damaged, or a weight is missing, not finite or of the wrong shape.
    """
    where = f"{group.file.filename}:{group.name}"
    if "config" not in group.attrs or "constants" not in group.attrs or "weights" not in group:
        raise InputError(f"{where} holds no trained model; give a campaign, or a part that a training stage wrote")
    if int(group.attrs.get("schema", 0)) not in READABLE:
        raise InputError(
            f"{where} has schema {group.attrs.get('schema')}, this version reads "
            f"{' and '.join(map(str, READABLE))}; update al-engine"
        )
    try:
        values = json.loads(group.attrs["config"])
        if values.get("product", "symmetric") != "symmetric":
            raise InputError(
                f"{where} is a model with `product: {values['product']}`, which was removed; "
                "train a model without that line"
            )
        config = _config(values, schema=int(group.attrs["schema"]))
        constants = _constants(json.loads(group.attrs["constants"]))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{where} is damaged: its config cannot be read ({error}); restore the file") from error
    model = MSMACE(config, constants, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(_dataset(group["weights"], name, tuple(weight.shape))))
    history = TrainingHistory()
    if "history" in group:
        try:
            history = TrainingHistory(**{name: np.asarray(group["history"][name]) for name in asdict(history)})
        except KeyError as error:
            raise InputError(
                f"{where} is damaged: its training history cannot be read ({error}); restore the file"
            ) from error
    return TrainedMember(model=model.to(device), history=history)


def _config(values: dict[str, Any], *, schema: int) -> ModelConfig:
    """The config of a member; schema 1 has no `kind`, and marks a MACE model by `long: null`."""
    if schema == 1:
        one_path = values["long"] is None
        values = values | {"kind": "mace" if one_path else "ms-mace", "zbl": False}
        if one_path:
            values["fusion"] = "message"  # it had no effect in schema 1
    return ModelConfig.model_validate(values)


def _constants(values: dict[str, Any]) -> ModelConstants:
    """The constants of a member, from their JSON."""
    return ModelConstants(
        elements=tuple(values["elements"]),
        reference_energies=tuple(values["reference_energies"]),
        scale=float(values["scale"]),
        mean_neighbours=tuple(values["mean_neighbours"]),
        repulsion_strength=float(values.get("repulsion_strength", 1.0)),  # absent from files of early versions
        cohesion=tuple(values.get("cohesion", ())),
    )


def _dataset(group: h5py.Group, name: str, shape: tuple[int, ...]) -> Any:
    """Read a weight.

    Raises:
        InputError: If the weight is missing, not finite or of another shape.
    """
    where = f"{group.file.filename}:{group.name}/{name}"
    if name not in group:
        raise InputError(f"{where} is missing; restore the file or train again")
    values = np.asarray(group[name])
    if values.shape != shape:
        raise InputError(f"{where} has shape {values.shape}, the model needs {shape}; restore the file or train again")
    if not np.isfinite(values).all():
        raise InputError(f"{where} holds values that are not finite; restore the file or train again")
    return values
