"""Time and memory of a training update on five clusters of 120 atoms: this project's models and their peers.

    python benchmarks/training.py --json

An update consists of all steps for a batch: assembly from frames whose neighbour lists are known, energies and forces,
the loss, its gradient, Adam (AMSGrad) and the moving average of the weights.
"""

from typing import Any

from command import Bench, note, parser, run, structure_file
from harness import WorkerError, peak_memory, ratio
from lineup import PEER_CUTOFFS_ANG, gated, mace, nequip, ours, single_scale
from result_tables import training_table
from systems import TRAINING_CLUSTERS, benchmark_structures

NAMES = [f"train_{k}" for k in range(TRAINING_CLUSTERS)]
MODES = ("kernels", "plain")


def measure(bench: Bench) -> dict[str, Any]:
    """Measure all contestants; returns the result as a JSON object."""
    model, dtype, (far, _) = bench.model, bench.model.dtype, PEER_CUTOFFS_ANG
    everyone = [
        *(ours(f"ours_{mode}", model, mode=mode) for mode in MODES),
        *(ours(f"ours_single_r{far:.0f}_{mode}", single_scale(model, far), mode=mode) for mode in MODES),
        *(ours(f"ours_nequip_{mode}", gated(model), mode=mode) for mode in MODES),
        *(mace(f"mace_r{cutoff:.0f}", cutoff, bench.peer("mace"), dtype=dtype) for cutoff in PEER_CUTOFFS_ANG),
        nequip(f"nequip_r{far:.0f}", far, bench.peer("nequip"), dtype=dtype),
        nequip(f"nequip_r{far:.0f}_compiled", far, bench.peer("nequip"), dtype=dtype, compiled=True),
    ]
    clock = bench.conditions.clock
    rows: dict[str, dict[str, Any]] = {}
    with structure_file(benchmark_structures()) as structures:
        with bench.workers(everyone, structures) as workers:
            note("timing updates")
            ready = bench.prepared(workers, task="training", structures=NAMES)
            timings = bench.timed(ready, needed=["ours_plain"])
        mine = next(f"ours_{mode}" for mode in MODES if f"ours_{mode}" in timings)
        for entry in everyone:
            if entry.name in timings:
                spread, slower = timings[entry.name].spread(clock), ratio(timings[entry.name], timings[mine], clock)
                note(f"memory of {entry.name}")
                try:
                    peak = peak_memory(entry, structures, bench.conditions, task="training", names=NAMES)
                except WorkerError as error:
                    bench.drop(error)
                    peak = None
                rows[entry.name] = {
                    "ms": spread.median,
                    "ms_low": spread.low,
                    "ms_high": spread.high,
                    "wall_ms": timings[entry.name].spread("wall_ms").median,
                    "times_ours": slower.median,
                    "times_ours_low": slower.low,
                    "times_ours_high": slower.high,
                    "peak_mib": peak,
                }
    return {"training": {"ours": mine, "frames": len(NAMES), "contestants": rows}, "about": bench.about()}


if __name__ == "__main__":
    run(parser((__doc__ or "").split("\n\n")[0]).parse_args(), measure, training_table)
