"""`al-engine status`."""

from al_engine.errors import typed
from flows.cli.options import AsJson, Directory, answer
from flows.pages.terminal import plain_console


def status(directory: Directory, as_json: AsJson = False) -> None:
    """Show the state of a campaign, iteration by iteration. The campaign may be running."""
    from flows.pages.status import campaign_status, missing_remarks, remarks, status_table

    values = campaign_status(directory)
    if as_json:
        answer(values, "", as_json=True)
        return
    plain_console().print(status_table(values))
    lines = [*missing_remarks(values), *remarks(values)]
    if values["verdict"] is not None:
        lines.append(f"{values['verdict']}: {values['evidence']}")
    elif values["state"] == "running":
        lines.append(f"last finished part: {values['last_part']}")
    else:
        lines.append(f"continue with: al-engine resume {typed(directory)}")
    plain_console(soft_wrap=True).print("\n".join(lines))
