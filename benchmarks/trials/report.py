"""The comparison of campaigns in Markdown, from the result file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pages import origin, page, spread
from result_tables import table
from trials.variants import BASE, DRIVER, SECTIONS, STRETCHING, WARM

Run = Mapping[str, Any]
INTRODUCTION = (
    "Campaigns on ethanol that differ in a single option: {iterations} iterations, from {frames} frames of the "
    "classical anneal, up to {max_labels} new labels per iteration, {updates} updates of each of four members in the "
    "first iteration, {replicas} replicas at each of four temperatures for {steps} steps. No campaign stops early. "
    "Test errors are those of the committee's mean on {test} frames of molecular dynamics by GFN2-xTB at {kelvins} K, "
    "which no campaign uses. Mean ± half the range over {seeds} seeds. Columns are iterations."
)
PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class Quantity:
    """A table: its title, the function of a run and an iteration that gives a value, digits after the decimal point."""

    title: str
    value: Callable[[Run, int], float | None]
    digits: int


def _recorded(name: str, factor: float = 1.0) -> Callable[[Run, int], float | None]:
    """A value of the campaign's own record of an iteration, times a factor."""

    def value(run: Run, iteration: int) -> float | None:
        found = run["iterations"][iteration][name]
        return None if found is None else factor * found

    return value


def _tested(name: str) -> Callable[[Run, int], float | None]:
    """A value of the committee on the test set."""
    return lambda run, iteration: run["iterations"][iteration]["test"][name]


def _error(name: str, group: str = "all") -> Callable[[Run, int], float | None]:
    """An error of the committee on the test set."""
    return lambda run, iteration: run["iterations"][iteration]["test"]["errors"][group][name]


def _cost(*stages: str) -> Callable[[Run, int], float | None]:
    """CPU seconds of stages, summed."""
    return lambda run, iteration: sum(run["costs"].get(f"{iteration}/{stage}", 0.0) for stage in stages)


