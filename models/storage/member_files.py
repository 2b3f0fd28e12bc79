"""Files of trained members: campaigns, and single HDF5 files. No member is evaluated here, so torch is not needed."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from al_engine.errors import InputError
from al_engine.files.hdf5 import UNREADABLE, hdf5_for_reading, in_memory_hdf5
from al_engine.files.part_file import content_hash


@contextmanager
def open_members(path: Path, *, iteration: int | None = None) -> Iterator[list[h5py.Group]]:
    """Open the members of an iteration of a campaign, or of a file of members, as groups for `weights.read_member`.

    Args:
        path: A campaign directory, its `campaign.h5`, or an HDF5 file with members in groups `member`, `member0`, ...
        iteration: Number of an iteration of a campaign; None for the latest iteration that has all its members.

    Raises:
        InputError: If the file, the iteration or a member does not exist, or the file is not an HDF5 file.
    """
    file_path = path / "campaign.h5" if path.is_dir() else path
    if not file_path.is_file():
        raise InputError(f"{file_path} does not exist; give a campaign directory or a file of trained members")
    try:
        file = hdf5_for_reading(file_path)
    except OSError as error:
        raise InputError(
            f"{file_path} cannot be opened as HDF5 ({error}); restore it or run the campaign again"
        ) from error
    with file:
        groups = _campaign_members(file, iteration) if "iterations" in file else _members(file)
        if not groups:
            which = "any iteration" if iteration is None else f"iteration {iteration}"
            raise InputError(f"{file_path} has no complete committee of {which}; let its training finish")
        yield groups


def members_hash(path: Path) -> str:
    """SHA-256 over the content of all members that `open_members` finds; it does not depend on the file's layout.

    Raises:
        InputError: If there are no members, or they cannot be read.
    """
    with open_members(path) as groups:
        try:
            hashes = [content_hash(group) for group in groups]
        except UNREADABLE as error:
            raise InputError(f"{path}: damaged ({' '.join(str(error).split())[:120]}); restore it") from error
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def copy_members(source: Path, target: Path, *, iteration: int | None = None) -> None:
    """Write a file of the members that `open_members` finds, with the same `members_hash`.

    Args:
        source: As `path` of `open_members`.
        target: The file.
        iteration: As in `open_members`.

    Raises:
        InputError: If there are no members.
        ResumableError: If the target cannot be written.
    """
    with open_members(source, iteration=iteration) as groups, in_memory_hdf5(target) as file:
        for k, group in enumerate(groups):
            file.copy(group, file, f"member{k}")


def _campaign_members(file: h5py.File, iteration: int | None) -> list[h5py.Group]:
    """The members of an iteration, `/iterations/<nnn>/member<k>/member`; None: of the latest complete iteration.

    An iteration with fewer members than the config of the campaign names is still being trained.
    """
    iterations = {int(name): group for name, group in file["iterations"].items() if name.isdigit()}
    counts = {number: len(_member_names(group)) for number, group in iterations.items()}
    wanted = _committee_size(file) or max(counts.values(), default=0)
    complete = [number for number, count in counts.items() if count >= max(wanted, 1)]
    if iteration is None:
        iteration = max(complete, default=-1)
    return _members(iterations[iteration]) if iteration in complete else []


def _committee_size(file: h5py.File) -> int:
    """Number of members of each committee by the config in `campaign.h5`; 0 if the file has no config."""
    if "config_json" not in file.attrs:
        return 0
    return int(json.loads(str(file.attrs["config_json"]))["training"]["members"])


def _member_names(group: h5py.Group) -> list[str]:
    """Names of the members of a group, sorted by their numbers; `member` counts as number 0."""
    names = (name for name in group if re.fullmatch(r"member\d*", name))
    return sorted(names, key=lambda name: int(name.removeprefix("member") or 0))


def _members(group: h5py.Group) -> list[h5py.Group]:
    """The members of a group, sorted by their numbers.

    Raises:
        InputError: If a member is a link to a missing file. No older iteration is read in its place.
    """
    members = []
    for name in _member_names(group):
        part = group.get(name)
        if part is None:
            link = group.get(name, getlink=True)
            raise InputError(
                f"{group.file.filename}: the part {getattr(link, 'filename', name)} is missing; copy the whole "
                "campaign directory, not only this file, or run `al-engine verify` on it"
            )
        member = part.get("member", part) if isinstance(part, h5py.Group) else {}
        if "weights" in member:
            members.append(member)
    return members
