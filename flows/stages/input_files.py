"""Copies of the user's files (structure, trajectory, models to start from) in the campaign directory."""

import hashlib
import shutil
from pathlib import Path

from al_engine.campaign.ledger import Ledger
from al_engine.config import CampaignConfig
from al_engine.errors import InputError, typed
from al_engine.files.atomic import disk_error
from models.storage.member_files import copy_members, members_hash

INPUTS = "inputs"
"""The folder of a campaign directory that holds the copies."""
START = f"{INPUTS}/start.h5"
"""The copy of the members that training starts from."""


def with_inputs_inside(config: CampaignConfig) -> CampaignConfig:
    """The config with the paths of its files replaced by those of their copies, so that the directory can be moved."""
    copies = _copies(config)
    structure, file = config.system.structure, config.initial.file
    return config.model_copy(
        update={
            "system": config.system.model_copy(update={"structure": structure and copies["system.structure"]}),
            "initial": config.initial.model_copy(update={"file": file and copies["initial.file"]}),
            "training": config.training.model_copy(update={"start": START if config.training.start else None}),
        }
    )


def _named(config: CampaignConfig) -> dict[str, str]:
    """Paths of the user's files, by the option that names the file."""
    options = {"system.structure": config.system.structure, "initial.file": config.initial.file}
    return {option: name for option, name in options.items() if name is not None}


def _copies(config: CampaignConfig) -> dict[str, str]:
    """Paths of the copies, by option: the file keeps its name, unless two files have the same name."""
    copies: dict[str, str] = {}
    sources: dict[str, str] = {}
    for option, name in _named(config).items():
        copy = f"{INPUTS}/{Path(name).name}"
        if copy in sources and sources[copy] != name:
            copy = f"{INPUTS}/{option.replace('.', '-')}-{Path(name).name}"
        sources[copy] = name
        copies[option] = copy
    return copies


def copy_inputs(config: CampaignConfig, *, source: Path, directory: Path) -> None:
    """Copy the files that a config names into a campaign directory; their paths are relative to `source`.

    Raises:
        InputError: If a file is missing.
        ResumableError: If the disk is full.
    """
    start, copies = config.training.start, _copies(config)
    files = {source / name: directory / copies[option] for option, name in _named(config).items()}
    if not files and start is None:
        return
    for path in files:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    try:
        (directory / INPUTS).mkdir(parents=True, exist_ok=True)
        for path, copy in files.items():
            if not copy.exists() or not path.samefile(copy):
                shutil.copyfile(path, copy)
    except OSError as error:
        raise disk_error(directory / INPUTS, error) from error
    if start is not None and (source / start).resolve() != (directory / START).resolve():
        copy_members(source / start, directory / START)


def refuse_other_inputs(config: CampaignConfig, *, source: Path, directory: Path) -> None:
    """Refuse a config whose files, if they still exist, differ from the copies that the campaign began with.

    Raises:
        InputError: If a file differs; the message names the option, the file and the copy.
    """
    go_on = f"go on with `al-engine resume {typed(directory)}`, or start a campaign in another directory"
    for option, name in _named(config).items():
        path, copy = source / name, directory / _copies(config)[option]
        if path.is_file() and copy.is_file() and _hash(path) != _hash(copy):
            raise InputError(
                f"{option}: {path} has changed since the campaign began; what it began with is in {copy}. To leave it "
                f"at that, {go_on}"
            )
    start = config.training.start
    if start is None or not (source / start).exists() or not (directory / START).exists():
        return
    if members_hash(source / start) != members_hash(directory / START):
        raise InputError(
            f"training.start: {source / start} holds other models than the campaign began with, which are in "
            f"{directory / START}; {go_on}"
        )


def input_file_hashes(ledger: Ledger) -> dict[str, str]:
    """SHA-256 of every file that the config names, by the path in the config.

    Args:
        ledger: The campaign; paths are relative to its directory.

    Raises:
        InputError: If a file cannot be read.
    """
    return {name: _hash(ledger.directory / name) for name in _named(ledger.config).values()}


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
