"""Train variants of the model alike on GFN2-xTB data of a liquid and tabulate their errors.

Makes the data, finds a learning rate, trains every variant for the same CPU time, writes `results/accuracy-NAME.json`,
and `accuracy.md` from all such files. Finished data, models and errors are kept in the folder `--data`: the same
command continues an interrupted benchmark, and `--report` makes the tables from the finished runs.

    python benchmarks/accuracy.py --system dmso --jobs 2
    python benchmarks/accuracy.py --system water --jobs 2 --budget 900 --only ms-mace 'mace, 4.5 Å (long path off)'
    python benchmarks/accuracy.py --system water --quick
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ablation.data import DESCRIPTION, MIXED, TEST_KELVIN, LabelledSet, load_data, periodic_shift
from ablation.liquids import LIQUIDS, Liquid
from ablation.metrics import curve_magnitudes, set_magnitudes, summary
from ablation.report import USUAL_BUDGET_S, markdown, result_name, results_in
from ablation.runs import (
    FIRST_TIMED,
    LAST_TIMED,
    SECONDS_BETWEEN_LINES,
    Run,
    evaluation_ms,
    measure_paces,
    outcome,
    train_all,
    trained,
    with_updates,
)
from ablation.variants import RATES, SCANNED, training, variants
from al_engine.errors import AlEngineError, InputError
from al_engine.files.atomic import write_file
from jobs import log, workers
from machine import circumstances, versions
from pages import reading_of

HERE = Path(__file__).resolve().parent
PACKAGES = ("al-engine", "torch", "e3nn", "numpy", "openmm", "rdkit", "tblite")
SCAN_SHARE = 1 / 3
"""Budget of a run of the learning-rate scan, relative to the budget of a run of the table."""
SCAN_SEED = 100
"""Seed of the scan: its initial weights and held-out frames differ from those of every run of the table."""
QUICK_BUDGET_S = 3.0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every option has the default that the published figures use."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--system", choices=list(LIQUIDS), default="c12f27n", help="the liquid")
    parser.add_argument("--data", type=Path, default=HERE / ".cache", help="folder of data and trained models")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of accuracy.md and of the results")
    parser.add_argument(
        "--budget", type=float, default=USUAL_BUDGET_S, metavar="S", help="CPU seconds of training per run"
    )
    parser.add_argument("--updates", type=int, default=0, help="updates of each run; 0: as many as --budget allows")
    parser.add_argument(
        "--device", default="cpu", help="device of training; a GPU needs --updates, because --budget is CPU time"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of each variant")
    parser.add_argument("--data-seed", type=int, default=0, help="seed of the data")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes, with one thread each")
    parser.add_argument("--rate", type=float, help="learning rate; without it a scan decides")
    parser.add_argument(
        "--only", nargs="+", metavar="VARIANT", choices=list(variants()), help="train only these variants"
    )
    parser.add_argument("--stop-after", choices=["data", "scan"], help="stop after this step")
    parser.add_argument("--report", action="store_true", help="train nothing, tabulate the finished runs")
    parser.add_argument("--quick", action="store_true", help="tiny data and budgets, to check that everything runs")
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not options.updates:
        parser.error("--device needs --updates")
    return options


@dataclass(slots=True)
class Lines:
    """Progress as log lines, at most one every `SECONDS_BETWEEN_LINES`."""

    _last_line: float = field(default=0.0)

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Log the progress if it is complete or the last line is old enough."""
        if done == total or time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            log(f"{note}: {done} of {total}")


def scan_runs(options: argparse.Namespace) -> list[Run]:
    """Short runs of some variants at every learning rate; none if the rate is given."""
    if options.rate:
        return []
    share = {"budget_s": SCAN_SHARE * options.budget, "updates": round(SCAN_SHARE * options.updates)}
    return [
        Run(name, variants()[name], SCAN_SEED, rate, device=options.device, **share)
        for rate in RATES
        for name in SCANNED
    ]


def table_runs(options: argparse.Namespace, rate: float) -> list[Run]:
    """The runs of the table, all variants of the first seed first."""
    return [
        Run(name, model, seed, rate, options.budget, options.updates, options.device)
        for seed in options.seeds
        for name, model in variants().items()
    ]


def scanned_losses(options: argparse.Namespace, train: LabelledSet, folder: Path) -> dict[float, dict[str, float]]:
    """Validation losses of the finished runs of the scan, by learning rate and variant; infinite if a run diverged."""
    found: dict[float, dict[str, float]] = {}
    for run in with_updates(scan_runs(options), folder):
        done = outcome(run, {"train": train}, folder)
        if done is not None:
            found.setdefault(run.learning_rate, {})[run.variant] = done.facts.get("validation_loss", math.inf)
    return found


