"""The level of theory of a campaign: labels of two levels are never mixed."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from al_engine.campaign.labels import LevelOfTheory, stored_level
from al_engine.campaign.ledger import CONFIG_FILE, Ledger
from al_engine.errors import InputError, typed
from al_engine.files.part_file import open_part
from labelers.backends.earlier_levels import changes_since


def level_to_go_on_with(ledger: Ledger, level: LevelOfTheory) -> LevelOfTheory:
    """The level of theory of a campaign's labels; refuses to go on if new labels would be of another level.

    Args:
        ledger: The campaign.
        level: Level of theory of labels made now.

    Returns:
        `level`, or the stored level if an earlier version wrote the same level in another form.

    Raises:
        InputError: If the campaign's labels were made with another backend, version or settings.
    """
    stored = stored_level(ledger)
    if stored is None or stored == level.to_dict():
        return level
    changes = changes_since(stored, level, closed_shells=_are_closed_shells(ledger.initial_label_parts()))
    if changes == []:
        return LevelOfTheory(**stored)
    start_over = f"`al-engine run {typed(ledger.directory / CONFIG_FILE)} --dir NEW` starts over with the same config"
    if changes is not None:
        raise InputError(
            f"{ledger.directory}: its labels were made by an earlier version, and new ones would differ: "
            f"{'; '.join(changes)}. Labels are never mixed: {start_over}"
        )
    raise InputError(
        f"{ledger.directory}: this campaign was labelled with {_described(stored)}, this machine would label with "
        f"{_described(level.to_dict())}; labels are never mixed: install the former, or {start_over}"
    )


def _are_closed_shells(paths: Sequence[Path]) -> bool:
    """Whether all labelled frames of some parts are neutral and without unpaired electrons."""
    for path in paths:
        with open_part(path) as root:
            frames = root["labelled"]
            if np.any(frames["charge"][()]) or np.any(frames["unpaired_electrons"][()]):
                return False
    return True


def _described(level: dict[str, object]) -> str:
    return f"{level['method']} by {level['backend']} {level['backend_version']} {json.dumps(level['settings'])}"
