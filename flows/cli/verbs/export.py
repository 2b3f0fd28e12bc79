"""`al-engine export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, Directory, answer


class ExportFormat(StrEnum):
    """Formats of `export`."""

    EXTXYZ = "extxyz"


def export(
    directory: Directory,
    to: Annotated[ExportFormat, typer.Option("--to", help="File format.")],
    output: Annotated[Path, typer.Option("--output", help="File to write.")],
    as_json: AsJson = False,
) -> None:
    """Write the labelled frames to a file for other programs."""
    from al_engine.campaign.export import export_extxyz

    count = export_extxyz(directory, output)
    answer(
        {"output": str(output), "format": to.value, "frames": count},
        f"wrote {count} frames to {output}",
        as_json=as_json,
    )