ACCEPTANCE = Quantity("Acceptance, %", _recorded("acceptance", PERCENT), 2)
REJECTED = Quantity("Rejected frames, %", _recorded("rejected_share", PERCENT), 2)
STOPPED = Quantity("Trajectories stopped, %", _recorded("stopped_share", PERCENT), 1)
LABELS = Quantity("Labels in total, after the iteration", _recorded("dataset_size"), 0)
BEFORE = Quantity("Force error before training, meV/Å", _recorded("error_before_training_mev_per_ang"), 1)
FORCES = Quantity("Test force MAE, meV/Å", _error("force_mev_per_ang"), 1)
TAIL = Quantity("95th percentile of the test forces' errors, meV/Å", _error("force_p95_mev_per_ang"), 0)
ENERGIES = Quantity("Test energy MAE, meV/atom", _error("energy_mev_per_atom"), 2)
DEVIATION = Quantity("Deviation on the test set, median, meV/Å", _tested("deviation_mev_per_ang"), 0)
CALIBRATION = Quantity(
    "True error of the worst atom divided by the deviation, median", _tested("error_over_deviation"), 2
)
RANK = Quantity("Rank correlation of deviation and true error", _tested("rank_correlation"), 2)
TRAINING = Quantity("Training, CPU s", _cost("train"), 1)
SAMPLING = Quantity("Sampling, CPU s", _cost("sample"), 1)
SHOWN: Mapping[str, Sequence[Quantity]] = {
    WARM: (ACCEPTANCE, BEFORE, FORCES, ENERGIES, DEVIATION, CALIBRATION, RANK, LABELS, TRAINING),
    DRIVER: (ACCEPTANCE, REJECTED, STOPPED, BEFORE, FORCES, TAIL, SAMPLING),
    STRETCHING: (ACCEPTANCE, STOPPED, BEFORE, FORCES, TAIL),
}
"""Tables of each section, by its title."""
STRETCHED = (
    "Errors of the first committee, which is trained only on the initial set, and of the last committee. A bond of "
    "each kind is stretched in {frames} test frames to {points} lengths (in units of the equilibrium length), with new "
    "labels. Stability: {steps} Langevin steps ({picoseconds:g} ps) at {kelvin:g} K of {replicas} replicas, fewer than "
    "the 50,000 steps of `al-engine evaluate`; the number of replicas that reached the end, and in brackets the number "
    "that collapsed (a bond length changed by 5 Å)."
)


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page.

    Args:
        result: The content of the result file.
        reading: Text written by hand, below the tables.
    """
    plan, about = result["plan"], result["about"]
    kelvins = ", ".join(f"{kelvin:g}" for kelvin in result["kelvins"])
    words = {**plan, "test": result["test_frames"], "kelvins": kelvins, "seeds": len(result["seeds"])}
    lines = ["# Campaigns", "", INTRODUCTION.format(**words)]
    for title, variants in SECTIONS.items():
        present = [name for name in variants if name in result["variants"]]
        if len(present) > 1:
            lines += ["", f"## {title}", *_section(title, present, result)]
            if title == STRETCHING:
                lines += ["", *_stretching(present, result)]
    lines += ["", "## How", "", *_method(result), *origin(about)]
    return page(lines, reading=reading)


def _section(title: str, names: Sequence[str], result: Mapping[str, Any]) -> list[str]:
    iterations = range(result["plan"]["iterations"])
    lines: list[str] = []
    for quantity in SHOWN[title]:
        rows = [
            [
                name,
                *(
                    spread([quantity.value(run, k) for run in result["variants"][name]], quantity.digits)
                    for k in iterations
                ),
            ]
            for name in names
        ]
        lines += ["", table([quantity.title, *map(str, iterations)], rows)]
    return lines


def _stretching(names: Sequence[str], result: Mapping[str, Any]) -> list[str]:
    runs = result["variants"][names[0]]
    iterations = list(runs[0]["evaluations"])
    first = runs[0]["evaluations"][iterations[0]]
    ranges = [f"{part['from']:g}-{part['to']:g}" for part in first["bond-length"]["ranges"]]
    rows = []
    for name in names:
        for iteration in iterations:
            found = [run["evaluations"][iteration] for run in result["variants"][name]]
            scans = [answer["bond-length"]["ranges"] for answer in found]
            stable = [answer["stability"] for answer in found]
            rows.append(
                [
                    f"{name}, iteration {iteration}",
                    *(spread([scan[k]["force_mae_mev_per_ang"] for scan in scans], 0) for k in range(len(ranges))),
                    *(spread([scan[k]["energy_mae_mev_per_atom"] for scan in scans], 1) for k in range(len(ranges))),
                    ", ".join(f"{s['survived']}/{s['replicas']} ({s['collapsed']})" for s in stable),
                ]
            )
    head = ["", *(f"forces {part}, meV/Å" for part in ranges), *(f"energy {part}, meV/atom" for part in ranges)]
    words = {**first["stability"], "frames": result["scan_frames"], "points": result["plan"]["scan_points"]}
    return [STRETCHED.format(**words), "", table([*head, "stable, by seed"], rows)]


def _method(result: Mapping[str, Any]) -> list[str]:
    model, growth = result["config"]["model"], result["config"]["training"]["updates_growth"]
    size = "cut-off {cutoff_ang:g} Å, {channels} channels, l {l_max}".format(**model["short"])
    return [
        f"- The preset `quick`, except for the settings above and the model: {model['kind']}, {size}.",
        f"- Updates grow with each iteration by {growth:.0%} of the first, except with as many updates in each.",
        f"- `{BASE}` is the engine's default.",
        "- CPU seconds of the stages, each in a process with a single thread. Labels take milliseconds here.",
        "- Every campaign's figures: `results/campaigns.json`.",
    ]
