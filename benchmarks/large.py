"""Energy, forces and stress of boxes of 10,000 to 100,000 atoms in bounded memory, checked against a box of 520 atoms.

    python benchmarks/large.py --atoms 100000

The boxes are copies of a box of 520 atoms side by side, so every copy must have the energy and the forces of that box.
Prints a JSON object and writes it to `results/large.json`. Weights are random, as the cost does not depend on them.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from al_engine.config import ModelConfig
from al_engine.structures.frames import Frame, IntArray, LabelledFrame
from command import HERE, RESULTS, note
from contestants.structures import Structure
from lineup import read_model
from machine import circumstances, versions
from models.graph.graph import AtomBatch, neighbour_graph
from models.inference.acceleration import accelerate
from models.inference.chunked import DEFAULT_MEMORY_MIB, evaluate_chunked, plan_domains
from models.ms_mace import MSMACE, Prediction
from models.training.constants import constants_from_data
from systems import benchmark_structures

SIZES = (10_000, 30_000, 100_000)
LONGEST_TO_SHORTEST = 2
TOLERANCE = 1e-4
"""Largest accepted difference of forces between copy and original in float32, relative to the largest force."""


def grid(copies: int) -> tuple[int, int, int]:
    """Numbers of copies along the axes: the smallest box of at least `copies` that is at most twice as long as wide."""
    sides = range(1, copies + 1)
    near_cubes = (
        (a, b, c)
        for c in sides
        if c**3 <= copies
        for b in range(c, LONGEST_TO_SHORTEST * c + 1)
        for a in range(b, LONGEST_TO_SHORTEST * c + 1)
    )
    cube = round(copies ** (1 / 3)) + 1
    return min([n for n in near_cubes if np.prod(n) >= copies] or [(cube, cube, cube)], key=np.prod)


def repeated(frame: Frame, copies: Sequence[int]) -> Frame:
    """A periodic frame of copies side by side; the atoms are in order of the copies."""
    shifts = np.array(list(product(*map(range, copies)))) @ frame.cell
    return Frame(
        numbers=np.tile(frame.numbers, len(shifts)),
        positions=(frame.positions + shifts[:, None]).reshape(-1, 3),
        cell=frame.cell * np.array(copies)[:, None],
        pbc=frame.pbc,
    )


def measure(model: MSMACE, box: Frame, atoms: int, *, memory_mib: float, expected: Prediction) -> dict[str, Any]:
    """Evaluate a box of at least `atoms` atoms and compare it with the original box."""
    copies = grid(-(-atoms // len(box)))
    frame = repeated(box, copies)
    wall, cpu = time.perf_counter(), time.process_time()
    found = evaluate_chunked(model, frame, memory_mib=memory_mib, progress=_progress(len(frame)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    difference = (found.forces.view(-1, len(box), 3) - expected.forces).abs().max()
    energies = (found.energies / len(frame), expected.energies / len(box))
    return {
        "atoms": len(frame),
        "copies": list(copies),
        "wall_s": wall,
        "cpu_s": cpu,
        "cpu_us_per_atom": 1e6 * cpu / len(frame),
        "process_peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "plan": plan_domains(model, frame, _species(model, frame), memory_mib=memory_mib)._asdict(),
        "energy_difference_ev_per_atom": float(abs(energies[0] - energies[1])),
        "force_difference": float(difference / expected.forces.abs().max()),
        "stress_difference": float((found.stresses - expected.stresses).abs().max() / expected.stresses.abs().max()),
    }


def benchmark_model(structures: Mapping[str, Structure], config: ModelConfig) -> MSMACE:
    """A frozen model with random weights, and the constants of the training clusters."""
    training = [
        LabelledFrame(as_frame(item), float(item.energy), item.forces)
        for name, item in structures.items()
        if name.startswith("train_")
    ]
    return MSMACE(config, constants_from_data(training, config), seed=0).freeze()


def predict_whole(model: MSMACE, frame: Frame) -> Prediction:
    """Evaluate a frame as a whole."""
    positions = torch.tensor(frame.positions)
    atoms = AtomBatch.of([frame], model.constants.elements)
    return model.predict(neighbour_graph(atoms, positions, cutoffs=model.cutoffs), positions)


def _species(model: MSMACE, frame: Frame) -> IntArray:
    return np.searchsorted(model.constants.elements, frame.numbers)


def _progress(atoms: int) -> Any:
    def show(done: int, steps: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{atoms} atoms: {100 * done // steps} %", end="", file=sys.stderr, flush=True)

    return show


def as_frame(item: Structure) -> Frame:
    """A structure without its targets."""
    return Frame(numbers=item.numbers, positions=item.positions, cell=item.cell, pbc=item.pbc)


def main() -> None:
    """Measure, print and write; exit status 1 if a copy differs from the original."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--atoms", type=int, default=100_000, help="smallest number of atoms of the largest box")
    parser.add_argument(
        "--memory-mib", type=float, default=DEFAULT_MEMORY_MIB, help="memory limit of an evaluation in MiB"
    )
    parser.add_argument("--model", type=Path, default=HERE / "model.yaml", help="YAML file with the `model` section")
    parser.add_argument("--plain", action="store_true", help="use torch's operators instead of the C++ kernels")
    parser.add_argument("--output", type=Path, default=RESULTS / "large.json", help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = circumstances()

    structures = benchmark_structures()
    config = read_model(options.model)
    model = benchmark_model(structures, config)
    kernels = not options.plain and accelerate(model)
    model.freeze()

    box = as_frame(structures["bulk_520"])
    expected = predict_whole(model, box)
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = []
    for size in sorted(
        {*(size for size in SIZES if size < options.atoms), options.atoms}
    ):  # ascending, because the peak of a process never falls
        note(f"{size} atoms")
        rows.append(measure(model, box, size, memory_mib=options.memory_mib, expected=expected))
    result = {
        "sizes": rows,
        "process_peak_rss_before_mib": at_start,
        "memory_mib": options.memory_mib,
        "kernels": kernels,
        "threads": 1,
        "model": config.model_dump(),
        "about": {**about, "versions": versions(("al-engine", "torch", "numpy", "scipy"))},
    }
    text = json.dumps(result, indent=1)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(text + "\n", encoding="utf-8")
    print(text)
    if max(row["force_difference"] for row in rows) > TOLERANCE:
        print(
            f"error: forces of a copy differ from the original by more than {TOLERANCE:g} of the largest",
            file=sys.stderr,
        )
        raise SystemExit(1)


if __name__ == "__main__":
    main()
