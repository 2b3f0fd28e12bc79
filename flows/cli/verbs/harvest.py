"""`al-engine harvest`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, Directory, answer


def harvest(
    directory: Directory,
    frames: Annotated[Path, typer.Argument(metavar="FRAMES", help="Structures, in a format that ASE reads.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="File for the labels; default: beside FRAMES, FRAMES.labels.h5.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Label structures with the method of a campaign, such as those at which a simulation stopped.

    The file of labels is `data` for a fork; the command to type is printed.
    """
    from al_engine.campaign.ledger import Ledger
    from al_engine.config.reader import setting_text, with_whole_paths
    from al_engine.errors import typed
    from flows.session.harvest import harvest as harvested

    target = output or frames.with_name(f"{frames.name}.labels.h5")
    result = harvested(directory, frames, target)
    lines = [f"frame {number}: not labelled: {reason}" for number, reason in result.failures.items()]
    lines.append(f"wrote {result.labelled} labels to {target}")
    if result.errors_mev_per_ang:
        lines.append(
            f"force error of the newest committee on the worst atom: {min(result.errors_mev_per_ang):.0f}-"
            f"{max(result.errors_mev_per_ang):.0f} meV/Å"
        )
    given = [item.model_dump(mode="json", exclude_defaults=True) for item in Ledger.open(directory).config.data]
    # the new value of the option takes the place of the old one; structures at which a simulation stopped are outliers
    added = {"file": str(target.resolve()), "keep_outliers": True}
    setting = setting_text("data", [*with_whole_paths(given, "data", folder=directory), added])
    lines.append(f"next: `al-engine fork {typed(directory)} NEW --set {setting}`")
    answer(
        {
            "output": str(target),
            "labelled": result.labelled,
            "failures": {str(number): reason for number, reason in result.failures.items()},
            "errors_mev_per_ang": list(result.errors_mev_per_ang),
        },
        "\n".join(lines),
        as_json=as_json,
    )
