"""`al-engine verify`."""

from typing import Annotated

import typer

from al_engine.errors import ExitStatus
from flows.cli.options import AsJson, Directory, answer


def verify(
    directory: Directory,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Set damaged files aside, and rebuild them where other files have their content. Nothing is deleted.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every hash, link and count of a campaign; the exit status is 5 if there is a problem."""
    from al_engine.campaign.audit.verify import verify as run_verification
    from flows.pages.display import Display

    with Display(quiet=as_json) as display, display.step("verifying") as progress:
        result, text = run_verification(directory, repaired=repair, progress=progress)
    answer(result, text, as_json=as_json)
    raise typer.Exit(ExitStatus.DONE if result["sound"] else ExitStatus.DAMAGED)
