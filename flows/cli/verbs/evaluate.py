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
            help="errors: energy and force errors on the test set, by temperature. bond-length: errors along stretched "
            "bonds, on new labels. stability: share of long trajectories at high temperature without a broken bond."
        ),
    ],
    iteration: Annotated[
        int | None,
        typer.Option(
            help="Iteration whose committee is evaluated; default: the newest with a complete committee.", min=0
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(help="Name of the system, in a campaign of several; for bond-length and stability."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for results and plots; default: DIR/evaluation.")] = None,
    of: Annotated[
        Whole | None,
        typer.Option(
            help="system: stretch bonds of the labelled structure. molecule: of a single molecule. Default: system.",
            rich_help_panel=BOND_LENGTH,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            help="Number of test frames, of the lowest temperature, in which each bond is stretched; default: 2.",
            min=1,
            rich_help_panel=BOND_LENGTH,
        ),
    ] = None,
    bonds: Annotated[
        int | None,
        typer.Option(
            help="Largest number of kinds of bonds (same elements and surroundings); default: 8.",
            min=1,
            rich_help_panel=BOND_LENGTH,
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            help="Number of lengths of each bond, from 0.85 to 2.0 equilibrium lengths; default: 24.",
            min=2,
            rich_help_panel=BOND_LENGTH,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="MD steps of each trajectory; default: 50000.", min=1, rich_help_panel=STABILITY)
    ] = None,
    kelvin: Annotated[
        float | None,
        typer.Option(help="Temperature in K; default: 800.", min=1.0, max=20_000.0, rich_help_panel=STABILITY),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Number of trajectories; default: 8.", min=1, rich_help_panel=STABILITY)
    ] = None,
    driver: Annotated[
        Driver | None,
        typer.Option(
            help="rotate: the members take turns, each trajectory is driven by one member. mean: the committee's mean "
            "drives all trajectories. Default: rotate.",
            rich_help_panel=STABILITY,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure accuracy and stability of a campaign's models. The campaign may be running, and is not changed.

    Labels and trajectories are stored with the results: a second call with the same options reuses them.
    """
    from flows.evaluation.verb import evaluate as run_evaluation
    from flows.pages.display import Display

    options = {
        "system": system,
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
        say_error("interrupted; nothing finished is lost. Continue with the same command")
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    answer(result, text, as_json=as_json)
