"""Cost of training four members on a device: stacked in one network, one after another, and a single member.

    python benchmarks/members.py --json

An update of every member as in `training.py`, in plain torch; each member has its own batch. With small molecules a GPU
waits for the next operation, so the number of operations determines the time. Operators, without views, are counted on
a CPU, kernel launches on a GPU.
"""

from collections.abc import Mapping
from typing import Any

from al_engine.config import ModelConfig
from al_engine.config.presets import PRESETS
from command import Bench, note, parser, run, structure_file
from contestants.structures import Structure
from harness import ratio
from lineup import ours
from result_tables import members_table
from systems import benchmark_structures, small_cluster

MEMBERS = 4
TASKS = {"one": "training", "each": "training_each", "together": "training_together"}
ETHANOL_FRAMES = 8


def measure(bench: Bench) -> dict[str, Any]:
    """Measure both systems; returns the result as a JSON object."""
    quick = ModelConfig.model_validate(PRESETS["quick"]["model"])
    ethanol = {f"train_{k}": small_cluster("CCO", 1, seed=k) for k in range(ETHANOL_FRAMES)}
    clusters = {name: item for name, item in benchmark_structures().items() if name.startswith("train")}
    systems = {
        "ethanol": _measure_system(bench, quick, ethanol),
        "clusters": _measure_system(bench, bench.model, clusters),
    }
    return {"members": {"members": MEMBERS, "systems": systems}, "about": bench.about()}


def _measure_system(bench: Bench, model: ModelConfig, frames: Mapping[str, Structure]) -> dict[str, Any]:
    entries = [ours(task, model, mode="plain", members=MEMBERS) for task in TASKS]
    clock = bench.conditions.clock
    with structure_file(frames) as structures, bench.workers(entries, structures) as workers:
        for task, worker in workers.items():
            worker.ask("prepare", task=TASKS[task], structures=list(frames))
        note(f"timing updates on {len(frames)} frames of {len(next(iter(frames.values())))} atoms")
        timings = bench.timed(workers, needed=list(TASKS))
        counts = {task: worker.ask("count", operators=True) for task, worker in workers.items()}
    rows = {}
    for task in TASKS:
        cost = ratio(timings[task], timings["one"], clock)
        rows[task] = {
            "ms": timings[task].spread(clock).median,
            "times_one": cost.median,
            "times_one_low": cost.low,
            "times_one_high": cost.high,
            "calls": counts[task].get("launches", counts[task]["operators"]),
        }
    return {"frames": len(frames), "atoms": len(next(iter(frames.values()))), "tasks": rows}


if __name__ == "__main__":
    run(parser((__doc__ or "").split("\n\n")[0]).parse_args(), measure, members_table)
