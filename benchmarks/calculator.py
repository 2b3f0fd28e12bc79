"""Time of the ASE calculator with small and large structures, with one thread and all, alone and beside other work.

    python benchmarks/calculator.py
    python benchmarks/calculator.py --engine before=../older now=.

The calculator of a committee of four is called on a molecule, a cluster and a box. Every measurement is a process of
its own. Checkouts of other versions of the engine, each with a name for the table, take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.build import molecule
from ase.io import write

from al_engine.config import ModelConfig, PathConfig, TrainingConfig
from al_engine.cores import usable_cores
from al_engine.structures.frames import Frame, LabelledFrame
from jobs import log
from machine import circumstances, versions
from models.storage.weights import write_member
from models.training.training import train_member
from pages import origin, page, publish
from pages import parser as page_parser
from result_tables import table
from systems import benchmark_structures

HERE = Path(__file__).resolve().parent
NAME = "calculator"
PACKAGES = ("al-engine", "torch", "ase", "numpy")
MODEL = ModelConfig(
    short=PathConfig(cutoff_ang=4.0, channels=32, l_max=2, radial_mlp=[16]),
    long=PathConfig(cutoff_ang=8.0, channels=8, l_max=1, radial_mlp=[]),
)
"""The model of `quick`."""
MEMBERS = 4
CALLS = {"ethanol": 100, "cluster_120": 20, "bulk_1040": 4}
"""Timed calls in a turn."""
BUSY = "while True: pass"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache" / NAME)
    parser.add_argument(
        "--engine", nargs="+", default=[f"now={HERE.parent}"], metavar="NAME=CHECKOUT", help="versions of the engine"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each version")
    return parser.parse_args(arguments)


def prepare(folder: Path) -> dict[str, int]:
    """Write the structures and a committee that knows their elements; returns the number of atoms by name."""
    folder.mkdir(parents=True, exist_ok=True)
    structures = benchmark_structures(copies=[2])
    frames = {"ethanol": Frame.from_atoms(molecule("CH3CH2OH"))}
    for name in CALLS:
        if name in structures:
            found = structures[name]
            frames[name] = Frame(numbers=found.numbers, positions=found.positions, cell=found.cell, pbc=found.pbc)
    for name, frame in frames.items():
        write(folder / f"{name}.extxyz", frame.to_atoms())
    if not (folder / "committee.h5").exists():
        rng = np.random.default_rng(0)
        labelled = [
            LabelledFrame(frame, 0.0, rng.normal(size=(len(frame), 3)))
            for name, frame in frames.items()
            if name != "bulk_1040"
            for _ in range(4)
        ]
        training = TrainingConfig(batch_size=2, validation_interval=2)
        with h5py.File(folder / "committee.h5", "w") as file:
            for k in range(MEMBERS):
                member = train_member(frames=labelled, model=MODEL, training=training, seed=k, updates=4)
                write_member(file.create_group(f"member{k}"), member)
    return {name: len(frame) for name, frame in frames.items()}


def measure(folder: Path, engine: Path, name: str, *, threads: int, beside: bool) -> float:
    """Median time of a call in ms, in a new process.

    Args:
        folder: Folder that `prepare` has filled.
        engine: Checkout of the engine.
        name: Name of the structure.
        threads: Number of threads that torch is given by `OMP_NUM_THREADS`.
        beside: Whether another program keeps a core busy meanwhile.
    """
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if beside else None  # noqa: S603 (our own interpreter)
    try:
        answer = subprocess.run(  # noqa: S603 (our own interpreter)
            [
                *(sys.executable, "-P", str(HERE / "contestants" / "calculator.py")),
                *(str(folder / "committee.h5"), str(folder / f"{name}.extxyz"), str(CALLS[name])),
            ],
            env={**os.environ, "PYTHONPATH": str(engine.resolve()), "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            check=True,
        )
    finally:
        if other is not None:
            other.kill()
            other.wait()
    return float(answer.stdout)


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page."""
    labels = list(dict.fromkeys(row["label"] for row in result["rows"]))
    cases = list(dict.fromkeys((row["atoms"], row["threads"], row["beside"]) for row in result["rows"]))
    found = {(row["label"], row["atoms"], row["threads"], row["beside"]): row["ms"] for row in result["rows"]}
    rows = [
        [
            str(atoms),
            str(threads),
            "busy program" if beside else "nothing",
            *(f"{found[label, atoms, threads, beside]:.1f}" for label in labels),
        ]
        for atoms, threads, beside in cases
    ]
    return page(
        [
            "# The ASE calculator",
            "",
            (
                "Time of a call in ms: energy and forces of a committee of four with the model of `quick`: ethanol, "
                "a cluster of three C12F27N, and a periodic box of 26. The atoms move between the calls. Median over "
                f"{result['rounds']} processes, which took turns."
            ),
            "",
            table(["atoms", "threads", "beside", *(f"{label}, ms" for label in labels)], rows),
            "",
            *origin(result["about"]),
        ],
        reading=reading,
    )


def main() -> None:
    """Measure all cases, and write the page."""
    options = parse_arguments()
    engines = dict(item.split("=", 1) for item in options.engine)
    about = {**circumstances(), "versions": versions(PACKAGES)}
    atoms = prepare(options.data)
    rows = []
    for name in CALLS:
        for threads in range(1, usable_cores() + 1):
            for beside in (False, True):
                turns: dict[str, list[float]] = {label: [] for label in engines}
                for _ in range(options.rounds):
                    for label, engine in engines.items():
                        turns[label].append(measure(options.data, Path(engine), name, threads=threads, beside=beside))
                for label, times in turns.items():
                    rows.append(
                        {
                            "label": label,
                            "atoms": atoms[name],
                            "threads": threads,
                            "beside": beside,
                            "ms": statistics.median(times),
                            "turns": times,
                        }
                    )
                    log(json.dumps(rows[-1]))
    result = {"about": about, "rounds": options.rounds, "rows": rows}
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    log(f"written: {publish(result, markdown, output=options.output, name=NAME)}")


if __name__ == "__main__":
    main()
