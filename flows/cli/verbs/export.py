"""`al-engine export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, Directory, answer


class ExportFormat(StrEnum):
    """Formats of `export`: of labelled frames, and of the force field (`metatomic`, `mace`)."""

    EXTXYZ = "extxyz"
    ASE_DB = "ase-db"
    NPZ = "npz"
    METATOMIC = "metatomic"
    MACE = "mace"


MODELS = (ExportFormat.METATOMIC, ExportFormat.MACE)


def export(
    directory: Directory,
    to: Annotated[
        ExportFormat,
        typer.Option(
            "--to",
            help="`extxyz`, `ase-db`, `npz`: the labelled frames. `metatomic`: the committee in one file (.pt) for "
            "i-PI, TorchSim, ASE and LAMMPS with metatomic, which loads without al-engine. `mace`: the weights of "
            "`kind: mace` for models/interop/import_mace.py, which makes models in the environment of mace-torch.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="File to write.")],
    iteration: Annotated[
        int | None, typer.Option("--iteration", help="Iteration of the committee; by default the newest.", min=0)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the labelled frames, or the force field, to a file for other programs."""
    if to in MODELS:
        from flows.evaluation.export_model import export_mace, export_metatomic

        write = export_metatomic if to is ExportFormat.METATOMIC else export_mace
        count = write(directory, output, iteration=iteration)
        what = f"{count} members"
    else:
        from al_engine.campaign.export import export_labels

        if iteration is not None:
            raise typer.BadParameter("chooses a committee, but frames are exported", param_hint="--iteration")
        count = export_labels(directory, output, file_format=to.value)
        what = f"{count} frames"
    counted = {"members" if to in MODELS else "frames": count}
    answer(
        {"output": str(output), "format": to.value, **counted},
        f"wrote {what} to {output}",
        as_json=as_json,
    )
