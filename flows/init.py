"""Making a campaign directory from a molecule and a preset."""

from pathlib import Path
from typing import Any

from al_engine.config import CampaignConfig, name_from
from al_engine.config_io import validate_config
from al_engine.errors import InputError
from al_engine.ledger import CONFIG_FILE, Ledger
from al_engine.presets import PRESETS, merged
from flows.launch import copy_inputs, preflight, with_inputs_inside


def init_campaign(
    directory: Path,
    *,
    smiles: str | None,
    structure: Path | None,
    molecules: int,
    charge: int | None,
    unpaired_electrons: int | None,
    preset: str,
    name: str | None = None,
    start: Path | None = None,
) -> CampaignConfig:
    """Write a new campaign's config.

    Args:
        directory: The new campaign directory.
        smiles: SMILES of one molecule; or
        structure: a structure file.
        molecules: How many copies of it.
        charge: Total charge in e; None: from the SMILES.
        unpaired_electrons: None: 0.
        preset: Starting point, one of `PRESETS`.
        name: Name of the campaign; None: made from the directory's.
        start: Campaign or file of members to start training from; the config's `model` will be theirs.

    Raises:
        InputError: If the directory is a campaign already, or the molecule can't work.
    """
    if (directory / CONFIG_FILE).exists():
        raise InputError(f"{directory}: is a campaign already; edit its {CONFIG_FILE}, or name another directory")
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: is a file; name a directory")
    system: dict[str, Any] = {
        "smiles": smiles,
        "structure": None if structure is None else structure.name,
        "molecules": molecules,
        "charge": charge,
        "unpaired_electrons": unpaired_electrons,
    }
    name = name_from(directory.resolve().name) if name is None else name
    data = merged(PRESETS[preset], {"name": name, "system": system})
    if start is not None:
        from models.start import start_config

        model = start_config(start).model_dump(mode="json")
        data = merged(data, {"model": model, "training": {"start": str(start.resolve())}})
    source = f"init {directory}"
    config = validate_config(data, source=source)
    base = Path() if structure is None else structure.parent
    preflight(config, base_dir=base)
    stored = with_inputs_inside(config)
    Ledger(directory, stored).write_config()
    copy_inputs(config, source=base, directory=directory)
    return stored
