"""`al-engine fork`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, Directory, answer


def fork(
    directory: Directory,
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Directory of the new campaign.")],
    at: Annotated[
        int | None, typer.Option("--at", help="Number of iterations to share; default: all that are finished.", min=0)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option to change, such as selection.max_labels=500."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new campaign that goes on from this one with other options; this one stays as it is.

    Labels are shared, not computed again. Change the window or other options, or add `data`. For more iterations,
    temperatures or systems, `al-engine extend` is shorter.
    """
    from al_engine.errors import typed
    from flows.session.fork import fork as made

    result = made(directory, new, at=at, settings=settings or [])
    shared = (
        f"it shares the labelled initial set and {result.iterations} iterations ({result.linked} parts)"
        if not result.labels
        else f"it shares {result.labels} labels as `data`; the initial set of the changed systems is made anew"
    )
    lines = [
        f"wrote {new}: {shared}",
        *(f"  {key}: {old!r} -> {value!r}" for key, (old, value) in result.changed.items()),
        f"next: `al-engine run {typed(new)}`",
    ]
    answer(
        {
            "directory": str(new),
            "iterations": result.iterations,
            "parts": result.linked,
            "labels_as_data": result.labels,
            "changed": {key: list(pair) for key, pair in result.changed.items()},
        },
        "\n".join(lines),
        as_json=as_json,
    )
