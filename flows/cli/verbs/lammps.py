"""`al-engine lammps`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, Directory, answer


def lammps(
    directory: Directory,
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="LAMMPS script.")],
    elements: Annotated[
        str, typer.Option("--elements", help="Element of each atom type, in the order of the types: 'H C O'.")
    ],
    stop_at: Annotated[
        float | None,
        typer.Option(
            "--stop-at", metavar="MEV", help="Stop at a force deviation above this, meV/Å, and keep the frame."
        ),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option("--frames", help="File for the kept frame; default: beside SCRIPT, SCRIPT.stopped.xyz."),
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Add the kept frame to a file with frames of earlier runs.")
    ] = False,
    members: Annotated[
        str | None, typer.Option("--members", help="Members that drive the MD, such as '0'; default: the mean of all.")
    ] = None,
    stride: Annotated[
        int,
        typer.Option(
            "--stride", help="With --members: steps from one evaluation of the whole committee to the next.", min=1
        ),
    ] = 1,
    variables: Annotated[
        list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="A variable of the script.")
    ] = None,
    iteration: Annotated[
        int | None, typer.Option("--iteration", help="Iteration of the committee; by default the newest.", min=0)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a LAMMPS script with the force field, and the committee's force deviation at every step.

    The script has the line `fix ff all external pf/callback 1 1` after the lines that make the atoms. From that line on
    `f_ff[1]` is the largest force deviation, `f_ff[2]` its mean, and `d_force_deviation` that of each atom, in the
    script's unit of force.
    """
    from al_engine.errors import typed
    from models import load_committee
    from models.clients.lammps import run_script

    driving = None if members is None else _numbers(members)
    calculator = load_committee(directory, iteration=iteration, members=driving, stride=stride)
    kept = frames or script.with_name(f"{script.name}.stopped.xyz")
    given = [word for name in variables or [] for word in ("-var", *name.split("=", 1))]
    quiet = ["-screen", "none"] if as_json else []
    result = run_script(
        calculator.force_field,
        script,
        elements=elements.replace(",", " ").split(),
        stop_mev_per_ang=stop_at,
        frames=kept,
        append=append,
        arguments=[*given, *quiet],
    )
    evaluations = f"{result.evaluations} evaluations of the committee"
    lines = [
        f"largest force deviation: {result.largest_mev_per_ang:.0f} meV/Å at step {result.largest_at} ({evaluations})"
    ]
    stopped = result.stopped_at is not None
    if stopped:
        lines += [
            f"stopped at step {result.stopped_at}: the frame is in {kept}",
            f"next: `al-engine harvest {typed(directory)} {typed(kept)}` labels it",
        ]
    answer({**asdict(result), "frames": str(kept) if stopped else None}, "\n".join(lines), as_json=as_json)


def _numbers(text: str) -> list[int]:
    """Whole numbers, divided by spaces or commas."""
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(
            f"{text}: give numbers of members, such as '0' or '0 2'", param_hint="--members"
        ) from None
