"""Options that several commands share, and the functions that write their answers."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.pages.terminal import plain_console

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


def answer(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Write a command's answer to stdout: a JSON object, or text."""
    sys.stdout.write((json.dumps(data, indent=2) if as_json else text) + "\n")


def say_error(text: str) -> None:
    """Write a message to stderr."""
    plain_console(stderr=True, soft_wrap=True).print(text)
