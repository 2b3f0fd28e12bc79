"""`al-engine evaluate`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from al_engine.errors import ExitStatus
from flows.cli.options import AsJson, Directory, answer, say_error


class Evaluation(StrEnum):
    """The evaluations: the keys of `flows.evaluation.verb.OPTIONS`."""

    ERRORS = "errors"
    BOND_LENGTH = "bond-length"
    STABILITY = "stability"


class Whole(StrEnum):
    """The structure whose bonds `evaluate --what bond-length` stretches."""

    SYSTEM = "system"
    MOLECULE = "molecule"


class Driver(StrEnum):
    """The forces that drive the trajectories of `evaluate --what stability`."""

    ROTATE = "rotate"
    MEAN = "mean"


BOND_LENGTH, STABILITY = "Options of --what bond-length", "Options of --what stability"


def evaluate(
    directory: Directory,
    what: Annotated[
        Evaluation,
        typer.Option(
            help="errors: on the test set, by temperature. bond-length: along stretched bonds, with fresh labels. "
            "stability: long trajectories at high temperature."
        ),
    ],
    iteration: Annotated[
        int | None, typer.Option(help="Whose committee; default: the newest that is complete.", min=0)
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for numbers and plots; default: DIR/evaluation.")] = None,
    of: Annotated[
        Whole | None,
        typer.Option(help="Whose bonds; default: system, as it is labelled.", rich_help_panel=BOND_LENGTH),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            help="Test frames of the lowest temperature that each bond is stretched in; default: 2.",
            min=1,
            rich_help_panel=BOND_LENGTH,
        ),
    ] = None,
    bonds: Annotated[
        int | None,
        typer.Option(
            help="Kinds of bonds, by elements and surroundings, at most; default: 8.",
            min=1,
            rich_help_panel=BOND_LENGTH,
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(help="Lengths from 0.85 to 2.0 times its own; default: 24.", min=2, rich_help_panel=BOND_LENGTH),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="MD steps; default: 50000.", min=1, rich_help_panel=STABILITY)
    ] = None,
    kelvin: Annotated[
        float | None, typer.Option(help="Temperature; default: 800.", min=1.0, max=20_000.0, rich_help_panel=STABILITY)
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Trajectories; default: 8.", min=1, rich_help_panel=STABILITY)
    ] = None,
    driver: Annotated[
        Driver | None,
        typer.Option(
            help="rotate: each trajectory is driven by another member; mean: all by the committee's mean; "
            "default: rotate.",
            rich_help_panel=STABILITY,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what the models are worth; the campaign may be running, and is not changed.

    Labels and trajectories are kept with the results: a second call with the same options makes none again.
    """
    from flows.evaluation.verb import evaluate as run_evaluation
    from flows.pages.display import Display

    options = {
        "of": of and of.value,
        "frames": frames,
        "bonds": bonds,
        "points": points,
        "steps": steps,
        "kelvin": kelvin,
        "replicas": replicas,
        "driver": driver and driver.value,
    }
    display = Display(quiet=as_json)
    try:
        result, text = run_evaluation(
            directory, what.value, iteration=iteration, output=output, options=options, display=display
        )
    except KeyboardInterrupt:
        say_error("interrupted; what is finished is kept, the same command goes on")
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    answer(result, text, as_json=as_json)
