"""`al-engine extend`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, Directory, answer


def extend(
    directory: Directory,
    new: Annotated[
        Path | None,
        typer.Argument(metavar="[NEW]", help="Directory of the extended campaign, for more temperatures or systems."),
    ] = None,
    iterations: Annotated[int | None, typer.Option(help="Number of further iterations.", min=1, max=1000)] = None,
    temperatures: Annotated[
        list[float] | None, typer.Option("--temperature", metavar="K", help="A further temperature; may be repeated.")
    ] = None,
    systems: Annotated[
        list[str] | None,
        typer.Option(
            "--system",
            metavar="YAML",
            help="A further system, such as '{name: dimer, smiles: CCO, molecules: 2}'; may be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a finished campaign: more iterations, temperatures or systems.

    More iterations are added to the campaign itself. With more temperatures or systems, a campaign in the directory NEW
    goes on with all labels, and its training starts from the newest committee.
    """
    from al_engine.campaign.ledger import Ledger
    from al_engine.errors import typed
    from flows.session.extend import extend as extended

    made = extended(directory, new, iterations=iterations, temperatures=temperatures or [], systems=systems or [])
    shown = typed(made.directory)
    lines = [f"{made.directory}: stops after at most {made.max_iterations} iterations"]
    if made.fork is not None:
        config = Ledger.open(made.directory).config
        kelvins = sorted({point.temperature_kelvin for point in config.state_points})
        lines = [
            f"wrote {made.directory}: it shares {made.fork.labels} labels as `data`",
            f"  temperatures: {', '.join(f'{kelvin:g}' for kelvin in kelvins)} K",
            *([f"  systems: {', '.join(config.by_system)}"] if config.systems else []),
            f"  stops after at most {made.max_iterations} iterations",
        ]
    if made.verdict is not None:
        lines.append(f"the verdict is still `{made.verdict.kind}`: {made.verdict.evidence}")
        lines.append(f"to go on, make the rules in the section `stop` of {made.directory}/campaign.yaml stricter")
    lines.append(f"next: `al-engine {'run' if made.fork else 'resume'} {shown}`")
    answer(
        {
            "directory": str(made.directory),
            "max_iterations": made.max_iterations,
            "labels_as_data": made.fork.labels if made.fork else 0,
            "verdict": None if made.verdict is None else str(made.verdict.kind),
        },
        "\n".join(lines),
        as_json=as_json,
    )
