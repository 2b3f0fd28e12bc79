"""The accuracy tables in Markdown, from the result file."""

from collections.abc import Mapping, Sequence
from typing import Any

from ablation.metrics import TAIL_ANG
from ablation.pairs import CONTACT_ANG
from pages import origin, page

Column = tuple[str, str, str, int]
"""A column of a table: heading, set, error, digits after the decimal point."""
INTRODUCTION = (
    "C12F27N, GFN2-xTB: {train} training clusters of {molecules} molecules; each variant is trained for {budget} "
    "(seeds {seeds}; learning rate {learning_rate:g}). Mean over seeds ± half their range; a value without ± is"
    " of a single seed. Errors are mean absolute errors, for vectors over components. The first row of the tables of "
    "errors is that of a model that predicts the mean energy and no forces."
)
LARGER = (
    "{large} clusters of {large_molecules} molecules and {bulk} periodic boxes of {large_molecules}. Training frames "
    "all hold {molecules} molecules, so their mean binding energy cannot be separated from the energy of the "
    "molecules; *centred* is the energy error after subtraction of its mean over the set. {periodic}"
)
PERIODIC = (
    "Labels of boxes are tblite's periodic GFN2-xTB, which does not continue that of open clusters: the energy of a "
    "single molecule in a cubic cell is higher than in vacuum by {shifts}. This falls about as one over the volume, "
    "and at a box's volume per molecule would be {extrapolated:.0f} meV/atom. The mean energy of the boxes and part of "
    "their forces are therefore no fair test of models of open clusters; *centred* is."
)
CURVES = (
    "{curves} pairs of rigid conformers, turned at random; energies relative to 15 Å beyond contact (closest atoms "
    "{contact:g} Å apart). Errors in meV per pair: inside contact (by 0.2 to 0.8 Å), at and beyond contact, from "
    "{tail:g} Å beyond contact on, and of the well."
)
SCAN = (
    "The learning rate is the same for all variants. Of the rates tried with {share:.0%} of the budget and another "
    "seed, it has the lowest geometric mean of the validation losses (eV²): {losses}."
)
UPDATES = (
    "The number of updates is fixed before training, as the cosine schedule needs it: the budget divided by the time "
    "of an update, measured over {timed_updates} updates."
)
TABLES: Sequence[tuple[str, str, Sequence[Column]]] = (
    (
        "Test clusters",
        "{test} clusters of {molecules} molecules from other boxes, {temperatures}.",
        (
            ("E meV/atom", "test", "energy_mev_per_atom", 2),
            ("F meV/Å", "test", "force_mev_per_ang", 1),
            ("net F on a molecule, meV/Å", "test", "net_force_mev_per_ang", 1),
            ("torque on a molecule, meV", "test", "torque_mev", 0),
        ),
    ),
    (
        "Larger systems",
        LARGER,
        (
            ("clusters: E meV/atom", "large", "energy_mev_per_atom", 2),
            ("centred", "large", "energy_centred_mev_per_atom", 2),
            ("F meV/Å", "large", "force_mev_per_ang", 1),
            ("net F meV/Å", "large", "net_force_mev_per_ang", 1),
            ("boxes: E meV/atom", "bulk", "energy_mev_per_atom", 2),
            ("centred", "bulk", "energy_centred_mev_per_atom", 2),
            ("F meV/Å", "bulk", "force_mev_per_ang", 1),
            ("net F meV/Å", "bulk", "net_force_mev_per_ang", 1),
        ),
    ),
    (
        "Two molecules along their separation",
        CURVES,
        (
            ("inside contact", "curves", "wall_mev", 1),
            ("from contact on", "curves", "binding_mev", 1),
            (f"from {TAIL_ANG:g} Å on", "curves", "tail_mev", 1),
            ("well depth", "curves", "depth_mev", 1),
            ("well position, Å", "curves", "position_ang", 2),
        ),
    ),
)


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page.

    Args:
        result: The content of the result file.
        reading: Text written by hand, below the tables.
    """
    about, sizes = result["about"], result["data"]["sizes"]
    words = {
        **sizes,
        "temperatures": ", ".join(f"{kelvin:g}" for kelvin in result["data"]["test_kelvin"]) + " K",
        "seeds": ", ".join(str(seed) for seed in result["seeds"]),
        "budget": f"{result['updates']} updates on {result['device']}"
        if result["updates"]
        else f"about {result['budget_s']:g} CPU seconds on one core",
        "learning_rate": result["learning_rate"],
        "contact": CONTACT_ANG,
        "tail": TAIL_ANG,
        "periodic": _periodic(result["periodic"]),
    }
    lines = [
        "# Accuracy",
        "",
        INTRODUCTION.format(**words),
        "",
        *_costs(result),
    ]
    for title, text, columns in TABLES:
        present = [column for column in columns if column[1] in result["magnitudes"]]
        if present:
            lines += [f"## {title}", "", text.format(**words), "", *_table(result, present), ""]
    lines += [
        "## How",
        "",
        *(f"- {line}" for line in _method(result)),
        *origin(about),
    ]
    return page(lines, reading=reading)


def _periodic(measured: Mapping[str, Any]) -> str:
    if not measured:
        return ""
    said = [f"{1000 * shift:.1f} meV (side {float(side):g} Å)" for side, shift in measured["shift_ev"].items()]
    return PERIODIC.format(shifts=", ".join(said), extrapolated=measured["extrapolated_mev_per_atom"])


def _costs(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "| variant | weights | updates | training, CPU s | E+F of a test cluster, CPU ms |",
        "| --- |" + " ---: |" * 4,
    ]
    for row in _trained(result):
        facts = [run["facts"] for run in row["runs"]]
        seconds = sum(fact["seconds"] for fact in facts) / len(facts)
        lines.append(
            f"| {row['variant']} | {facts[0]['weights']} | {facts[0]['updates']} | {seconds:.0f} "
            f"| {_number(row['evaluation_ms'], 1)} |"
        )
    return [*lines, ""]


def _table(result: Mapping[str, Any], columns: Sequence[Column]) -> list[str]:
    lines = ["| variant | " + " | ".join(c[0] for c in columns) + " |", "| --- |" + " ---: |" * len(columns)]
    magnitudes = [_number(result["magnitudes"][name].get(error), digits) for _, name, error, digits in columns]
    lines.append("| *none* | " + " | ".join(magnitudes) + " |")
    for row in _trained(result):
        cells = [
            _number(row["errors"][name][error][0], digits)
            + (f" ± {row['errors'][name][error][1]:.{digits}f}" if len(row["runs"]) > 1 else "")
            for _, name, error, digits in columns
        ]
        lines.append(f"| {row['variant']} | " + " | ".join(cells) + " |")
    return lines


def _trained(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in result["variants"] if row["runs"]]


def _missing(result: Mapping[str, Any]) -> list[str]:
    """Lines on variants that were not trained, and on seeds that diverged."""
    lines = []
    untrained = [f"`{row['variant']}`" for row in result["variants"] if not (row["runs"] or row["failed"])]
    diverged = [
        f"`{row['variant']}` ({len(row['failed'])} of the seeds)" for row in result["variants"] if row["failed"]
    ]
    if untrained:
        lines.append(f"Not trained yet: {', '.join(untrained)}.")
    if diverged:
        lines.append(f"Diverged: {', '.join(diverged)}.")
    return lines


def _method(result: Mapping[str, Any]) -> list[str]:
    rates = result["rates"]
    losses = "; ".join(
        f"{entry['rate']:g}: "
        + ", ".join(f"`{name}` {_number(loss, 3) or 'diverged'}" for name, loss in entry.items() if name != "rate")
        for entry in rates["validation_loss"]
    )
    return [
        result["data"]["description"],
        SCAN.format(share=rates["share"], losses=losses),
        *([] if result["updates"] else [UPDATES.format(timed_updates=result["timed_updates"])]),
        *_missing(result),
        "Every variant's config, every seed's errors: `results/accuracy.json`.",
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
