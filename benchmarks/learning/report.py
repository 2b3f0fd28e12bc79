"""The learning curves in Markdown, from the result file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learning.strategies import MEANING
from pages import origin, page, spread
from result_tables import table

INTRODUCTION = (
    "Is active selection of labels worth its cost? {molecules}, a single molecule each: a fixed pool of {pool} frames "
    "of molecular dynamics by GFN2-xTB at {kelvins} K, all labelled. From {start} frames drawn at random, each "
    "strategy adds {step} frames per round. In each round the committee of {members} is trained for {updates} more "
    "updates per member, from the weights of the round before. All strategies of a repeat begin with the same frames "
    "and the same committee. Errors of the committee's mean on {test} frames of other trajectories; mean ± half the "
    "range over {repeats} repeats."
)
RATIO = (
    "Force MAE relative to `random` of the same repeat at the same number of labels (below 1: better), and the number "
    "of labels that `random` needs to reach the final error of the strategy, from its mean curve."
)
FORCE, TAIL = "force_mev_per_ang", ("force_p95_mev_per_ang", "force_max_mev_per_ang")
METRICS = (
    ("Forces", "force_mev_per_ang", "Mean absolute error of force components, meV/Å.", 1),
    ("Tail of the force errors", "force_p95_mev_per_ang", "95th percentile of the error of an atom's force, meV/Å.", 0),
    ("Energies", "energy_mev_per_atom", "Mean absolute error of the energy, meV/atom.", 2),
)


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page.

    Args:
        result: The content of the result file.
        reading: Text written by hand, below the tables.
    """
    plan, sizes, about = result["plan"], result["sizes"], result["about"]
    kelvins = result["kelvins"]
    words = {
        **plan,
        "molecules": " and ".join(result["molecules"]),
        "pool": len(kelvins) * sizes["pool"],
        "test": len(kelvins) * sizes["test"],
        "kelvins": ", ".join(f"{kelvin:g}" for kelvin in kelvins),
        "members": result["members"],
        "repeats": len(result["repeats"]),
    }
    lines = ["# Learning curves", "", INTRODUCTION.format(**words), ""]
    lines += [f"- `{name}`: {meaning}." for name, meaning in MEANING.items()]
    window = "{lower_mev_per_ang:g} to {upper_mev_per_ang:g} meV/Å".format(**result["window"])
    lines += [
        "",
        f"The window is {window}; if it has fewer than {plan['step']} frames it is widened, the lower end first.",
    ]
    for name, strategies in result["molecules"].items():
        lines += ["", f"## {name}", *_molecule(strategies, result)]
    lines += ["", "## How", "", *_method(result), *origin(about)]
    return page(lines, reading=reading)


def labels_needed(labels: Sequence[float], errors: Sequence[float], error: float) -> float | None:
    """Number of labels at which a falling curve reaches an error, interpolated linearly in both logarithms.

    Args:
        labels: Numbers of labels, ascending, shape (P,).
        errors: Errors at these numbers, shape (P,); each is replaced by the smallest error up to its number.
        error: The error to reach.

    Returns:
        The number of labels, at least the first; None if the curve does not reach the error.
    """
    best = np.minimum.accumulate(np.asarray(errors, dtype=float))
    if error < best[-1]:
        return None
    if error >= best[0]:
        return float(labels[0])
    return float(np.exp(np.interp(-np.log(error), -np.log(best), np.log(labels))))


def _molecule(strategies: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    labels = result["labels"]
    lines: list[str] = []
    for title, metric, meaning, digits in METRICS:
        rows = [
            [name, *(spread([run["errors"]["all"][metric] for run in runs], digits) for runs in rounds)]
            for name, rounds in strategies.items()
        ]
        lines += ["", f"{title}. {meaning}", "", table(["labels", *map(str, labels)], rows)]
    shown = "force MAE; 95th percentile and largest error (means); meV/Å."
    lines += ["", f"By temperature at {labels[-1]} labels: {shown}", ""]
    groups = [f"{kelvin:g}" for kelvin in result["kelvins"]]
    rows = [
        [name, *(_of_group(rounds[-1], group) for group in groups), *(_tail(rounds[-1], group) for group in groups)]
        for name, rounds in strategies.items()
    ]
    lines.append(table(["", *(f"{group} K" for group in groups), *(f"{group} K: 95 %, max" for group in groups)], rows))
    if "random" in strategies:
        lines += ["", RATIO, "", _against_random(strategies, result)]
    lines += ["", "Number of unlabelled frames of the pool in the window, before the selection of:", ""]
    rows = [
        [name, *(spread([run["in_window"] for run in runs], 0) for runs in rounds[1:])]
        for name, rounds in strategies.items()
        if rounds[-1][0]["in_window"] is not None
    ]
    lines.append(table(["labels", *(str(count) for count in labels[1:])], rows))
    return lines


def _of_group(runs: Sequence[Mapping[str, Any]], group: str) -> str:
    return spread([run["errors"][group][FORCE] for run in runs], 1)


def _tail(runs: Sequence[Mapping[str, Any]], group: str) -> str:
    means = (np.mean([run["errors"][group][name] for run in runs]) for name in TAIL)
    return " / ".join(f"{mean:.0f}" for mean in means)


def _ratio(runs: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], group: str) -> str:
    """Force MAE relative to that of other runs, repeat by repeat."""
    pairs = zip(runs, others, strict=True)
    return spread([run["errors"][group][FORCE] / other["errors"][group][FORCE] for run, other in pairs], 2)


def _mean_error(runs: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([run["errors"]["all"][FORCE] for run in runs]))


def _against_random(strategies: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    labels, hottest = result["labels"], f"{max(result['kelvins']):g}"
    baseline = strategies["random"]
    curve = [_mean_error(runs) for runs in baseline]
    rows = []
    for name, rounds in strategies.items():
        if name != "random":
            needed = labels_needed(labels, curve, _mean_error(rounds[-1]))
            ratios = [_ratio(runs, others, "all") for runs, others in zip(rounds[1:], baseline[1:], strict=True)]
            hot = _ratio(rounds[-1], baseline[-1], hottest)
            rows.append([name, *ratios, hot, f"> {labels[-1]}" if needed is None else f"{needed:.0f}"])
    head = [*(str(count) for count in labels[1:]), f"{labels[-1]}, {hottest} K", "`random` needs"]
    return table(["labels", *head], rows)


def _method(result: Mapping[str, Any]) -> list[str]:
    sizes, model = result["sizes"], result["model"]
    pool = f"a frame every {sizes['pool_stride_fs']:g} fs after {sizes['settle_fs']:g} fs"
    width = f"{model['short']['channels']} channels, l {model['short']['l_max']}"
    seconds = "; ".join(f"{name}: {spread(values, 0)}" for name, values in result["seconds_per_round"].items())
    test = f"the same number of other trajectories, a frame every {sizes['test_stride_fs']:g} fs"
    return [
        f"- Pool: {sizes['replicas']} trajectories at each temperature, {pool}; test set: {test}.",
        "- Labels: GFN2-xTB by tblite.",
        f"- Model: {model['kind']}, cut-off {model['short']['cutoff_ang']:g} Å, {width}.",
        f"- CPU seconds of a round, for selection and training of all members: {seconds}.",
        "- Every run's errors: `results/learning-curves.json`.",
    ]
