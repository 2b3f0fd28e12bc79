"""Pages in Markdown: tables from result files, and below them a reading of the tables written by hand."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from al_engine.files.atomic import write_file

HERE = Path(__file__).resolve().parent
READING = "<!-- Written by hand after looking at the tables; the command keeps what stands below this line. -->"


def parser(description: str, *, name: str, data: Path) -> argparse.ArgumentParser:
    """A parser with the options of a command that keeps its runs in a folder and publishes a page.

    Args:
        description: Description of the command; only its first paragraph is shown.
        name: Name of the page and of the result file, without endings.
        data: Default of the folder.
    """
    result = argparse.ArgumentParser(
        description=description.split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    result.add_argument("--data", type=Path, default=data, help="folder of data and finished runs")
    result.add_argument("--output", type=Path, default=HERE, help=f"folder of {name}.md and results/{name}.json")
    result.add_argument("--report", action="store_true", help="run nothing, tabulate the finished runs")
    result.add_argument("--json", action="store_true", help="also print the result as JSON")
    return result


def reading_of(page: Path) -> str:
    """The part of a page that was written by hand; empty if the page does not exist."""
    return page.read_text(encoding="utf-8").partition(READING + "\n")[2] if page.is_file() else ""


def page(lines: Sequence[str], *, reading: str) -> str:
    """A page of generated lines and a reading written by hand."""
    return "\n".join([*lines, "", READING]) + "\n" + (reading or "\n")


def publish(result: Mapping[str, Any], markdown: Callable[..., str], *, output: Path, name: str) -> Path:
    """Write `results/NAME.json` and the page NAME.md, whose reading written by hand is kept; returns the page.

    Args:
        result: The result.
        markdown: Makes the page from a result and from its reading by hand (`reading`).
        output: Folder of the page, which has a folder `results`.
        name: NAME.
    """
    written = output / f"{name}.md"
    write_file(output / "results" / f"{name}.json", (json.dumps(result, indent=1) + "\n").encode())
    write_file(written, markdown(result, reading=reading_of(written)).encode())
    return written


def origin(about: Mapping[str, Any]) -> list[str]:
    """Command, date, machine and versions of a result, as items of a list."""
    return [
        f"- Command: `{about['command']}`, {about['date']}.",
        f"- Machine: {about['machine']}.",
        "- Versions: " + ", ".join(f"{name} {version}" for name, version in about["versions"].items()) + ".",
    ]


def spread(values: Sequence[float | None], digits: int) -> str:
    """Mean ± half the range of the values that are not None; without ± for a single value, empty for no value."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean, half = sum(known) / len(known), (max(known) - min(known)) / 2
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if len(known) > 1 else "")
