"""Make a campaign directory from a molecule and a preset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_engine.campaign.ledger import CONFIG_FILE, Ledger
from al_engine.config import CampaignConfig, name_from
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import validate_config
from al_engine.errors import InputError
from al_engine.protocols import Progress, silent
from flows.session.preflight import preflight
from flows.session.prepare import removed_on_failure
from flows.stages.input_files import copy_inputs, with_inputs_inside


@dataclass(frozen=True, slots=True)
class Made:
    """A new campaign's config, and remarks for the user, a sentence each."""

    config: CampaignConfig
    notes: tuple[str, ...]


def init_campaign(
    directory: Path,
    *,
    system: Mapping[str, Any],
    structure: Path | None,
    preset: str,
    name: str | None = None,
    start: Path | None = None,
    progress: Progress = silent,
) -> Made:
    """Write a new campaign's config.

    Args:
        directory: The new campaign directory.
        system: Options of the `system` section except `structure`; None for the default.
        structure: A structure file, or None.
        preset: Starting point, one of `PRESETS`.
        name: Name of the campaign; None: made from the name of the directory.
        start: Campaign or file of members to start training from; the config takes over their `model` section.
        progress: Receives the progress of the checks.

    Raises:
        InputError: If the directory is already a campaign or is a file, or the campaign cannot work.
    """
    if (directory / CONFIG_FILE).exists():
        raise InputError(f"{directory}: is a campaign already; edit its {CONFIG_FILE}, or name another directory")
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: is a file; name a directory")
    name = name_from(directory.resolve().name) if name is None else name
    said = {key: value for key, value in system.items() if value is not None}
    named = {} if structure is None else {"structure": structure.name}
    data = merged(PRESETS[preset], {"name": name, "system": {**said, **named}})
    if start is not None:
        from models.training.start import start_config

        model = start_config(start).model_dump(mode="json")
        data = merged(data, {"model": model, "training": {"start": str(start.resolve())}})
    config = validate_config(data, source=f"init {directory}")
    base = Path() if structure is None else structure.parent
    checked = preflight(config, base_dir=base, progress=progress)
    stored = with_inputs_inside(config)
    with removed_on_failure(directory):
        copy_inputs(config, source=base, directory=directory)
        Ledger(directory, stored).write_config()
    return Made(stored, checked.notes)
