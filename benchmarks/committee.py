"""What a committee of four costs in molecular dynamics: asked on a stride, asked at every step, against one model.

    python benchmarks/committee.py --json

Between two sampled frames one member drives the dynamics; the others are asked on sampled frames alone.
"""

from typing import Any

from al_engine.config import SamplingConfig
from command import Bench, note, parser, run, structure_file
from harness import ratio
from lineup import ours
from systems import benchmark_structures
from tables import committee_table

MEMBERS = 4
SYSTEM = "cluster_120"
MODES = ("graph", "kernels", "plain")
TASKS = {"one": "committee_one", "stride": "committee_stride", "always": "committee_always"}


def measure(bench: Bench) -> dict[str, Any]:
    """Everything, as one JSON object."""
    stride = SamplingConfig.model_fields["stride_steps"].default
    clock, rows = bench.conditions.clock, {}
    with structure_file(benchmark_structures()) as structures:
        for mode in MODES:
            entries = [ours(f"{mode}_{task}", bench.model, mode=mode, members=MEMBERS, stride=stride) for task in TASKS]
            with bench.workers(entries, structures) as workers:
                if len(workers) < len(TASKS):
                    continue
                for task, worker_task in TASKS.items():
                    workers[f"{mode}_{task}"].ask("prepare", task=worker_task, structures=[SYSTEM])
                note(f"timing the committee, {mode}")
                timings = bench.timed(workers, needed=list(workers))
            one = timings[f"{mode}_one"]
            for task in TASKS:
                timing = timings[f"{mode}_{task}"]
                steps = stride if task == "stride" else 1
                dearer = ratio(timing, one, clock)
                rows[f"{mode}_{task}"] = {
                    "ms_per_step": timing.spread(clock).median / steps,
                    "times_one": dearer.median / steps,
                    "times_one_low": dearer.low / steps,
                    "times_one_high": dearer.high / steps,
                }
    about = bench.about()
    return {"committee": {"members": MEMBERS, "stride_steps": stride, "contestants": rows}, "about": about}


if __name__ == "__main__":
    run(parser((__doc__ or "").split("\n\n")[0]).parse_args(), measure, committee_table)
