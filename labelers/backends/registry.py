"""The backend that a config selects, the labeler of the backend, and the level of theory of its labels."""

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from al_engine.campaign.labels import FILES, FRAMES_TURNED, LevelOfTheory
from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from labelers.backends.protocol import Labeler

Backend = Literal["xtb", "tblite", "ase"]

WRITTEN = ("txt", "logfile", "log_file", "trajectory", "label", "prefix", "outfile", "restart")
"""Parameters of ASE's calculators that name files to write."""
LONGEST_PATH = 4096
"""Largest number of characters of a path; a longer parameter is text."""
_PIP = {"xtb": "pip install xtb typing_extensions", "tblite": "pip install tblite"}
"""The command that installs a backend. xtb-python needs typing_extensions and does not declare it."""
_MODULES = {"xtb": ("xtb", "typing_extensions"), "tblite": ("tblite",)}
"""Modules that a backend needs."""


def resolve_backend(config: LabelsConfig, *, periodic: bool = False) -> Backend:
    """The backend that labels the frames.

    `auto` selects tblite if it is installed; otherwise it selects xtb, if xtb is installed and the frames have no cell.
    The function only checks which packages are installed; it imports none of them.

    Args:
        config: Settings of the labels.
        periodic: Whether the frames are periodic.

    Raises:
        InputError: If the backend is not installed, or can't label periodic frames.
    """
    backend = config.backend
    if backend == "auto":
        if _installed("tblite"):  # with `labelers.backends.openblas`, tblite is faster than xtb at all system sizes
            return "tblite"
        if not periodic and _installed("xtb"):
            return "xtb"
        raise InputError(
            f"labels.backend: auto: no package with GFN2-xTB {'for periodic frames ' if periodic else ''}is installed; "
            f"install it with `{_PIP['tblite']}`" + ("" if periodic else f", or on Python 3.11 with `{_PIP['xtb']}`")
        )
    if backend == "ase":
        return "ase"
    if backend == "xtb" and periodic:
        raise InputError("labels.backend 'xtb' has no periodic GFN2-xTB; set it to tblite (or auto) for boxes")
    if not _installed(backend):
        raise InputError(
            f"labels.backend '{backend}' is not installed; install it with `{_PIP[backend]}`, or set labels.backend to "
            "auto"
        )
    return backend


def create_labeler(config: LabelsConfig, *, periodic: bool = False) -> Labeler:
    """Build the labeler of the configured backend in this process.

    Args:
        config: Settings of the labels.
        periodic: Whether the frames are periodic.

    Raises:
        InputError: If the backend is not installed, can't label periodic frames, or does not accept the settings.
    """
    backend = resolve_backend(config, periodic=periodic)
    if backend == "xtb":
        from labelers.backends.xtb import Gfn2XtbLabeler

        return Gfn2XtbLabeler(config)
    if backend == "tblite":
        from labelers.backends.tblite import Gfn2TbliteLabeler

        return Gfn2TbliteLabeler(config)
    from labelers.backends.ase.labeler import AseLabeler

    return AseLabeler(_calculator_name(config), config)


def level_of_theory(config: LabelsConfig, *, periodic: bool = False) -> LevelOfTheory:
    """The level of theory of this config's labels, as stored with the labels.

    Args:
        config: Settings of the labels.
        periodic: Whether the frames are periodic.

    Raises:
        InputError: If the backend is not installed or can't label periodic frames, or no calculator is named.
    """
    backend = resolve_backend(config, periodic=periodic)
    if backend == "ase":
        name = _calculator_name(config)
        # `package.module:Class` names a class of another package; any other name is that of a calculator in ASE.
        package = name.partition(":")[0].partition(".")[0] if ":" in name else "ase"
        files = _files_in(config.ase_parameters)
        return LevelOfTheory(
            method=name,
            backend="ase",
            backend_version=_version("ase"),
            settings={
                "calculator_version": _version(package),
                "parameters": {key: value for key, value in config.ase_parameters.items() if key != "directory"},
                "energy": "force-consistent",
                "charge_and_spin": config.ase_charge_and_spin,
                **({FILES: files} if files else {}),
            },
        )
    settings: dict[str, Any] = {
        "accuracy": config.accuracy,
        "electronic_temperature_kelvin": config.electronic_temperature_kelvin,
        "max_scf_iterations": config.max_scf_iterations,
    }
    if backend == "xtb":
        settings[FRAMES_TURNED] = True
    return LevelOfTheory(method="GFN2-xTB", backend=backend, backend_version=_version(backend), settings=settings)


def _files_in(parameters: Any) -> dict[str, str]:
    """SHA-256 of every file that the parameters of a calculator name, such as a file of weights, by its path.

    Files that the calculator writes, which change with every label, are not included (`WRITTEN`).
    """
    if isinstance(parameters, Mapping):
        parameters = [value for key, value in parameters.items() if key not in WRITTEN]
    if isinstance(parameters, list):
        return {path: code for value in parameters for path, code in _files_in(value).items()}
    if not isinstance(parameters, str) or len(parameters) > LONGEST_PATH or not Path(parameters).is_file():
        return {}
    with Path(parameters).open("rb") as handle:
        return {parameters: hashlib.file_digest(handle, "sha256").hexdigest()}


def _calculator_name(config: LabelsConfig) -> str:
    """The calculator of the backend `ase`.

    Raises:
        InputError: If the config names none.
    """
    if config.ase_calculator is None:
        raise InputError(
            "labels.backend 'ase' needs a calculator; set labels.ase_calculator to a name that ASE knows, or to "
            "`package.module:Class`"
        )
    return config.ase_calculator


def _installed(backend: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in _MODULES[backend])


def _version(package: str) -> str:
    """Version of the installed distribution that has a package; `unknown` if there is none.

    A distribution need not have the name of its package: mace-torch has the package `mace`.
    """
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    distributions = importlib.metadata.packages_distributions().get(package, [])
    return ", ".join(sorted({importlib.metadata.version(name) for name in distributions})) or "unknown"
