"""Memory of the sampler against the length of its trajectories; with a `sink` it should not depend on the length.

    python benchmarks/memory.py --json
    python benchmarks/memory.py --steps 1000 10000

A frame is sampled every 20 steps. In half of the rows all frames are kept in memory, as `run_langevin` returns them. In
the other rows each frame is passed to a `sink`, as in a campaign; this sink drops it. Every row runs in a separate
process. The model is tiny and its forces are negligible, so that steps are fast: atoms repel each other at short
distance (ZBL), and a wall keeps them together.
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
from result_tables import memory_table
from systems import NC3F9, small_cluster

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
    """The contestant of a row: a run of the sampler."""
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
    """Add the memory per additional frame, relative to the first row with the same `kept`, to the rows."""
    for row in rows:
        first = next(other for other in rows if other["kept"] == row["kept"])
        added = row["frames"] - first["frames"]
        row["kib_per_frame"] = 1024 * (row["peak_mib"] - first["peak_mib"]) / added if added else None


def measure(bench: Bench) -> dict[str, Any]:
    """Measure all rows; returns the result as a JSON object."""
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
    """Peak memory in MiB of a run in a new process, in addition to the loaded model."""
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
