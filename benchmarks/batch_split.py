"""Time per atom of energy and forces against the number of atoms in a batch, on a CPU.

    python benchmarks/batch_split.py
    python benchmarks/batch_split.py --json

Copies of clusters of 9, 26 and 120 atoms in a batch, with the C++ kernels, for the models of two presets. Every size
runs in a separate process. `samplers.dynamics.batches.CPU_ATOMS`, the batch size at which molecular dynamics is split,
was chosen from the result.
"""

from collections.abc import Mapping
from typing import Any

from al_engine.config.presets import PRESETS
from command import Bench, note, parser, run, structure_file
from contestants.structures import Structure
from lineup import ours
from result_tables import batch_split_table
from samplers.dynamics.batches import CPU_ATOMS
from systems import C12F27N, ETHANOL, NC3F9, small_cluster

COPIES = {
    "cluster_9": (4, 16, 32, 64, 128, 256),
    "cluster_26": (2, 8, 16, 24, 32, 64),
    "cluster_120": (1, 2, 3, 4, 6, 8),
}
MODELS = ("quick", "standard")


def structures() -> Mapping[str, Structure]:
    """The clusters by name."""
    return {
        "cluster_9": small_cluster(ETHANOL, 1),
        "cluster_26": small_cluster(NC3F9, 2),
        "cluster_120": small_cluster(C12F27N, 3),
    }


def measure(bench: Bench) -> dict[str, Any]:
    """Time every model and cluster; returns the result as a JSON object."""
    rows = []
    for model in MODELS:
        for system, structure in structures().items():
            rows += one_system(bench, model, system, structure)
    return {"batch_split": {"rule_atoms": CPU_ATOMS, "rows": rows}, "about": bench.about()}


def one_system(bench: Bench, model: str, system: str, structure: Structure) -> list[dict[str, Any]]:
    """Time per atom at every size of the batch."""
    section = PRESETS[model].get("model", {})
    copies = {f"{model}, {system} x {count}": count for count in COPIES[system]}
    with structure_file({system: structure, "train_0": structure}) as path:
        entries = [ours(name, section, mode="kernels", members=1, stride=1) for name in copies]
        with bench.workers(entries, path) as workers:
            for name, worker in workers.items():
                worker.ask("prepare", task="forces", structures=[system] * copies[name])
            note(f"timing {model}, {system}")
            timings = bench.timed(workers, needed=list(workers))
    return [
        {
            "model": model,
            "system": system,
            "atoms": count * len(structure),
            "us_per_atom": 1e3 * timings[name].spread(bench.conditions.clock).median / (count * len(structure)),
        }
        for name, count in copies.items()
    ]


if __name__ == "__main__":
    run(parser((__doc__ or "").split("\n\n")[0]).parse_args(), measure, batch_split_table)
