"""Export of a campaign's force field for other programs."""

import json
from pathlib import Path

import torch

from al_engine.campaign.card import REFERENCES, card_of
from al_engine.campaign.export import refuse_existing
from al_engine.errors import InputError
from models.inference.calculator import load_models
from models.interop.metatomic_file import write_metatomic
from models.interop.write_mace import write_mace


def export_metatomic(directory: Path, output: Path, *, iteration: int | None = None) -> int:
    """Write a committee as a metatomic model; the card of the campaign goes with it.

    Args:
        directory: The campaign directory.
        output: The file, which ends with `.pt`.
        iteration: Iteration of the committee; None: the newest complete committee.

    Returns:
        Number of members.

    Raises:
        InputError: If the campaign has no such committee, the file exists or has another ending, or metatomic is not
            installed.
    """
    if output.suffix != ".pt":
        raise InputError(f"{output}: the name of a metatomic file ends with .pt; give another name")
    refuse_existing(output)
    card = card_of(directory, iteration=iteration)
    models = load_models(directory, iteration=iteration, device=torch.device("cpu"))
    write_metatomic(
        output,
        models,
        name=card.campaign,
        description=f"{card.text()}\n{json.dumps(card.to_dict(), ensure_ascii=False)}",
        references=REFERENCES,
    )
    return len(models)


def export_mace(directory: Path, output: Path, *, iteration: int | None = None) -> int:
    """Write a committee of `kind: mace` for `models/interop/import_mace.py`, which makes mace-torch models of it.

    Args:
        directory: The campaign directory, or a file of members.
        output: The file, HDF5.
        iteration: Iteration of the committee; None: the newest complete committee.

    Returns:
        Number of members.

    Raises:
        InputError: If the campaign has no such committee, the file exists, or mace-torch has no equal of the models.
    """
    refuse_existing(output)
    models = load_models(directory, iteration=iteration, device=torch.device("cpu"))
    write_mace(output, models)
    return len(models)
