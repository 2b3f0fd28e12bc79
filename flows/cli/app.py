"""The command line. Heavy imports happen inside the commands, so that `--help` is instant."""

import json
import logging
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from al_engine.errors import AlEngineError, ExitStatus, InputError, typed
from al_engine.files.atomic import BROKEN, DISK_FULL, REFUSED
from flows.pages.terminal import in_utf8, plain_console, write_readably

TYPER_INTERRUPTED = 130
"""Exit status that typer makes of a Ctrl-C."""
app = typer.Typer(
    name="al-engine",
    help="From a molecule to a machine-learning force field, by active learning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Preset(StrEnum):
    """Starting points of `init`: the keys of `al_engine.config.presets.PRESETS`."""

    QUICK = "quick"
    STANDARD = "standard"
    PAPER = "paper"


class Shape(StrEnum):
    """What `init` makes of the molecules."""

    CLUSTER = "cluster"
    BOX = "box"


class Evaluation(StrEnum):
    """What `evaluate` does: the keys of `flows.evaluation.verb.OPTIONS`."""

    ERRORS = "errors"
    BOND_LENGTH = "bond-length"
    STABILITY = "stability"


class Whole(StrEnum):
    """Whose bonds `evaluate --what bond-length` stretches."""

    SYSTEM = "system"
    MOLECULE = "molecule"


class Driver(StrEnum):
    """What moves the atoms in `evaluate --what stability`."""

    ROTATE = "rotate"
    MEAN = "mean"


class ExportFormat(StrEnum):
    """Formats of `export`."""

    EXTXYZ = "extxyz"


Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Campaign directory.")]
Target = Annotated[Path, typer.Argument(metavar="TARGET", help="Campaign directory, or config file.")]
RunDirectory = Annotated[
    Path | None, typer.Option("--dir", help="Where the campaign of a config file lives; default runs/<name>.")
]
Limit = Annotated[
    str | None,
    typer.Option(
        "--time-limit",
        metavar="DURATION",
        help="Stop after so long on the clock, such as 7h50m, and exit with 4, to be resumed: for queues that kill.",
    ),
]
Retry = Annotated[
    bool,
    typer.Option("--retry-failed-labels", help="Compute labels again that failed in the newest iteration, first."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


@app.command()
def init(
    directory: Directory,
    smiles: Annotated[str | None, typer.Option(help="SMILES of one molecule.")] = None,
    structure: Annotated[Path | None, typer.Option(help="Structure file that ASE reads.")] = None,
    molecules: Annotated[int, typer.Option(help="Copies of the molecule.")] = 1,
    charge: Annotated[int | None, typer.Option(help="Total charge; default: from the SMILES or the file.")] = None,
    unpaired_electrons: Annotated[int | None, typer.Option("--unpaired-electrons", help="Unpaired electrons.")] = None,
    shape: Annotated[Shape | None, typer.Option(help="cluster, or a periodic box; default: cluster.")] = None,
    density: Annotated[float | None, typer.Option(help="Density of a box, g/cm³.")] = None,
    elements: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=ELEMENT,...",
            help="Elements by the file's names or types of atoms, such as OW=O,HW1=H or 1=O,2=H.",
        ),
    ] = None,
    structure_frame: Annotated[
        int | None, typer.Option("--structure-frame", help="Which structure of a file of several; -1: the last.")
    ] = None,
    preset: Annotated[Preset, typer.Option(help="Starting point.")] = Preset.STANDARD,
    name: Annotated[str | None, typer.Option(help="Name of the campaign; default: made from DIR's name.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="Campaign or file of models to start training from; sets `model` to theirs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write DIR/campaign.yaml, every option with its description."""
    from flows.cli.init import init_campaign
    from flows.pages.display import Display

    system = {
        "smiles": smiles,
        "molecules": molecules,
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
    _answer(
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


def _pairs(text: str | None) -> dict[str, str] | None:
    """`OW=O,HW1=H` as a mapping.

    Raises:
        InputError: If it is none.
    """
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(name.strip() and sign and element.strip() for name, sign, element in pairs):
        raise InputError(f"--elements: got {text!r}; it takes NAME=ELEMENT,NAME=ELEMENT,... such as OW=O,HW1=H")
    return {name.strip(): element.strip() for name, _, element in pairs}


@app.command()
def check(target: Target, as_json: AsJson = False) -> None:
    """Validate, look at the machine, say what the campaign will cost; changes nothing."""
    from flows.cli.check import check_text, measure_cost
    from flows.pages.display import Display
    from flows.session.preflight import preflight
    from flows.session.prepare import load_target

    config, base_dir = load_target(target)
    with Display(quiet=as_json) as display:
        with display.step("checking") as progress:
            checked = preflight(config, base_dir=base_dir, progress=progress)
        with display.step("measuring") as progress:
            cost = measure_cost(checked, progress)
    answer = {
        "target": str(target),
        "campaign": config.name,
        "level_of_theory": checked.level.to_dict(),
        "initial_source": checked.config.initial.source,
        "notes": list(checked.notes),
        **cost.to_dict(),
    }
    _answer(answer, f"{target} is valid\n{check_text(checked, cost)}", as_json=as_json)


@app.command()
def run(
    target: Target,
    directory: RunDirectory = None,
    time_limit: Limit = None,
    retry_failed_labels: Retry = False,
    as_json: AsJson = False,
) -> None:
    """Start a campaign, or continue it, to its verdict."""
    from flows.cli.time_limit import TimeLimit, parse_duration
    from flows.pages.display import Display
    from flows.session.prepare import prepare

    limit = TimeLimit(None if time_limit is None else parse_duration(time_limit))
    display = Display(quiet=as_json)
    with display, display.step("checking") as progress:
        prepared = prepare(target, directory, progress=progress)
    _run(prepared, display, limit, retry=retry_failed_labels, as_json=as_json)


@app.command()
def resume(
    directory: Directory, time_limit: Limit = None, retry_failed_labels: Retry = False, as_json: AsJson = False
) -> None:
    """Continue a campaign from its directory."""
    from al_engine.campaign.ledger import Ledger
    from flows.cli.time_limit import TimeLimit, parse_duration
    from flows.pages.display import Display
    from flows.session.prepare import Prepared

    limit = TimeLimit(None if time_limit is None else parse_duration(time_limit))
    prepared = Prepared(Ledger.open(directory))
    _run(prepared, Display(quiet=as_json), limit, retry=retry_failed_labels, as_json=as_json)


def _run(prepared: Any, display: Any, limit: Any, *, retry: bool, as_json: bool) -> None:
    from al_engine.verdict.verdict import VerdictKind
    from flows.cockpit.launch import run_campaign
    from flows.pages.status import campaign_status

    directory = prepared.ledger.directory
    try:
        with limit:
            verdict = run_campaign(prepared, display, retry=retry)
    except KeyboardInterrupt:
        why = "the time limit is reached" if limit.reached else "interrupted"
        _error(f"{why}; nothing finished is lost. Go on with: al-engine resume {typed(directory)}")
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    text = [
        f"{verdict.kind.value}: {verdict.evidence}",
        f"data and models: {directory}/campaign.h5    iterations: al-engine status {typed(directory)}",
        f"in Python: from al_engine import load_committee; atoms.calc = load_committee({str(directory)!r})",
    ]
    _answer(campaign_status(directory) if as_json else {}, "\n".join(text), as_json=as_json)
    raise typer.Exit(ExitStatus.DONE if verdict.kind is VerdictKind.CONVERGED else ExitStatus.NOT_CONVERGED)


@app.command()
def status(directory: Directory, as_json: AsJson = False) -> None:
    """Where a campaign stands, iteration by iteration; also while it runs."""
    from flows.pages.status import campaign_status, missing_remarks, remarks, status_table

    state = campaign_status(directory)
    if as_json:
        _answer(state, "", as_json=True)
        return
    plain_console().print(status_table(state))
    lines = [*missing_remarks(state), *remarks(state)]
    if state["verdict"] is not None:
        lines.append(f"{state['verdict']}: {state['evidence']}")
    elif state["state"] == "running":
        lines.append(f"last finished: {state['last_part']}")
    else:
        lines.append(f"go on with: al-engine resume {typed(directory)}")
    plain_console(soft_wrap=True).print("\n".join(lines))


BOND_LENGTH, STABILITY = "Options of --what bond-length", "Options of --what stability"


@app.command()
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
        answer, text = run_evaluation(
            directory, what.value, iteration=iteration, output=output, options=options, display=display
        )
    except KeyboardInterrupt:
        _error("interrupted; what is finished is kept, the same command goes on")
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    _answer(answer, text, as_json=as_json)


@app.command()
def verify(
    directory: Directory,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Rebuild what other parts still have, put what is damaged aside; nothing is deleted."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every hash, link and count of a campaign; exit status 2 if something is wrong."""
    from al_engine.campaign.audit.verify import verify as run_verification
    from flows.pages.display import Display

    with Display(quiet=as_json) as display, display.step("verifying") as progress:
        answer, text = run_verification(directory, repaired=repair, progress=progress)
    _answer(answer, text, as_json=as_json)
    raise typer.Exit(ExitStatus.DONE if answer["sound"] else ExitStatus.BAD_INPUT)


@app.command()
def export(
    directory: Directory,
    to: Annotated[ExportFormat, typer.Option("--to", help="Format.")],
    output: Annotated[Path, typer.Option("--output", help="File to write.")],
    as_json: AsJson = False,
) -> None:
    """Hand the labelled frames to other programs."""
    from al_engine.campaign.export import export_extxyz

    count = export_extxyz(directory, output)
    _answer(
        {"output": str(output), "format": to.value, "frames": count}, f"{count} frames in {output}", as_json=as_json
    )


@app.command()
def ui(as_json: AsJson = False) -> None:
    """Find or start the Prefect server on this machine, and say where its pages are."""
    from flows.cockpit.server import ensure_server

    server = ensure_server()
    for remark in server.remarks:
        _error(f"warning: {remark}")
    _answer({"ui": server.ui_url, "started": server.started}, server.ui_url, as_json=as_json)


def _answer(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    sys.stdout.write((json.dumps(data, indent=2) if as_json else text) + "\n")


def _error(text: str) -> None:
    plain_console(stderr=True, soft_wrap=True).print(text)


def _terminate(signal_number: int, frame: object) -> None:
    """SIGTERM, which queues send, ends a campaign as Ctrl-C does."""
    del signal_number, frame
    raise KeyboardInterrupt


def _interrupted() -> NoReturn:
    _error("interrupted; nothing finished is lost. The same command goes on, or al-engine resume")
    sys.exit(ExitStatus.INTERRUPTED)


def main() -> None:
    """Run the command line; every foreseen error is one message and an exit status."""
    in_utf8()
    write_readably()
    signal.signal(signal.SIGTERM, _terminate)
    logging.captureWarnings(capture=True)
    try:
        app()
    except AlEngineError as error:
        _error(f"error: {error}")
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as error:
        if error.code == TYPER_INTERRUPTED:  # outside of what a command itself guards
            _interrupted()
        raise
    except BrokenPipeError:
        sys.exit(ExitStatus.DONE)
    except OSError as error:
        if error.errno in (*BROKEN, *DISK_FULL):  # a disk that failed in the middle of a file, wherever that was
            _error(f"error: {error}. Nothing finished is lost: see to the disk, then resume")
            sys.exit(ExitStatus.INTERRUPTED)
        if error.errno in REFUSED and isinstance(error.filename, str | bytes):
            _error(f"error: {os.fsdecode(error.filename)}: {error.strerror}; name another path, or change this one")
            sys.exit(ExitStatus.BAD_INPUT)
        raise


if __name__ == "__main__":
    main()
