"""Muon against Adam: errors after equal numbers of updates, and the CPU time that these take.

Trains single members on frames of molecular dynamics with GFN2-xTB, from random weights, with both optimizers, several
numbers of updates and learning rates; writes `results/optimizers.json` and `optimizers.md`. Every finished run is kept
in the folder `--data`: the same command continues an interrupted benchmark, and `--report` makes the tables from the
finished runs.

    python benchmarks/optimizers.py --jobs 2
    python benchmarks/optimizers.py --quick
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_engine.config import ModelConfig, TrainingConfig
from al_engine.config.presets import PRESETS
from al_engine.errors import AlEngineError, InputError
from al_engine.files.atomic import write_file
from jobs import log, run_all, workers
from learning.curves import errors
from learning.data import KELVINS, MOLECULES, DataSource, Molecule, Sizes, make_temperature, rows_by_temperature
from learning.data import QUICK as QUICK_SIZES
from machine import circumstances, versions
from models.inference.committee import Committee
from models.training.training import train_member
from pages import origin, page, publish, spread
from pages import parser as page_parser

HERE = Path(__file__).resolve().parent
PACKAGES = ("al-engine", "torch", "numpy", "tblite")
NAME = "optimizers"
SIZES = Sizes(pool=150, test=50)
BATCH = 10
RATE = 0.01
"""Learning rate at which the number of updates is varied: the default of the config."""
RATES = (0.005, 0.01, 0.02)
RATES_AT = 600
"""Number of updates at which the learning rate is varied."""
UPDATES = (300, 600, 1200, 2400)
MODELS = {
    "quick": ModelConfig.model_validate(PRESETS["quick"]["model"]),
    "standard": ModelConfig(),
}


@dataclass(frozen=True, slots=True)
class Run:
    """A training run; its fields name its file."""

    molecule: str
    model: str
    optimizer: str
    updates: int
    rate: float
    seed: int

    @property
    def title(self) -> str:
        """Name of the run in messages and of its file."""
        numbers = f"{self.updates}-{self.rate:g}-{self.seed}"
        return f"{self.molecule}-{self.model}-{self.optimizer}-{numbers}"

    def path(self, folder: Path) -> Path:
        """File of the result."""
        return folder / f"{self.title}.json"


def train_and_test(run: Run, source: DataSource) -> None:
    """Train a member on the pool, test it at every temperature, and write the result."""
    path = run.path(source.folder)
    if path.is_file():
        return
    molecule = MOLECULES[run.molecule]
    pool, test = source.load(molecule, "pool"), source.load(molecule, "test")
    training = TrainingConfig.model_validate(
        {
            "optimizer": run.optimizer,
            "learning_rate": run.rate,
            "batch_size": BATCH,
            "validation_interval": max(1, run.updates // 4),
        }
    )
    begun = time.process_time()
    member = train_member(
        frames=pool.frames, model=MODELS[run.model], training=training, seed=run.seed, updates=run.updates
    )
    seconds = time.process_time() - begun
    energies, forces = Committee([member.model]).predict([item.frame for item in test.frames], batch_size=BATCH)
    found = {
        f"{kelvin:g}": errors(energies[0, rows], [forces[k][0] for k in rows], [test.frames[k] for k in rows])
        for kelvin, rows in rows_by_temperature(test.kelvin).items()
    }
    write_file(path, json.dumps({"cpu_seconds": seconds, "errors": found}).encode())


def all_runs(options: argparse.Namespace) -> list[Run]:
    """The runs of the benchmark: numbers of updates at one learning rate, and learning rates at one number."""
    settings = [(updates, RATE) for updates in options.updates]
    settings += [(RATES_AT, rate) for rate in RATES if (RATES_AT, rate) not in settings and not options.quick]
    return [
        Run(molecule, model, optimizer, updates, rate, seed)
        for seed in options.seeds
        for molecule in options.molecules
        for model in options.models
        for updates, rate in settings
        for optimizer in ("adam", "muon")
    ]


def tabulated(runs: Sequence[Run], source: DataSource) -> list[dict[str, Any]]:
    """The finished runs that differ in their seed alone, together.

    Raises:
        InputError: If no run is finished.
    """
    found: dict[Run, list[dict[str, Any]]] = {}
    for run in runs:
        if run.path(source.folder).is_file():
            alike = Run(run.molecule, run.model, run.optimizer, run.updates, run.rate, 0)
            found.setdefault(alike, []).append(json.loads(run.path(source.folder).read_text()))
    if not found:
        raise InputError("no run is finished; run the command without --report")
    return [
        {
            **{name: getattr(run, name) for name in ("molecule", "model", "optimizer", "updates", "rate")},
            "cpu_seconds": [result["cpu_seconds"] for result in results],
            "errors": [result["errors"] for result in results],
        }
        for run, results in found.items()
    ]


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page."""
    sizes = result["sizes"]
    lines = [
        "# Muon and Adam",
        "",
        (
            f"A single member, from random weights, on {len(KELVINS) * sizes['pool']} frames of molecular dynamics by "
            f"GFN2-xTB at {', '.join(f'{kelvin:g}' for kelvin in KELVINS)} K; batches of {BATCH} frames. Mean absolute "
            f"error of force components, and the 95th percentile of the error of an atom's force, on "
            f"{sizes['test']} frames of other trajectories at each temperature. `muon` and `adam` are the values of "
            "`training.optimizer`. Mean over seeds ± half their range."
        ),
    ]
    for molecule, model in dict.fromkeys((row["molecule"], row["model"]) for row in result["runs"]):
        lines += [
            "",
            f"## {molecule}, model of the preset `{model}`",
            "",
            "| optimizer | learning rate | updates | CPU s | "
            + " | ".join(f"{kelvin:g} K, meV/Å" for kelvin in KELVINS)
            + " | 900 K: 95 % |",
            "| --- | ---: | ---: | ---: |" + " ---: |" * (len(KELVINS) + 1),
        ]
        for row in result["runs"]:
            if (row["molecule"], row["model"]) == (molecule, model):
                cells = [row["optimizer"], f"{row['rate']:g}", str(row["updates"]), spread(row["cpu_seconds"], 0)]
                cells += [
                    spread([each[f"{kelvin:g}"]["force_mev_per_ang"] for each in row["errors"]], 1)
                    for kelvin in KELVINS
                ]
                cells.append(spread([each["900"]["force_p95_mev_per_ang"] for each in row["errors"]], 0))
                lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *origin(result["about"])]
    return page(lines, reading=reading)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every option has the default that the published figures use."""
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache" / NAME)
    parser.add_argument("--molecules", nargs="+", choices=list(MOLECULES), default=list(MOLECULES), help="molecules")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="models of presets")
    parser.add_argument("--updates", type=int, nargs="+", default=list(UPDATES), help="numbers of updates")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of weights and batches")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes, with one thread each")
    parser.add_argument("--quick", action="store_true", help="tiny data and training, to check that everything runs")
    return parser.parse_args(arguments)


def compute(options: argparse.Namespace, source: DataSource) -> None:
    """Make the data, then train and test what has no result yet."""
    molecules: list[Molecule] = [MOLECULES[name] for name in options.molecules]
    data = {
        f"{molecule.name}, {kind}, {kelvin:g} K": (make_temperature, (source, molecule, kind, kelvin))
        for molecule in molecules
        for kind in ("pool", "test")
        for kelvin in KELVINS
    }
    with workers(options.jobs) as pool:
        run_all(pool, data)
        run_all(pool, {run.title: (train_and_test, (run, source)) for run in all_runs(options)})


def main() -> None:
    """Make the data, train, write the tables."""
    options = parse_arguments()
    about = {**circumstances(), "versions": versions(PACKAGES)}
    sizes = SIZES
    if options.quick:
        sizes, options.data, options.updates = QUICK_SIZES, options.data / "quick", [8]
        options.molecules, options.models, options.seeds = options.molecules[:1], options.models[:1], [0]
        options.output = options.data
    source = DataSource(options.data, sizes, 0)
    options.data.mkdir(parents=True, exist_ok=True)
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    try:
        if not options.report:
            compute(options, source)
        runs = tabulated(all_runs(options), source)
    except AlEngineError as error:
        raise SystemExit(f"error: {error}") from None
    result = {"about": about, "sizes": {"pool": sizes.pool, "test": sizes.test}, "runs": runs}
    log(f"written: {publish(result, markdown, output=options.output, name=NAME)}")
    if options.json:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
