"""Making a campaign directory from a molecule and a preset."""

from pathlib import Path
from typing import Any

from al_engine.config import CampaignConfig
from al_engine.config_io import validate_config
from al_engine.errors import InputError
from al_engine.ledger import CONFIG_FILE, Ledger
from al_engine.presets import PRESETS, merged
from flows.launch import INPUTS, copy_inputs, preflight


def init_campaign(
    directory: Path,
    *,
    smiles: str | None,
    structure: Path | None,
    molecules: int,
    charge: int | None,
    unpaired_electrons: int | None,
    preset: str,
) -> CampaignConfig:
    """Write a new campaign's config.

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
    data = merged(PRESETS[preset], {"name": directory.resolve().name, "system": system})
    source = f"init {directory}"
    config = validate_config(data, source=source)
    base = Path() if structure is None else structure.parent
    preflight(config, base_dir=base)
    stored = config
    if structure is not None:
        system["structure"] = f"{INPUTS}/{structure.name}"
        stored = validate_config(merged(data, {"system": system}), source=source)
    Ledger(directory, stored).write_config()
    copy_inputs(config, source=base, directory=directory)
    return stored
