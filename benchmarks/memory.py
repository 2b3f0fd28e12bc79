"""Memory of the sampler against the length of its trajectories: what 10,000 steps take, 100,000 should take too.

    python benchmarks/memory.py --json
    python benchmarks/memory.py --steps 1000 10000

A frame is sampled every 20 steps. Once all of them are kept in memory, as `run_langevin` returns them; once they are
handed on stride by stride to a `sink`, as in a campaign, here one that drops them. Every row is a process of its own.
The model is tiny and its forces next to nothing, so that steps cost little: atoms repel each other at short distance
(ZBL) and are kept together by a wall.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from al_engine.config import SamplingConfig
from command import Bench, note, parser, run, structure_file
from harness import Entry, Worker
from lineup import ours
from md import FORCE_EV_PER_ANG
from systems import NC3F9, small_cluster
from tables import memory_table

MODEL = {
    "kind": "mace",
    "short": {"cutoff_ang": 4.0, "channels": 2, "l_max": 0, "radial_mlp": []},
    "layers": 1,
    "correlation": 1,
    "hidden_l_max": 0,
    "zbl": True,
}
KELVINS = (300.0, 900.0)
STEPS = (10_000, 100_000)
WALL_ANG = 8.0
SYSTEM = "cluster_26"


def entry(steps: int, *, kept: bool) -> Entry:
    """The sampler's run of one row."""
    sampling = SamplingConfig()
    return ours(
        f"{steps} steps, frames {'kept' if kept else 'handed on'}",
        MODEL,
        mode="kernels",
        members=2,
        stride=sampling.stride_steps,
        steps=steps,
        kept=kept,
        replicas=1,
        temperatures_kelvin=KELVINS,
        timestep_fs=sampling.timestep_fs,
        friction_per_ps=sampling.friction_per_ps,
        wall_radius_ang=WALL_ANG,
    )


def kib_per_frame(rows: Sequence[dict[str, Any]]) -> None:
    """Add what each further frame took, beyond the first row of the same kind."""
    for row in rows:
        first = next(other for other in rows if other["kept"] == row["kept"])
        more = row["frames"] - first["frames"]
        row["kib_per_frame"] = 1024 * (row["peak_mib"] - first["peak_mib"]) / more if more else None


def measure(bench: Bench) -> dict[str, Any]:
    """Everything, as one JSON object."""
    structure = small_cluster(NC3F9, 2)
    structure = replace(structure, forces=FORCE_EV_PER_ANG * structure.forces)
    rows = []
    with structure_file({SYSTEM: structure, "train_0": structure}) as structures:
        for kept in (False, True):
            for steps in bench.options.steps:
                chosen = entry(steps, kept=kept)
                note(chosen.name)
                peak = peak_mib(chosen, structures, bench)
                frames = len(KELVINS) * (steps // int(chosen.setting["stride"]))
                rows.append({"steps": steps, "kept": kept, "frames": frames, "peak_mib": peak})
    kib_per_frame(rows)
    return {"memory": {"atoms": len(structure), "replicas": len(KELVINS), "rows": rows}, "about": bench.about()}


def peak_mib(chosen: Entry, structures: Path, bench: Bench) -> float:
    """Peak memory of one run in a fresh process, beyond what the loaded model takes."""
    with Worker(chosen, structures, bench.conditions) as worker:
        bench.descriptions[chosen.name] = worker.description
        worker.ask("prepare", task="ladder", structures=[SYSTEM])
        return float(worker.ask("memory", n=1)["peak_mib"])


def main() -> None:
    """Measure and print."""
    options = parser((__doc__ or "").split("\n\n")[0])
    options.add_argument("--steps", type=int, nargs="+", default=STEPS, help="lengths of the trajectories")
    run(options.parse_args(), measure, memory_table)


if __name__ == "__main__":
    main()
