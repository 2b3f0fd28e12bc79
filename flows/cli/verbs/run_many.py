"""`al-engine run-many`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from al_engine.errors import AlEngineError, ExitStatus
from flows.cli.options import AsJson, answer, say_error


def run_many(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="CSV", help="Table with the columns name, smiles, and if needed count, charge, unpaired_electrons."
        ),
    ],
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Folder of the campaign directories; default: runs/<name of the table>."),
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option("--at-once", help="Campaigns at a time, which share the cores; default: half the cores.", min=1),
    ] = None,
    preset: Annotated[
        Literal["quick", "standard", "paper"], typer.Option("--preset", help="Preset of the campaigns.")
    ] = "quick",
    as_json: AsJson = False,
) -> None:
    """Run a campaign for each molecule of a table; the same command continues all that have not ended."""
    from al_engine.cores import usable_cores
    from al_engine.files.atomic import write_file
    from flows.cockpit.server import ensure_server
    from flows.compute.devices import visible_gpus
    from flows.pages.many import many_table
    from flows.session.many import Runs, make_campaigns, outcome, read_table, verdict_status

    cores = usable_cores()
    at_once = at_once or max(1, cores // 2)
    rows = read_table(table)
    folder = directory or Path("runs") / table.stem
    directories = make_campaigns(rows, folder, preset=preset, workers=max(1, cores // at_once))
    ended = {each: int(status) for each in directories if (status := verdict_status(each)) is not None}
    server = ensure_server()  # once for all campaigns, and before Prefect is imported
    for remark in server.remarks:
        say_error(f"warning: {remark}")
    from flows.cockpit.publish_many import publish_table, table_key

    def results() -> list[dict[str, Any]]:
        return [outcome(each, ended.get(each)) for each in directories]

    def show(found: list[dict[str, Any]]) -> None:
        write_file(folder / "results.md", (many_table(found) + "\n").encode())
        try:
            publish_table(folder, found)
        except AlEngineError as error:
            say_error(f"warning: {error}")

    def say(campaign: Path, status: int) -> None:
        ended[campaign] = status
        found = results()
        show(found)
        verdict = found[directories.index(campaign)]["verdict"]
        say_error(f"{len(ended)} of {len(directories)} ended: {campaign.name}: {verdict}")

    done = f" ({len(ended)} have their verdict)" if ended else ""
    say_error(f"{len(directories)} campaigns in {folder}{done}, {at_once} at a time; Prefect: {server.ui_url}")
    say_error(f"their table: {folder / 'results.md'}, and {server.ui_url}/artifacts/key/{table_key(folder)}")
    show(results())
    try:
        Runs(at_once, gpus=visible_gpus()).run([each for each in directories if each not in ended], say)
    except KeyboardInterrupt:
        show(results())
        say_error("interrupted; nothing finished is lost. The same command continues the campaigns")
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    found = results()
    answer({"campaigns": found}, many_table(found), as_json=as_json)
    failed = [status for status in ended.values() if status not in (ExitStatus.DONE, ExitStatus.NOT_CONVERGED)]
    raise typer.Exit(failed[0] if failed else max(ended.values()))
