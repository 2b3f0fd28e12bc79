"""The contestants: this project's models and models of other packages, of comparable size."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from al_engine.config import ModelConfig
from al_engine.errors import InputError
from harness import Entry

PEER_CUTOFFS_ANG = (10.0, 5.0)
MACE = {"channels": 64, "l_max": 3, "hidden_l_max": 1, "correlation": 3, "layers": 2, "radial_mlp": [64, 64, 64]}
NEQUIP = {"channels": 64, "l_max": 2, "parity": False, "layers": 2, "radial_mlp": [128]}


def read_model(path: Path) -> ModelConfig:
    """Read the `model` section of a config from a YAML file that holds only this section.

    Raises:
        InputError: If the file does not exist or a value is wrong.
    """
    try:
        return ModelConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as a `model` section: {error}") from error


def single_scale(model: ModelConfig, cutoff_ang: float) -> dict[str, Any]:
    """The model without its long path, at another cut-off: MACE, or NequIP, in this project's layout."""
    short = {**model.short.model_dump(), "cutoff_ang": cutoff_ang}
    return {**_given(model), "kind": model.kind.removeprefix("ms-"), "short": short, "long": None}


def gated(model: ModelConfig) -> dict[str, Any]:
    """The model with NequIP's gated layers, in the size of the NequIP contestant."""
    given = {key: value for key, value in _given(model).items() if key not in {"correlation", "fusion"}}
    short = {**model.short.model_dump(), "l_max": NEQUIP["l_max"]}
    return {**given, "kind": "ms-nequip", "short": short, "hidden_l_max": NEQUIP["l_max"]}


def _given(model: ModelConfig) -> dict[str, Any]:
    return model.model_dump(exclude_unset=True)


def ours(name: str, model: ModelConfig | Mapping[str, Any], *, mode: str, **setting: Any) -> Entry:
    """A contestant of this project; for `mode` and `setting` see `contestants.ours`."""
    given = _given(model) if isinstance(model, ModelConfig) else dict(model)
    return Entry(name, "ours", Path(sys.executable), {"model": given, "mode": mode, **setting})


def mace(name: str, cutoff_ang: float, python: Path, *, dtype: str, cueq: bool = False, **setting: Any) -> Entry:
    """A contestant of mace-torch; `cueq`: on NVIDIA's cuEquivariance kernels; for `setting` see `contestants.mace`."""
    return Entry(name, "mace", python, {**MACE, "cutoff_ang": cutoff_ang, "dtype": dtype, "cueq": cueq, **setting})


def nequip(name: str, cutoff_ang: float, python: Path, *, dtype: str, compiled: bool = False) -> Entry:
    """A contestant of NequIP; `compiled`: with NequIP's own compilation."""
    return Entry(name, "nequip", python, {**NEQUIP, "cutoff_ang": cutoff_ang, "dtype": dtype, "compiled": compiled})
