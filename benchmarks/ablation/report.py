"""The accuracy tables in Markdown, from the result files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation.liquids import LIQUIDS
from ablation.metrics import TAIL_ANG
from ablation.pairs import CONTACT_ANG
from ablation.variants import MIDDLE_ANG, SHORT_ANG
from pages import origin, page

USUAL_BUDGET_S = 180.0
Column = tuple[str, str, str, int]
"""A column of a table: heading, set, error, digits after the decimal point."""
INTRODUCTION = (
    "Models are trained on clusters cut from a liquid, and tested on other clusters, larger ones, periodic boxes and "
    "pairs of molecules. Labels: GFN2-xTB. Mean over seeds ± half their range; a value without ± is of a single seed. "
    "Errors are mean absolute errors, for vectors over components. The first row of the tables of errors is that of a "
    "model that predicts the mean energy and no forces."
)
SUMMARY = (
    "The table gives the error of `ms-mace` divided by the error of `mace` with the short cut-off, after the same "
    "training. A value below 1 says that two scales pay. In brackets: divided by the error of `mace` with 6 Å."
)
OURS, SHORT, MIDDLE = "ms-mace", f"mace, {SHORT_ANG:g} Å (long path off)", f"mace, {MIDDLE_ANG:g} Å"
COMPARED: Sequence[tuple[str, str, str]] = (
    ("F", "test", "force_mev_per_ang"),
    ("E", "test", "energy_mev_per_atom"),
    ("net F", "test", "net_force_mev_per_ang"),
    ("torque", "test", "torque_mev"),
    ("F, larger clusters", "large", "force_mev_per_ang"),
    ("pairs from contact on", "curves", "binding_mev"),
)
TRAINED = (
    "{train} training clusters of {molecules} molecules{mixed}; each variant is trained for {budget} (seeds {seeds}; "
    "`optimizer: {optimizer}`, learning rate {learning_rate:g})."
)
LARGER = (
    "{large} clusters of {large_molecules} molecules and {bulk} periodic boxes of {large_molecules}.{same_size} "
    "*centred* is the energy error after subtraction of its mean over the set. {periodic}"
)
SAME_SIZE = (
    " Training frames all hold {molecules} molecules, so their mean binding energy cannot be separated from the energy "
    "of the molecules."
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
GIVEN_RATE = "The learning rate is the same for all variants, and was given without a scan."
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


def result_name(result: Mapping[str, Any]) -> str:
    """Name of the file of a result: of its liquid, and of its training if that is not the usual one."""
    name = f"accuracy-{result['system']['name']}"
    if result["updates"]:
        return f"{name}-{result['updates']}u"
    return name if result["budget_s"] == USUAL_BUDGET_S else f"{name}-{result['budget_s']:g}s"


def results_in(folder: Path) -> list[dict[str, Any]]:
    """The results in a folder: liquid by liquid, the usual training first."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("accuracy-*.json"))]
    order = list(LIQUIDS)
    return sorted(found, key=lambda result: (order.index(result["system"]["name"]), result_name(result)))


def markdown(results: Sequence[Mapping[str, Any]], *, reading: str) -> str:
    """The page.

    Args:
        results: The contents of the result files.
        reading: Text written by hand, below the tables.
    """
    lines = ["# Accuracy", "", INTRODUCTION, "", SUMMARY, "", *_summary(results)]
    for result in results:
        lines += ["", *_section(result)]
    return page(lines, reading=reading)


def _summary(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table with a row for each result: the error of `ms-mace` divided by the error of `mace`."""
    lines = [
        "| liquid | training | " + " | ".join(title for title, *_ in COMPARED) + " |",
        "| --- | --- |" + " ---: |" * len(COMPARED),
    ]
    for result in results:
        errors = {row["variant"]: row["errors"] for row in _trained(result)}
        cells = []
        for _, name, error in COMPARED:
            values = [errors.get(variant, {}).get(name, {}).get(error, [None])[0] for variant in (OURS, SHORT, MIDDLE)]
            ratios = [None if None in (values[0], other) else values[0] / other for other in values[1:]]
            cells.append(f"{_number(ratios[0], 2)} ({_number(ratios[1], 2)})" if any(ratios) else "")
        system = result["system"]
        lines.append(f"| {system['title']} ({system['polarity']}) | {_training(result)} | " + " | ".join(cells) + " |")
    return lines


def _training(result: Mapping[str, Any]) -> str:
    if result["updates"]:
        return f"{result['updates']} updates on {result['device']}"
    return f"about {result['budget_s']:g} CPU seconds on one core"


def _section(result: Mapping[str, Any]) -> list[str]:
    """The tables of a result."""
    sizes = result["data"]["sizes"]
    same_size = not (sizes.get("small") or sizes.get("pairs"))
    words = {
        **sizes,
        "temperatures": ", ".join(f"{kelvin:g}" for kelvin in result["data"]["test_kelvin"]) + " K",
        "seeds": ", ".join(str(seed) for seed in result["seeds"]),
        "budget": _training(result),
        "learning_rate": result["learning_rate"],
        "mixed": "" if same_size else f", {sizes['small']} of them smaller, and {sizes['pairs']} pairs",
        "same_size": SAME_SIZE.format(**sizes) if same_size else "",
        "contact": CONTACT_ANG,
        "optimizer": result["optimizer"],
        "tail": TAIL_ANG,
        "periodic": _periodic(result["periodic"]),
    }
    lines = [f"## {result['system']['title']}, {_training(result)}", "", TRAINED.format(**words), "", *_costs(result)]
    for title, text, columns in TABLES:
        present = [column for column in columns if column[1] in result["magnitudes"]]
        if present:
            lines += [f"### {title}", "", text.format(**words), "", *_table(result, present), ""]
    return [*lines, "### How", "", *(f"- {line}" for line in _method(result)), *origin(result["about"])]


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
    tried = result["rates"]["validation_loss"]
    losses = "; ".join(
        f"{entry['rate']:g}: "
        + ", ".join(f"`{name}` {_number(loss, 3) or 'diverged'}" for name, loss in entry.items() if name != "rate")
        for entry in tried
    )
    return [
        result["data"]["description"],
        SCAN.format(share=result["rates"]["share"], losses=losses) if tried else GIVEN_RATE,
        *([] if result["updates"] else [UPDATES.format(timed_updates=result["timed_updates"])]),
        *_missing(result),
        f"Every variant's config, every seed's errors: `results/{result_name(result)}.json`.",
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
