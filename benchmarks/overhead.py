"""Cost of safety in a healthy campaign: seals, hashes, flushes, journals, checkpoints and the sanity check, by stage.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --quick

Runs the ethanol example for some iterations in a single process, without Prefect, and times every function that exists
only for safety (a guard). The time of a guard excludes the guards that it calls.
"""

import argparse
import itertools
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np

import al_engine.files.hdf5
import al_engine.files.part_file
import labelers.pool.chunk
import models.training.training
from al_engine.campaign.ledger import Ledger
from al_engine.config.presets import merged
from al_engine.config.reader import load_config
from al_engine.structures.frames import Frame, LabelledFrame
from flows.compute.stage_call import InlineExecutor, run_stages
from flows.session.preflight import with_automatic_choices
from flows.stages.order import initial_steps, iteration_steps
from labelers import create_labeler
from labelers.backends.registry import level_of_theory
from labelers.pool.cache import LabelCache
from labelers.pool.journal import LabelJournal
from labelers.pool.pool import LabelPool
from machine import circumstances, versions
from result_tables import overhead_table

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "ethanol.yaml"
QUICK: Mapping[str, Any] = {
    "initial": {"frames": 100},
    "training": {"updates": 100, "validation_interval": 25},
    "sampling": {"replicas": 4, "steps": 100, "cost_share": 0.0},
}
LABELS = 100
"""Number of labels that are computed with and without a worker process."""
GUARDS: Mapping[str, Sequence[tuple[Any, str]]] = {
    "seals": [
        (al_engine.files.hdf5, "seal_of"),
        (al_engine.files.hdf5, "check_seal"),
        (al_engine.files.hdf5, "seal_file"),
    ],
    "content hashes": [
        (al_engine.files.part_file, "content_hash"),
        (Frame, "content_hash"),
        (LabelledFrame, "content_hash"),
    ],
    "flushes to disk": [(os, "fsync")],
    "index": [(Ledger, "write_index")],
    "checkpoints": [(models.training.training, "write_checkpoint")],
    "journal and cache of labels": [
        (LabelJournal, "__init__"),
        (LabelJournal, "record"),
        (LabelCache, "find"),
        (LabelCache, "keep"),
    ],
    "gate": [(labelers.pool.chunk, "screen_frame")],
}


class Watch:
    """Seconds in guards, each without the guards that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time added to the guard `name`."""

        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                took = time.perf_counter() - start
                self.seconds[name] += took - self._inner.pop()
                self._inner[-1] += took

        return timed

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time all guards while the block runs."""
        before = [(owner, name, getattr(owner, name)) for guards in GUARDS.values() for owner, name in guards]
        try:
            for guard, functions in GUARDS.items():
                for owner, name in functions:
                    setattr(owner, name, self.around(guard, getattr(owner, name)))
            yield
        finally:
            for owner, name, function in before:
                setattr(owner, name, function)


def measure(directory: Path, *, iterations: int, quick: bool) -> dict[str, Any]:
    """Run the campaign; returns the seconds of each stage, in total and in each guard."""
    config = with_automatic_choices(load_config(EXAMPLE))
    if quick:
        config = type(config).model_validate(merged(config.model_dump(mode="json"), QUICK))
    ledger, level = Ledger(directory, config), level_of_theory(config.labels)
    ledger.write_config()
    ledger.begin()
    stages: dict[str, dict[str, Any]] = {}
    watch = Watch()

    def stage(name: str, work: Callable[[], object]) -> None:
        watch.seconds.clear()
        start = time.perf_counter()
        work()
        row = stages.setdefault(name, {"seconds": 0.0, "guards": dict.fromkeys(GUARDS, 0.0)})
        row["seconds"] += time.perf_counter() - start
        for guard, seconds in watch.seconds.items():
            row["guards"][guard] += seconds

    with (
        LabelPool(config.labels, workers=1) as pool,
        watch.watching(),
    ):
        executor = InlineExecutor(ledger.directory, label_pool=lambda: nullcontext(pool))
        steps = [initial_steps(ledger, level), *(iteration_steps(ledger, level, k) for k in range(iterations))]
        for step in itertools.chain(*steps):
            name = "assemble, append" if step.kind in ("assemble", "append") else step.kind
            for calls in step.calls.values():
                stage(name, partial(run_stages, ledger, executor, calls))
        frames = [item.frame for item in ledger.dataset()[:LABELS]]
    return {"stages": stages, "isolation": isolation(config.labels, frames)}


def isolation(config: Any, frames: Sequence[Frame]) -> dict[str, float]:
    """Milliseconds of a label in this process and in a worker process: medians of five rounds."""
    labeler = create_labeler(config)
    here, there = [], []
    with LabelPool(config, workers=1) as pool:
        pool.label(frames[:5], time_limit_s=config.time_limit_s)
        for _ in range(5):
            start = time.perf_counter()
            for frame in frames:
                labeler.label(frame)
            middle = time.perf_counter()
            pool.label(frames, time_limit_s=config.time_limit_s)
            here.append(middle - start)
            there.append(time.perf_counter() - middle)
    scale = 1000 / len(frames)
    return {"in_process_ms": float(np.median(here)) * scale, "in_worker_ms": float(np.median(there)) * scale}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--iterations", type=int, default=2, help="iterations (default: 2)")
    parser.add_argument("--quick", action="store_true", help="a tiny campaign, to check that everything runs")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)  # as other benchmarks; a campaign is one round
    options = parser.parse_args()
    about = {**circumstances(), "versions": versions(("al-engine", "torch", "h5py", "numpy"))}
    with tempfile.TemporaryDirectory(prefix="al-engine-overhead-") as folder:
        result = measure(Path(folder) / "run", iterations=options.iterations, quick=options.quick) | {"about": about}
    print(json.dumps(result, indent=1) if options.json else overhead_table(result))


if __name__ == "__main__":
    main()
