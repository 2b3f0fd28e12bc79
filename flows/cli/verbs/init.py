"""`al-engine init`."""

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from al_engine.errors import InputError, typed
from flows.cli.options import AsJson, Directory, answer


class Preset(StrEnum):
    """Starting points of `init`: the keys of `al_engine.config.presets.PRESETS`."""

    QUICK = "quick"
    STANDARD = "standard"
    PAPER = "paper"


class Shape(StrEnum):
    """Shapes of the system that `init` builds from the molecules."""

    CLUSTER = "cluster"
    BOX = "box"


def init(
    directory: Directory,
    smiles: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[COUNT] SMILES",
            help="SMILES of the molecule. For a mixture, repeat it with counts: --smiles '10 O' --smiles '3 CO'.",
        ),
    ] = None,
    structure: Annotated[
        Path | None, typer.Option(help="Structure file in a format that ASE reads, in place of --smiles.")
    ] = None,
    molecules: Annotated[int, typer.Option(help="Number of copies of the molecule or the mixture.")] = 1,
    charge: Annotated[int | None, typer.Option(help="Total charge in e; default: from the SMILES or the file.")] = None,
    unpaired_electrons: Annotated[
        int | None,
        typer.Option("--unpaired-electrons", help="Unpaired electrons; default: from the file, otherwise 0."),
    ] = None,
    shape: Annotated[
        Shape | None, typer.Option(help="Molecules in vacuum (cluster), or a periodic box; default: cluster.")
    ] = None,
    density: Annotated[float | None, typer.Option(help="Density of the box in g/cm³.")] = None,
    elements: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=ELEMENT,...",
            help="Elements of the atom names or atom types in the file, such as OW=O,HW1=H or 1=O,2=H.",
        ),
    ] = None,
    structure_frame: Annotated[
        int | None,
        typer.Option(
            "--structure-frame", help="Index, from 0, of the structure in a file with several structures; -1: the last."
        ),
    ] = None,
    preset: Annotated[
        Preset,
        typer.Option(
            help="Starting point: quick takes minutes on two cores for a small molecule, paper is the reference work."
        ),
    ] = Preset.STANDARD,
    name: Annotated[str | None, typer.Option(help="Name of the campaign; default: made from the name of DIR.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Campaign or file of models from which training starts; sets `model` to their architecture."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a campaign directory: write DIR/campaign.yaml with all options and their descriptions."""
    from flows.cli.init import init_campaign
    from flows.pages.display import Display

    system = {
        **_molecules(smiles or [], molecules),
        "charge": charge,
        "unpaired_electrons": unpaired_electrons,
        "shape": None if shape is None else shape.value,
        "density_g_per_cm3": density,
        "elements": _pairs(elements),
        "structure_frame": structure_frame,
    }
    with Display(quiet=as_json) as display, display.step("checking") as progress:
        made = init_campaign(
            directory,
            system=system,
            structure=structure,
            preset=preset.value,
            name=name,
            start=start,
            progress=progress,
        )
    shown = typed(directory)
    answer(
        {
            "campaign": made.config.name,
            "directory": str(directory),
            "config": str(directory / "campaign.yaml"),
            "notes": list(made.notes),
        },
        "\n".join(
            [
                *(f"note: {note}" for note in made.notes),
                f"wrote {directory}/campaign.yaml",
                f"next: `al-engine check {shown}`, `al-engine run {shown}`",
            ]
        ),
        as_json=as_json,
    )


def _molecules(given: Sequence[str], copies: int) -> dict[str, Any]:
    """The options `smiles` or `species`, and `molecules`, for SMILES strings with counts in front, such as `10 O`."""
    counted = [re.fullmatch(r"\s*(?:(\d+)\s+)?(.*)", text, flags=re.DOTALL) for text in given]
    pairs = [(match[1], match[2]) for match in counted if match is not None]
    if not pairs:
        return {"molecules": copies}
    if len(pairs) == 1:
        count, smiles = pairs[0]
        return {"smiles": smiles, "molecules": copies * int(count or 1)}
    species = [{"smiles": smiles, "count": int(count or 1)} for count, smiles in pairs]
    return {"species": species, "molecules": copies}


def _pairs(text: str | None) -> dict[str, str] | None:
    """Parse a text such as `OW=O,HW1=H` into a mapping; None stays None.

    Raises:
        InputError: If the text does not have this form.
    """
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(name.strip() and sign and element.strip() for name, sign, element in pairs):
        raise InputError(f"--elements: got {text!r}; write NAME=ELEMENT,NAME=ELEMENT,... such as OW=O,HW1=H")
    return {name.strip(): element.strip() for name, _, element in pairs}