def best_rate(losses: Mapping[float, Mapping[str, float]]) -> float:
    """The learning rate with the lowest geometric mean of the variants' losses.

    Raises:
        InputError: If no learning rate has a finite loss for every scanned variant.
    """
    complete = {rate: math.prod(found.values()) for rate, found in losses.items() if len(found) == len(SCANNED)}
    if not complete or not math.isfinite(min(complete.values())):
        raise InputError(
            "no learning rate has a finite loss for every variant of the scan; run the command without --report to "
            "complete the scan, or give a smaller --rate"
        )
    return min(complete, key=lambda rate: complete[rate])


def train_missing(options: argparse.Namespace, data: Mapping[str, LabelledSet], folder: Path) -> None:
    """Run the scan, then every run of the table that is not finished."""
    train = {"train": data["train"]}
    with workers(options.jobs) as pool:
        scan = scan_runs(options)
        measure_paces(pool, scan, data["train"], folder)
        train_all(pool, with_updates(scan, folder), train, folder)
        rate = options.rate or best_rate(scanned_losses(options, data["train"], folder))
        log(f"learning rate {rate:g}")
        if options.stop_after == "scan":
            return
        runs = [run for run in table_runs(options, rate) if not options.only or run.variant in options.only]
        measure_paces(pool, runs, data["train"], folder)
        train_all(pool, with_updates(runs, folder), data, folder)


def tabulated(
    options: argparse.Namespace, data: Mapping[str, LabelledSet], liquid: Liquid, folder: Path
) -> dict[str, Any]:
    """The content of the result file, from the finished runs in the folder."""
    losses = scanned_losses(options, data["train"], folder)
    rate = options.rate or best_rate(losses)
    runs = with_updates(table_runs(options, rate), folder)
    done = [(run, found) for run in runs if (found := outcome(run, data, folder)) is not None]
    good = [(run, found) for run, found in done if "failed" not in found.facts]
    members = {run.variant: trained(run, folder) for run, _ in reversed(good)}  # of the first seed
    milliseconds = evaluation_ms(members, data["test"]) if members else {}
    rows = []
    for name, model in variants().items():
        own = [(run, found) for run, found in good if run.variant == name]
        sets = own[0][1].errors if own else {}
        rows.append(
            {
                "variant": name,
                "model": model.model_dump(),
                "evaluation_ms": milliseconds.get(name),
                "runs": [{"seed": run.seed, "facts": found.facts, "errors": found.errors} for run, found in own],
                "failed": [
                    found.facts["failed"] for run, found in done if run.variant == name and "failed" in found.facts
                ],
                "errors": {kind: summary([found.errors[kind] for _, found in own]) for kind in sets},
            }
        )
    sizes = asdict(liquid.sizes)
    mixed = MIXED.format(**sizes) if liquid.sizes.small or liquid.sizes.pairs else ""
    return {
        "system": {"name": options.system, "title": liquid.title, "polarity": liquid.polarity},
        "budget_s": None if options.updates else options.budget,
        "updates": options.updates or None,
        "device": options.device,
        "seeds": options.seeds,
        "optimizer": training(updates=1, learning_rate=rate).optimizer,
        "learning_rate": rate,
        "rates": {
            "share": SCAN_SHARE,
            "validation_loss": [
                {"rate": tried, **{name: loss if math.isfinite(loss) else None for name, loss in found.items()}}
                for tried, found in losses.items()
            ],
        },
        "timed_updates": LAST_TIMED - FIRST_TIMED,
        "data": {
            "seed": options.data_seed,
            "sizes": sizes,
            "test_kelvin": TEST_KELVIN,
            "description": DESCRIPTION.format(**sizes, density=liquid.density_g_per_cm3, mixed=mixed),
        },
        "magnitudes": {
            name: curve_magnitudes(item) if name == "curves" else set_magnitudes(item)
            for name, item in data.items()
            if item.frames
        },
        "periodic": periodic_shift(data["test"], data["bulk"]) if data["bulk"].frames else {},
        "variants": rows,
    }


def main() -> None:
    """Make the data, train the variants, write the tables."""
    options = parse_arguments()
    about = {**circumstances(), "versions": versions(PACKAGES)}
    folder, liquid = options.data / options.system, LIQUIDS[options.system]
    if options.quick:
        folder, liquid, options.budget = folder / "quick", liquid.quick(), QUICK_BUDGET_S
        options.output = folder
    runs = folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    try:
        data = load_data(folder, liquid, seed=options.data_seed, workers=options.jobs, progress=Lines())
        if options.stop_after == "data":
            return
        if not options.report:
            train_missing(options, data, runs)
        if options.stop_after == "scan":
            return
        result = {"about": about, **tabulated(options, data, liquid, runs)}
    except AlEngineError as error:
        raise SystemExit(f"error: {error}") from None
    written = options.output / "results" / f"{result_name(result)}.json"
    write_file(written, (json.dumps(result, indent=1) + "\n").encode())
    page = options.output / "accuracy.md"
    write_file(page, markdown(results_in(options.output / "results"), reading=reading_of(page)).encode())
    log(f"written: {written}, {page}")


if __name__ == "__main__":
    main()
