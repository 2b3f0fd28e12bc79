"""Learning curves of selection strategies on a fixed pool of labelled frames: is active selection worth its cost?

Makes the pool and the test set by molecular dynamics with GFN2-xTB, runs every strategy with several repeats, and
writes `results/learning-curves.json` and `learning-curves.md`. Every finished round is kept in the folder `--data`: the
same command continues an interrupted benchmark, and `--report` makes the tables from the finished rounds.

    python benchmarks/learning_curves.py --jobs 2
    python benchmarks/learning_curves.py --quick
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from al_engine.config import SelectionConfig
from al_engine.errors import AlEngineError, InputError
from jobs import log, run_all, workers
from learning.curves import MEMBERS, MODEL, Curve, Plan, Study, read_round, run_curve, run_start
from learning.data import KELVINS, MOLECULES, QUICK, DataSource, Sizes, make_temperature
from learning.report import markdown
from learning.strategies import STRATEGIES
from machine import circumstances, versions
from pages import parser as page_parser
from pages import publish

HERE = Path(__file__).resolve().parent
PACKAGES = ("al-engine", "torch", "e3nn", "numpy", "tblite")
QUICK_PLAN = Plan(start=8, step=8, rounds=2, updates=20)
NAME = "learning-curves"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every option has the default that the published figures use."""
    plan = Plan()
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache" / "learning")
    parser.add_argument("--molecules", nargs="+", choices=list(MOLECULES), default=list(MOLECULES), help="molecules")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES, help="selection strategies")
    parser.add_argument(
        "--repeats", type=int, nargs="+", default=[0, 1, 2], help="seeds of the first labels and of the committee"
    )
    parser.add_argument("--rounds", type=int, default=plan.rounds, help="rounds of selection")
    parser.add_argument("--updates", type=int, default=plan.updates, help="updates per member and round")
    parser.add_argument("--data-seed", type=int, default=0, help="seed of the pool and the test set")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes, with one thread each")
    parser.add_argument("--quick", action="store_true", help="tiny data and training, to check that everything runs")
    return parser.parse_args(arguments)


def compute(options: argparse.Namespace, study: Study) -> None:
    """Compute what is not finished: the data, then the common start of every repeat, then the curves."""
    molecules = [MOLECULES[name] for name in options.molecules]
    every = [(repeat, molecule) for repeat in options.repeats for molecule in molecules]
    data = {
        f"{molecule.name}, {kind}, {kelvin:g} K": (make_temperature, (study.source, molecule, kind, kelvin))
        for molecule in molecules
        for kind in ("pool", "test")
        for kelvin in KELVINS
    }
    starts = {
        f"{molecule.name}, start, repeat {repeat}": (run_start, (study, molecule, repeat)) for repeat, molecule in every
    }
    curves = [Curve(molecule, strategy, repeat) for repeat, molecule in every for strategy in options.strategies]
    with workers(options.jobs) as pool:
        run_all(pool, data)
        run_all(pool, starts)
        run_all(pool, {curve.title: (run_curve, (study, curve)) for curve in curves})


def tabulated(options: argparse.Namespace, study: Study) -> dict[str, Any]:
    """The content of the result file, from the finished rounds; repeats that lack a round are left out.

    Raises:
        InputError: If no repeat is complete.
    """
    plan, numbers = study.plan, range(study.plan.rounds + 1)
    found: dict[tuple[str, str, int, int], dict[str, Any]] = {}
    for name in options.molecules:
        data = study.data(MOLECULES[name])
        for strategy, repeat, number in itertools.product(options.strategies, options.repeats, numbers):
            run = read_round(study, Curve(MOLECULES[name], strategy, repeat), number, data)
            if run is not None:
                facts = {"in_window": run.in_window, "seconds": run.seconds, "errors": run.errors}
                found[name, strategy, repeat, number] = {"repeat": repeat, **facts}
    wanted = list(itertools.product(options.molecules, options.strategies, numbers))
    complete = [
        repeat
        for repeat in options.repeats
        if all((name, strategy, repeat, number) in found for name, strategy, number in wanted)
    ]
    if not complete:
        raise InputError("no repeat is complete; run the command without --report")
    molecules = {
        name: {
            strategy: [[found[name, strategy, repeat, number] for repeat in complete] for number in numbers]
            for strategy in options.strategies
        }
        for name in options.molecules
    }
    return {
        "plan": asdict(plan),
        "sizes": asdict(study.source.sizes),
        "kelvins": KELVINS,
        "members": MEMBERS,
        "model": MODEL.model_dump(),
        "window": SelectionConfig().model_dump(include={"lower_mev_per_ang", "upper_mev_per_ang"}),
        "repeats": complete,
        "labels": [plan.start + number * plan.step for number in numbers],
        "molecules": molecules,
        "seconds_per_round": {
            name: [run["seconds"] for rounds in strategies.values() for runs in rounds[1:] for run in runs]
            for name, strategies in molecules.items()
        },
    }


def main() -> None:
    """Make the data, run the strategies, write the tables."""
    options = parse_arguments()
    about = {**circumstances(), "versions": versions(PACKAGES)}
    folder, sizes, plan = options.data, Sizes(), Plan(rounds=options.rounds, updates=options.updates)
    if options.quick:
        folder, sizes, plan = folder / "quick", QUICK, replace(QUICK_PLAN, seed=plan.seed)
        options.output = folder
    study = Study(plan, DataSource(folder, sizes, options.data_seed))
    folder.mkdir(parents=True, exist_ok=True)
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    try:
        if not options.report:
            compute(options, study)
        result = {"about": about, **tabulated(options, study)}
    except AlEngineError as error:
        raise SystemExit(f"error: {error}") from None
    log(f"written: {publish(result, markdown, output=options.output, name=NAME)}")
    if options.json:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
