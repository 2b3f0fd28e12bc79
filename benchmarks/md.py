"""Molecular dynamics of a temperature ladder with a committee: this project's sampler, and ASE with mace-torch.

    python benchmarks/md.py --json
    python benchmarks/md.py --device cuda --replicas 64 --json
    python benchmarks/md.py --systems ethanol_9 --rounds 1 --turn-seconds 0.1

The task: Langevin trajectories at 300, 500, 700 and 900 K, with forces of all four members at every sampled frame.

- `ours` runs the whole ladder in a single call of the sampler, with its start and its bookkeeping. One member drives.
- ASE simulates a single structure at a time, so a single trajectory at a single temperature is timed. The ladder takes
  the time of all trajectories. The start is not counted.
- `always` is mace-torch's committee calculator: all members at every step, their mean drives.
- `stride` is what a user of mace-torch could write: a calculator of one member drives, and the other three compute
  forces only at sampled frames.

Weights are random and forces are scaled down, so that atoms move with their thermal velocities. A step costs the same
as with a trained model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from al_engine.config import SamplingConfig
from command import Bench, note, parser, run, structure_file
from contestants.structures import Structure
from harness import Entry, Spread, Timing, Worker, ratio
from lineup import PEER_CUTOFFS_ANG, mace, ours, single_scale
from result_tables import md_table
from systems import ETHANOL, NC3F9, benchmark_structures, small_cluster

MEMBERS = 4
REPLICAS: Mapping[str, int] = {"cluster_120": 2, "cluster_26": 8, "ethanol_9": 8}
"""Replicas of each system at each temperature; more replicas of a large system do not fit into a core's cache."""
STRIDES = 2
"""Sampled frames of each trajectory in a turn."""
DRIVEN_KELVIN = 500.0
"""Temperature of ASE's trajectory."""
FORCE_EV_PER_ANG = 1e-9
"""RMS label force that models are scaled by. Forces of random weights are many times this scale; with a realistic scale
they would break the molecules."""
ROUNDS, WARM_UP = 3, 1


def structure_of(system: str) -> Structure:
    """The structure of a system by name, with small label forces, by which models are scaled."""
    if system == "cluster_120":
        structure = benchmark_structures()[system]
    else:
        structure = small_cluster(ETHANOL, 1) if system == "ethanol_9" else small_cluster(NC3F9, 2)
    return replace(structure, forces=FORCE_EV_PER_ANG * structure.forces)


def entries(bench: Bench, *, replicas: int) -> dict[str, Entry]:
    """All contestants by name."""
    sampling = SamplingConfig()
    common: dict[str, Any] = {
        "members": MEMBERS,
        "stride": sampling.stride_steps,
        "timestep_fs": sampling.timestep_fs,
        "friction_per_ps": sampling.friction_per_ps,
    }
    driven: dict[str, Any] = {"kelvin": DRIVEN_KELVIN, "scale": FORCE_EV_PER_ANG, **common}
    ladder = {
        "temperatures_kelvin": sampling.temperatures_kelvin,
        "replicas": replicas,
        "steps": STRIDES * sampling.stride_steps,
    }
    mode = "graph" if bench.conditions.device == "cuda" else "kernels"
    model, dtype = bench.model, bench.model.dtype
    found = [ours("ours", model, mode=mode, **common, **ladder)]
    for cutoff in PEER_CUTOFFS_ANG:
        single = single_scale(model, cutoff)
        found.append(ours(f"ours_single_r{cutoff:.0f}", single, mode=mode, **common, **ladder))
    for cutoff in PEER_CUTOFFS_ANG:
        for task in ("stride", "always"):
            name, python = f"mace_r{cutoff:.0f}_{task}", bench.peer("mace")
            found.append(mace(name, cutoff, python, dtype=dtype, **driven))
    return {entry.name: entry for entry in found}


def task_of(entry: Entry) -> str:
    """Name of the worker's task."""
    return "ladder" if entry.module == "ours" else f"md_{entry.name.rsplit('_', 1)[-1]}"


