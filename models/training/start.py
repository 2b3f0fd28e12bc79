"""Initial weights of training that are not random: members of a file or of an earlier campaign."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from al_engine.config import ModelConfig
from al_engine.errors import InputError
from models.storage.member_files import open_members
from models.storage.weights import TrainedMember, read_member


def read_start(path: Path, member: int) -> TrainedMember:
    """The member of a file or campaign that training starts from: number `member` modulo the number of members there.

    Raises:
        InputError: If there is no such file, or it is damaged.
    """
    with open_members(path) as groups:
        return read_member(groups[member % len(groups)])


def start_config(path: Path) -> ModelConfig:
    """The architecture of the first member of a file or campaign.

    Raises:
        InputError: If there is no such file, or it is damaged.
    """
    return read_start(path, 0).model.config


def check_start(path: Path, model: ModelConfig, *, elements: Sequence[int]) -> None:
    """Refuse members that a committee of this architecture cannot start from.

    Args:
        path: As `open_members` takes it.
        model: The architecture.
        elements: Atomic numbers of the system; the members may know more.

    Raises:
        InputError: Naming every key that differs and what to write, or the elements.
    """
    from ase.data import chemical_symbols

    def symbols(numbers: Iterable[int]) -> str:
        return ", ".join(chemical_symbols[z] for z in sorted(numbers))

    with open_members(path) as groups:
        known = {}
        for group in groups:
            start = read_member(group).model
            where = f"training.start: {group.file.filename}:{group.name}"
            refuse_other_architecture(start.config, model, where=where)
            known[where] = start.constants.elements
            if missing := set(elements) - set(start.constants.elements):
                raise InputError(
                    f"{where} knows {symbols(start.constants.elements)}, but not {symbols(missing)} of the system; "
                    "start from models that know all its elements, or from none (`start: null`)"
                )
    if len(set(known.values())) > 1:
        lines = [f"  {where}: {symbols(numbers)}" for where, numbers in known.items()]
        raise InputError("\n".join(["a committee's members must know the same elements, these do not:", *lines]))


def refuse_other_architecture(theirs: ModelConfig, ours: ModelConfig, *, where: str) -> None:
    """Refuse weights of an architecture that differs from the config.

    Raises:
        InputError: Naming every key of the config that differs, and what to write.
    """
    lines = [
        f"  model.{key}: {json.dumps(there)}  # now {json.dumps(here)}"
        for key, there, here in _differences(theirs.model_dump(mode="json"), ours.model_dump(mode="json"))
    ]
    if lines:
        raise InputError(
            "\n".join([f"{where} has another architecture than the config; to start from it, write", *lines])
        )


def _differences(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Keys that differ, with both values; of a section present on both sides only the differing keys inside it."""
    for name, there in theirs.items():
        here = ours[name]
        if isinstance(there, dict) and isinstance(here, dict):
            yield from _differences(there, here, f"{prefix}{name}.")
        elif there != here:
            yield prefix + name, there, here
