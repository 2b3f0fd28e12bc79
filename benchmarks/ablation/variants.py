"""The models that are compared: a base model of moderate size, and variants that differ from it in one respect."""

from collections.abc import Mapping
from typing import Any

from al_engine.config import ModelConfig, TrainingConfig
from al_engine.config.presets import merged

SHORT_ANG, MIDDLE_ANG, LONG_ANG = 4.5, 6.0, 10.0
_SHORT: Mapping[str, Any] = {"cutoff_ang": SHORT_ANG, "channels": 24, "l_max": 2, "radial_mlp": []}
_LONG: Mapping[str, Any] = {"cutoff_ang": LONG_ANG, "channels": 8, "l_max": 1, "radial_mlp": []}
_COMMON: Mapping[str, Any] = {"short": _SHORT, "layers": 2, "hidden_l_max": 1}
_TWO_PATHS: Mapping[str, Any] = {"long": _LONG}

_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "ms-mace": {"kind": "ms-mace", **_TWO_PATHS},
    "ms-mace, MLP radials": {
        "kind": "ms-mace",
        "short": {"radial_mlp": [32, 32]},
        "long": {**_LONG, "radial_mlp": [16, 16]},
    },
    "ms-mace, energies fused": {"kind": "ms-mace", "fusion": "energy", **_TWO_PATHS},
    f"mace, {SHORT_ANG:g} Å (long path off)": {"kind": "mace"},
    f"mace, {MIDDLE_ANG:g} Å": {"kind": "mace", "short": {"cutoff_ang": MIDDLE_ANG}},
    f"mace, {LONG_ANG:g} Å": {"kind": "mace", "short": {"cutoff_ang": LONG_ANG}},
    # at 10 Å the radial resolution that the others have at 5 Å
    f"mace, {LONG_ANG:g} Å, 16 Bessel functions": {
        "kind": "mace",
        "short": {"cutoff_ang": LONG_ANG},
        "bessel_functions": 16,
    },
    "ms-nequip": {"kind": "ms-nequip", **_TWO_PATHS},
    f"nequip, {SHORT_ANG:g} Å (long path off)": {"kind": "nequip"},
    f"nequip, {MIDDLE_ANG:g} Å": {"kind": "nequip", "short": {"cutoff_ang": MIDDLE_ANG}},
}
SCANNED = ("ms-mace", f"mace, {LONG_ANG:g} Å", "ms-nequip")
"""Variants of the learning-rate scan: the default, a variant with many neighbours, and a variant without products."""
RATES = (0.002, 0.005, 0.01)
"""Learning rates of the scan."""
_VALIDATIONS = 20


def variants() -> dict[str, ModelConfig]:
    """The model of every variant by name."""
    return {name: ModelConfig.model_validate(merged(_COMMON, changes)) for name, changes in _CHANGES.items()}


def training(*, updates: int, learning_rate: float) -> TrainingConfig:
    """The training of every variant: the engine's loss, optimizer and schedule, without early stop."""
    return TrainingConfig(
        batch_size=5,
        learning_rate=learning_rate,
        validation_interval=max(1, updates // _VALIDATIONS),
        patience=_VALIDATIONS + 1,
    )
