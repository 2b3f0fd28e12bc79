"""The results of many campaigns as a table in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.pages.display import number_text

HEAD = ("campaign", "verdict", "iterations", "frames", "acceptance, %", "test forces, meV/Å", "minutes")


def many_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each campaign (`flows.session.many.outcome`)."""
    lines = [HEAD, ("---", "---", *["---:"] * (len(HEAD) - 2))]
    for row in rows:
        acceptance = row["acceptance"]
        lines.append(
            (
                row["name"],
                row["verdict"].replace("|", "/"),
                str(row["iterations"]),
                str(row["frames"]),
                number_text(None if acceptance is None else 100 * acceptance, ".2f"),
                number_text(row["test_force_mae_mev_per_ang"]),
                f"{row['minutes']:.1f}",
            )
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
