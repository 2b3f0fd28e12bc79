"""Cost of a committee of four in molecular dynamics, relative to a single model.

    python benchmarks/committee.py --json

Task `one`: a step by a single member. Task `stride`: the steps between two sampled frames, of which one member computes
all and the other members only the last. Task `always`: a step by all members.
"""

from typing import Any

from al_engine.config import SamplingConfig
from command import Bench, note, parser, run, structure_file
from harness import ratio
from lineup import ours
from result_tables import committee_table
from systems import benchmark_structures

MEMBERS = 4
SYSTEM = "cluster_120"
MODES = ("graph", "kernels", "plain")
TASKS = {"one": "committee_one", "stride": "committee_stride", "always": "committee_always"}


def measure(bench: Bench) -> dict[str, Any]:
    """Time all modes and tasks; returns the result as a JSON object."""
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
            single = timings[f"{mode}_one"]
            for task in TASKS:
                timing = timings[f"{mode}_{task}"]
                steps = stride if task == "stride" else 1
                cost = ratio(timing, single, clock)
                rows[f"{mode}_{task}"] = {
                    "ms_per_step": timing.spread(clock).median / steps,
                    "times_one": cost.median / steps,
                    "times_one_low": cost.low / steps,
                    "times_one_high": cost.high / steps,
                }
    about = bench.about()
    return {"committee": {"members": MEMBERS, "stride_steps": stride, "contestants": rows}, "about": about}


if __name__ == "__main__":
    run(parser((__doc__ or "").split("\n\n")[0]).parse_args(), measure, committee_table)
