"""Copies of the user's files (structure, frames) in the campaign directory."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from al_engine.config import CampaignConfig, SystemConfig
from al_engine.errors import InputError, typed
from al_engine.files.atomic import disk_error

_System = TypeVar("_System", bound=SystemConfig)

INPUTS = "inputs"
"""The folder of a campaign directory that holds the copies."""
START = f"{INPUTS}/start.h5"
"""The copy of the members that training starts from; `flows.session.new_campaign` makes it."""


def with_inputs_inside(config: CampaignConfig) -> CampaignConfig:
    """The config with the paths of its files replaced by those of their copies, so that the directory can be moved."""
    copies = _copies(config)
    file = config.initial.file
    changed: dict[str, object] = {
        "initial": config.initial.model_copy(update={"file": file and copies["initial.file"]}),
        "training": config.training.model_copy(update={"start": START if config.training.start else None}),
    }
    changed["data"] = [
        data.model_copy(update={"file": copies[f"data.{index}.file"]}) for index, data in enumerate(config.data)
    ]
    if config.system is not None:
        changed["system"] = _with_copies(config.system, "system", copies)
    changed["systems"] = [
        _with_copies(named, f"systems.{index}", copies).model_copy(
            update={"initial": {**named.initial, **({"file": copies[key]} if key in copies else {})}}
        )
        for index, named in enumerate(config.systems)
        for key in [f"systems.{index}.initial.file"]
    ]
    return config.model_copy(update=changed)


def _with_copies(system: _System, option: str, copies: Mapping[str, str]) -> _System:
    """A system whose files are the copies in the campaign directory.

    Args:
        system: The system.
        option: The option that contains the system, such as `systems.0`.
        copies: Paths of the copies, by option.
    """
    species = [
        each.model_copy(update={"structure": copies.get(f"{option}.species.{index}.structure")})
        for index, each in enumerate(system.species)
    ]
    files = {name: copies.get(f"{option}.{name}") for name in ("structure", "structures")}
    return system.model_copy(update={**files, "species": species})


def _named(config: CampaignConfig) -> dict[str, str]:
    """Paths of the user's files, by the option that names the file."""
    options: dict[str, str | None] = {}
    if config.system is not None:
        options |= _files_of(config.system, "system")
    for index, named in enumerate(config.systems):
        options |= _files_of(named, f"systems.{index}")
        options[f"systems.{index}.initial.file"] = named.initial.get("file")
    options["initial.file"] = config.initial.file
    for index, data in enumerate(config.data):
        options[f"data.{index}.file"] = data.file
    return {option: name for option, name in options.items() if name is not None}


def _files_of(system: SystemConfig, option: str) -> dict[str, str | None]:
    """Paths of the structure files of a system, by the option that names the file."""
    species = {f"{option}.species.{index}.structure": each.structure for index, each in enumerate(system.species)}
    return {f"{option}.structure": system.structure, f"{option}.structures": system.structures, **species}


def _copies(config: CampaignConfig) -> dict[str, str]:
    """Paths of the copies, by option: the file keeps its name, unless two files have the same name."""
    copies: dict[str, str] = {}
    sources: dict[str, str] = {} if config.training.start is None else {START: ""}
    for option, name in _named(config).items():
        copy = f"{INPUTS}/{Path(name).name}"
        if copy in sources and sources[copy] != name:
            copy = f"{INPUTS}/{option.replace('.', '-')}-{Path(name).name}"
        sources[copy] = name
        copies[option] = copy
    return copies


def copy_files(config: CampaignConfig, *, source: Path, directory: Path) -> None:
    """Copy the structure and the frames that a config names into a campaign directory.

    Args:
        config: The config as the user wrote it.
        source: Folder that relative paths in the config start from.
        directory: The campaign directory.

    Raises:
        InputError: If a file is missing.
        ResumableError: If the disk is full.
    """
    copies = _copies(config)
    files = [(source / name, directory / copies[option]) for option, name in _named(config).items()]
    for path, _ in files:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    try:
        for path, copy in files:
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists() or not path.samefile(copy):
                shutil.copyfile(path, copy)
    except OSError as error:
        raise disk_error(directory / INPUTS, error) from error


def refuse_other_files(config: CampaignConfig, *, source: Path, directory: Path) -> None:
    """Refuse a config whose files, if they still exist, differ from the copies that the campaign began with.

    Args:
        config: The config as the user wrote it.
        source: Folder that relative paths in the config start from.
        directory: The campaign directory.

    Raises:
        InputError: If a file differs; the message names the option, the file and the copy.
    """
    for option, name in _named(config).items():
        path, copy = source / name, directory / _copies(config)[option]
        if path.is_file() and copy.is_file() and _hash(path) != _hash(copy):
            raise InputError(
                f"{option}: {path} has changed since the campaign began, which uses its own copy, {copy}. To keep that "
                f"copy, {how_to_go_on(directory)}"
            )


def how_to_go_on(directory: Path) -> str:
    """Advice to a user whose files differ from the files of the campaign."""
    return f"go on with `al-engine resume {typed(directory)}`, or start a campaign in another directory"


def input_file_hashes(config: CampaignConfig, directory: Path) -> dict[str, str]:
    """SHA-256 of every structure file and frame file that the config names, by the path in the config.

    Args:
        config: The config of a campaign.
        directory: The campaign directory, which the paths are relative to.

    Raises:
        InputError: If a file cannot be read.
    """
    return {name: _hash(directory / name) for name in _named(config).values()}


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
