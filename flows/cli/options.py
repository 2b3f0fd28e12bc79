"""Options that several commands share, and the functions that write their answers."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.pages.terminal import plain_console

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Campaign directory.")]
Target = Annotated[Path, typer.Argument(metavar="TARGET", help="Campaign directory, or config file of a campaign.")]
RunDirectory = Annotated[
    Path | None,
    typer.Option("--dir", help="Campaign directory for a TARGET that is a config file; default: runs/<name>."),
]
Limit = Annotated[
    str | None,
    typer.Option(
        "--time-limit",
        metavar="DURATION",
        help="Stop after this wall-clock time, such as 7h50m, with exit status 4; `resume` continues. For batch queues "
        "that kill jobs at a time limit.",
    ),
]
Retry = Annotated[
    bool,
    typer.Option("--retry-failed-labels", help="First compute the labels again that failed in the newest iteration."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout, and nothing else.")]


def answer(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Write a command's answer to stdout: a JSON object, or text."""
    sys.stdout.write((json.dumps(data, indent=2) if as_json else text) + "\n")


def say_error(text: str) -> None:
    """Write a message to stderr."""
    plain_console(stderr=True, soft_wrap=True).print(text)
