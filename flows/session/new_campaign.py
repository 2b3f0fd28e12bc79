"""The directory of a new campaign: its config, and copies of the user's files and models."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from al_engine.campaign.inputs import START, copy_files, how_to_go_on, refuse_other_files, with_inputs_inside
from al_engine.campaign.ledger import Ledger
from al_engine.config import CampaignConfig
from al_engine.errors import InputError
from al_engine.files.atomic import disk_error
from models.storage.member_files import copy_members, members_hash


def new_campaign(config: CampaignConfig, *, source: Path, directory: Path) -> Ledger:
    """Write the config of a campaign and copies of all files that it names into a campaign directory.

    A directory that did not exist before is removed if a step fails.

    Args:
        config: The config as the user wrote it.
        source: Folder that relative paths in the config start from.
        directory: The campaign directory.

    Raises:
        InputError: If a file is missing, or holds no models to start from.
        ResumableError: If the disk is full.
    """
    ledger = Ledger(directory, with_inputs_inside(config))
    with made_or_nothing(directory):
        copy_files(config, source=source, directory=directory)
        start = config.training.start
        if start is not None and (source / start).resolve() != (directory / START).resolve():
            _make_folder((directory / START).parent)
            copy_members(source / start, directory / START)
        ledger.write_config()
    return ledger


def refuse_other_inputs(config: CampaignConfig, *, source: Path, directory: Path) -> None:
    """Refuse a config whose files or models, if they still exist, differ from those that the campaign began with.

    Args:
        config: The config as the user wrote it.
        source: Folder that relative paths in the config start from.
        directory: The campaign directory.

    Raises:
        InputError: If a file or a model differs; the message names the option, the file and the copy.
    """
    refuse_other_files(config, source=source, directory=directory)
    start, copy = config.training.start, directory / START
    if start is None or not (source / start).exists() or not copy.exists():
        return
    if members_hash(source / start) != members_hash(copy):
        raise InputError(
            f"training.start: {source / start} holds other models than the campaign began with, which are in {copy}; "
            f"{how_to_go_on(directory)}"
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error


@contextmanager
def made_or_nothing(directory: Path) -> Iterator[None]:
    """Remove a directory that did not exist before if the block that fills it fails."""
    existed = directory.exists()
    try:
        yield
    except BaseException:
        if not existed:
            shutil.rmtree(directory, ignore_errors=True)
        raise
