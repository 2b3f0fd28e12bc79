"""`al-engine deploy`."""

from typing import Annotated, Literal

import typer

from flows.cli.options import AsJson, Directory, answer, say_error


def deploy(
    directory: Directory,
    pool: Annotated[
        str, typer.Option("--pool", help="Work pool of Prefect that runs the campaign; made if it does not exist.")
    ] = "al-engine",
    kind: Annotated[
        Literal["process", "docker", "kubernetes", "slurm"],
        typer.Option("--type", help="Type of the work pool: where its worker starts the campaign."),
    ] = "process",
    image: Annotated[
        str | None, typer.Option("--image", help="Image for `docker` and `kubernetes`, such as al-engine:latest.")
    ] = None,
    claim: Annotated[
        str | None,
        typer.Option(
            "--claim",
            help="For `kubernetes`: volume claim with the campaign directory, mounted at the folder above it.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register a campaign as a Prefect deployment, which is started, paused and cancelled on Prefect's pages."""
    from dataclasses import asdict

    from flows.cockpit.server import ensure_server

    server = ensure_server()  # before Prefect is imported
    for remark in server.remarks:
        say_error(f"warning: {remark}")
    from flows.cockpit.deploy import deploy as register
    from flows.cockpit.deploy import next_steps

    deployed = register(directory, pool=pool, kind=kind, image=image, claim=claim)
    made = "made" if deployed.made_pool else "found"
    lines = [
        f"deployed as {deployed.name}, on {server.ui_url}/deployments; work pool {deployed.pool} {made}",
        *next_steps(deployed, kind, server.api_url),
    ]
    answer({**asdict(deployed), "ui": server.ui_url}, "\n".join(lines), as_json=as_json)
