"""`al-engine run` and `al-engine resume`."""

from typing import Any

import typer

from al_engine.errors import ExitStatus, typed
from flows.cli.options import AsJson, Directory, Limit, Retry, RunDirectory, Target, answer, say_error


def run(
    target: Target,
    directory: RunDirectory = None,
    time_limit: Limit = None,
    retry_failed_labels: Retry = False,
    as_json: AsJson = False,
) -> None:
    """Start a campaign, or continue it, until its verdict."""
    from flows.cli.time_limit import TimeLimit, parse_duration
    from flows.pages.display import Display
    from flows.session.prepare import prepare

    limit = TimeLimit(None if time_limit is None else parse_duration(time_limit))
    display = Display(quiet=as_json)
    try:
        with limit, display, display.step("checking") as progress:
            prepared = prepare(target, directory, progress=progress)
    except KeyboardInterrupt:
        if not limit.reached:
            raise
        say_error("the time limit is reached during the checks; nothing is lost. Run the command again")
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    _run(prepared, display, limit, retry=retry_failed_labels, as_json=as_json)


def resume(
    directory: Directory, time_limit: Limit = None, retry_failed_labels: Retry = False, as_json: AsJson = False
) -> None:
    """Continue a campaign from its directory, until its verdict."""
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
        say_error(f"{why}; nothing finished is lost. Continue with: al-engine resume {typed(directory)}")
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    text = [
        f"{verdict.kind.value}: {verdict.evidence}",
        f"data and models: {directory}/campaign.h5    iterations: al-engine status {typed(directory)}",
        f"in Python: from al_engine import load_committee; atoms.calc = load_committee({str(directory)!r})",
    ]
    answer(campaign_status(directory) if as_json else {}, "\n".join(text), as_json=as_json)
    raise typer.Exit(ExitStatus.DONE if verdict.kind is VerdictKind.CONVERGED else ExitStatus.NOT_CONVERGED)
