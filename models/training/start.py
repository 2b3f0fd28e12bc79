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
    """The member of a file or campaign from which member number `member` starts its training.

    A file of n members serves any number of members: member m starts from member m modulo n of the file.

    Raises:
        InputError: If the file does not exist or is damaged.
    """
    with open_members(path) as groups:
        return read_member(groups[member % len(groups)])


def start_config(path: Path) -> ModelConfig:
    """The architecture of the first member of a file or campaign.

    Raises:
        InputError: If the file does not exist or is damaged.
    """
    return read_start(path, 0).model.config


def check_start(path: Path, model: ModelConfig, *, elements: Sequence[int]) -> None:
    """Refuse members that a committee of this architecture cannot start from.

    Args:
        path: As `open_members` takes it.
        model: The architecture.
        elements: Atomic numbers of the system; the members may know more.

    Raises:
        InputError: If the architecture differs, with every key that differs and what to write; if an element of the
            system is missing; or if the members know different elements.
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
                    "start from models that know all its elements, or set `training.start: null`"
                )
    if len(set(known.values())) > 1:
        lines = [f"  {where}: {symbols(numbers)}" for where, numbers in known.items()]
        raise InputError(
            "\n".join(["training.start: members of a committee must know the same elements, but these differ:", *lines])
        )


def refuse_other_architecture(start: ModelConfig, config: ModelConfig, *, where: str) -> None:
    """Refuse weights of an architecture that differs from the config.

    Args:
        start: Architecture of the weights.
        config: Architecture that the config asks for.
        where: Where the weights are from, for the message.

    Raises:
        InputError: If a key of the config differs; the message has every such key and what to write.
    """
    lines = [
        f"  model.{key}: {json.dumps(needed)}  # now {json.dumps(present)}"
        for key, needed, present in _differences(start.model_dump(mode="json"), config.model_dump(mode="json"))
    ]
    if lines:
        raise InputError(
            "\n".join([f"{where} has another architecture than the config; to start from it, write", *lines])
        )


def _differences(
    start: Mapping[str, Any], config: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Keys that differ, each with its value in `start` and in `config`; keys of sections are joined by dots."""
    for name, needed in start.items():
        present = config[name]
        if isinstance(needed, dict) and isinstance(present, dict):
            yield from _differences(needed, present, f"{prefix}{name}.")
        elif needed != present:
            yield prefix + name, needed, present