def steps_of(entry: Entry) -> int:
    """MD steps, over all replicas, in a run of the worker's task."""
    setting = entry.setting
    if entry.module == "ours":
        return int(setting["steps"] * setting["replicas"] * len(setting["temperatures_kelvin"]))
    return int(setting["stride"]) if entry.name.endswith("stride") else 1


def per_atom_step(timing: Timing, atom_steps: int) -> Timing:
    """Milliseconds per atom and step, from a timing of a task of `atom_steps` atoms times steps."""
    return Timing({clock: [value / atom_steps for value in values] for clock, values in timing.rounds.items()})


def rate(timing: Timing, clock: str) -> Spread:
    """Atom-steps per second, from a timing per atom and step."""
    return Spread.of([1e3 / value for value in timing.rounds[clock]])


def rows(timings: Mapping[str, Timing], everyone: Mapping[str, Entry], *, atoms: int, clock: str) -> dict[str, Any]:
    """The row of each contestant: its rate, and how many times as fast `ours` is."""
    scaled = {name: per_atom_step(timing, atoms * steps_of(everyone[name])) for name, timing in timings.items()}
    found = {}
    for name, timing in scaled.items():
        speed, behind = rate(timing, clock), ratio(timing, scaled["ours"], clock)
        found[name] = {
            "atom_steps_per_s": speed.median,
            "atom_steps_per_s_low": speed.low,
            "atom_steps_per_s_high": speed.high,
            "ours_times_as_fast": behind.median,
            "ours_times_as_fast_low": behind.low,
            "ours_times_as_fast_high": behind.high,
            "wall_atom_steps_per_s": rate(timing, "wall_ms").median,
        }
    return found


def measure_system(bench: Bench, system: str) -> dict[str, Any]:
    """Measure all contestants on a system."""
    structure = structure_of(system)
    replicas = bench.options.replicas or REPLICAS[system]
    everyone = {
        name: entry
        for name, entry in entries(bench, replicas=replicas).items()
        if not bench.options.only or name in {*bench.options.only, "ours"}
    }
    with structure_file({system: structure, "train_0": structure}) as structures:
        timings = timed(bench, everyone, structures, system)
    return {
        "atoms": len(structure),
        "replicas": replicas,
        "contestants": rows(timings, everyone, atoms=len(structure), clock=bench.conditions.clock),
    }


def timed(bench: Bench, everyone: Mapping[str, Entry], structures: Any, system: str) -> dict[str, Timing]:
    """Time the task of all contestants that can be loaded."""
    with bench.workers(list(everyone.values()), structures) as workers:
        ready: dict[str, Worker] = {}
        for name, worker in workers.items():
            ready |= bench.prepared({name: worker}, task=task_of(everyone[name]), structures=[system])
        note(f"timing {system}")
        return bench.timed(ready, needed=["ours"])


def measure(bench: Bench) -> dict[str, Any]:
    """Measure all systems; returns the result as a JSON object."""
    bench.conditions = replace(bench.conditions, warm_up=WARM_UP)
    systems = {system: measure_system(bench, system) for system in bench.options.systems}
    sampling = SamplingConfig()
    return {
        "md": {
            "members": MEMBERS,
            "temperatures_kelvin": sampling.temperatures_kelvin,
            "stride_steps": sampling.stride_steps,
            "systems": systems,
        },
        "about": bench.about(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parser((__doc__ or "").split("\n\n")[0])
    options.add_argument("--systems", nargs="+", choices=list(REPLICAS), default=list(REPLICAS), help="systems")
    options.add_argument("--replicas", type=int, help="replicas at each temperature; default: a number for each system")
    options.add_argument("--only", nargs="+", metavar="CONTESTANT", help="time only these contestants and `ours`")
    options.set_defaults(rounds=ROUNDS)
    run(options.parse_args(arguments), measure, md_table)


if __name__ == "__main__":
    main()
