"""The results of many campaigns as a table in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.pages.display import number_text

HEAD = ("campaign", "verdict", "iterations", "frames", "acceptance, %", "test forces, meV/Å", "minutes")


def many_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each campaign (`flows.session.many.outcome`), and below the table what went wrong.

    Prefect's pages break no lines in a table: an error in it would push all other columns out of sight.
    """
    lines = [HEAD, ("---", "---", *["---:"] * (len(HEAD) - 2)), *map(_cells, rows)]
    table = [f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in lines]
    wrong = [f"- {row['name']}: {row['verdict']}" for row in rows if ":" in row["verdict"]]
    return "\n".join([*table, *([""] if wrong else []), *wrong])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    acceptance = row["acceptance"]
    return (
        row["name"],
        row["verdict"].partition(":")[0].replace("_", " "),
        str(row["iterations"]),
        str(row["frames"]),
        number_text(None if acceptance is None else 100 * acceptance, ".2f"),
        number_text(row["test_force_mae_mev_per_ang"]),
        f"{row['minutes']:.1f}",
    )
