"""Whole campaigns that differ in a single option: warm start or from scratch, driver, bond stretching.

Runs every campaign with every seed, stage by stage and without Prefect, and writes `results/campaigns.json` and
`campaigns.md`. Every campaign is a directory under `--data`: the same command continues an interrupted benchmark, and
`--report` makes the tables from the finished campaigns.

    python benchmarks/campaigns.py --jobs 2
    python benchmarks/campaigns.py --quick
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_engine.errors import AlEngineError, InputError
from flows.evaluation.scans import ScanOptions
from jobs import log, run_all, workers
from learning.data import KELVINS, DataSource, Sizes, make_temperature
from learning.data import QUICK as QUICK_DATA
from machine import circumstances, versions
from pages import parser as page_parser
from pages import publish
from trials.report import markdown
from trials.runs import TEST_MOLECULE, Trial, read_result, run_trial
from trials.variants import BASE, QUICK, VARIANTS, Plan, config

HERE = Path(__file__).resolve().parent
PACKAGES = ("al-engine", "torch", "e3nn", "numpy", "openmm", "rdkit", "tblite")
NAME = "campaigns"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every option has the default that the published figures use."""
    plan = Plan()
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", choices=list(VARIANTS), help="run only these variants")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of each campaign")
    parser.add_argument("--iterations", type=int, default=plan.iterations, help="iterations of each campaign")
    parser.add_argument("--updates", type=int, default=plan.updates, help="updates per member in the first iteration")
    parser.add_argument("--jobs", type=int, default=2, help="number of campaigns at a time, with one thread each")
    parser.add_argument("--quick", action="store_true", help="tiny campaigns, to check that everything runs")
    return parser.parse_args(arguments)


def compute(trials: Sequence[Trial], source: DataSource, *, jobs: int) -> None:
    """Make the test set, then run every campaign that has no result yet."""
    with workers(jobs) as pool:
        run_all(
            pool,
            {
                f"test set, {kelvin:g} K": (make_temperature, (source, TEST_MOLECULE, "test", kelvin))
                for kelvin in KELVINS
            },
        )
        run_all(pool, {trial.title: (run_trial, (trial, source)) for trial in trials})


def tabulated(trials: Sequence[Trial], source: DataSource, plan: Plan) -> dict[str, Any]:
    """The content of the result file, from the finished campaigns; a variant that lacks a seed is left out.

    Raises:
        InputError: If no variant is complete.
    """
    test = source.load(TEST_MOLECULE, "test")
    found: dict[str, list[dict[str, Any] | None]] = {}
    for trial in trials:
        result = read_result(trial, test)
        found.setdefault(trial.variant, []).append(None if result is None else {"seed": trial.seed, **result})
    complete = {name: runs for name, runs in found.items() if None not in runs}
    if not complete:
        raise InputError("no variant is complete; run the command without --report")
    return {
        "plan": plan.as_dict(),
        "kelvins": KELVINS,
        "test_frames": len(test.frames),
        "scan_frames": ScanOptions().frames,
        "seeds": sorted({trial.seed for trial in trials}),
        "config": config(plan, VARIANTS[BASE], seed=0).model_dump(mode="json"),
        "changes": {name: VARIANTS[name] for name in complete},
        "variants": complete,
    }


def main() -> None:
    """Run the campaigns and write the tables."""
    options = parse_arguments()
    about = {**circumstances(), "versions": versions(PACKAGES)}
    folder, sizes = options.data, Sizes()
    plan = Plan(iterations=options.iterations, updates=options.updates)
    if options.quick:
        folder, sizes, plan = folder / "quick", QUICK_DATA, QUICK
        options.output = folder
    source = DataSource(folder / "learning", sizes, seed=0)
    trials = [
        Trial(name, seed, plan, folder / NAME)
        for seed in options.seeds
        for name in VARIANTS
        if not options.only or name in options.only
    ]
    source.folder.mkdir(parents=True, exist_ok=True)
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    try:
        if not options.report:
            compute(trials, source, jobs=options.jobs)
        result = {"about": about, **tabulated(trials, source, plan)}
    except AlEngineError as error:
        raise SystemExit(f"error: {error}") from None
    log(f"written: {publish(result, markdown, output=options.output, name=NAME)}")
    if options.json:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
