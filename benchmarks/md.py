"""Molecular dynamics of a temperature ladder watched by a committee: this project's sampler beside ASE and mace-torch.

    python benchmarks/md.py --json
    python benchmarks/md.py --device cuda --replicas 64 --json
    python benchmarks/md.py --systems ethanol_9 --rounds 1 --turn-seconds 0.1

The work: Langevin trajectories at 300, 500, 700 and 900 K, forces of all four members at every sampled frame. `ours`
runs the whole ladder as one call of the sampler, its start and its bookkeeping included; one member drives. ASE knows
one structure at a time, so one trajectory at one temperature stands for its ladder, which takes that many times as
long; start-up is not counted. `always` is mace-torch's committee calculator as it is: all members at every step, their
mean drives. `stride` is what its user could write: a calculator of one member drives, the other three are asked at
sampled frames alone. Weights are random and forces made small, so that atoms fly as their thermal velocities have it; a
step costs the same as one of a trained model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from al_engine.config import SamplingConfig
from command import Bench, note, parser, run, structure_file
from contestants.structures import Structure
from harness import Entry, Spread, Timing, Worker, ratio
from lineup import PEER_CUTOFFS_ANG, mace, ours, single_scale
from systems import ETHANOL, NC3F9, benchmark_structures, small_cluster
from tables import md_table

MEMBERS = 4
REPLICAS: Mapping[str, int] = {"cluster_120": 2, "cluster_26": 8, "ethanol_9": 8}
"""Systems, and replicas at each temperature; a core's cache is full before more of a large one pay."""
STRIDES = 2
"""Sampled frames of each trajectory in a turn."""
DRIVEN_KELVIN = 500.0
"""Temperature of ASE's trajectory."""
FORCE_EV_PER_ANG = 1e-9
"""Scale of models: the forces of random weights are many times it, and would tear the molecules apart."""
ROUNDS, WARM_UP = 3, 1


def structure_of(system: str) -> Structure:
    """A system by its name, with small forces to scale models by."""
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
        for way in ("stride", "always"):
            name, python = f"mace_r{cutoff:.0f}_{way}", bench.peer("mace")
            found.append(mace(name, cutoff, python, dtype=dtype, **driven))
    return {entry.name: entry for entry in found}


def task_of(entry: Entry) -> str:
    """The worker's task."""
    return "ladder" if entry.module == "ours" else f"md_{entry.name.rsplit('_', 1)[-1]}"


def steps_of(entry: Entry) -> int:
    """MD steps of one structure in one run of the worker's task."""
    setting = entry.setting
    if entry.module == "ours":
        return int(setting["steps"] * setting["replicas"] * len(setting["temperatures_kelvin"]))
    return int(setting["stride"]) if entry.name.endswith("stride") else 1


def per_atom_step(timing: Timing, atom_steps: int) -> Timing:
    """Milliseconds for one atom and step instead of a task."""
    return Timing({clock: [value / atom_steps for value in values] for clock, values in timing.rounds.items()})


def rate(timing: Timing, clock: str) -> Spread:
    """Atom-steps per second of a timing by atom and step."""
    return Spread.of([1e3 / value for value in timing.rounds[clock]])


def rows(timings: Mapping[str, Timing], everyone: Mapping[str, Entry], *, atoms: int, clock: str) -> dict[str, Any]:
    """What the table has of each contestant: its rate, and how many times `ours` is as fast."""
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
    """All contestants on one system."""
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
    """Times of a turn's task of everyone who is there."""
    with bench.workers(list(everyone.values()), structures) as workers:
        ready: dict[str, Worker] = {}
        for name, worker in workers.items():
            ready |= bench.prepared({name: worker}, task=task_of(everyone[name]), structures=[system])
        note(f"timing {system}")
        return bench.timed(ready, needed=["ours"])


def measure(bench: Bench) -> dict[str, Any]:
    """Everything, as one JSON object."""
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
    options.add_argument("--systems", nargs="+", choices=list(REPLICAS), default=list(REPLICAS), help="what is moved")
    options.add_argument("--replicas", type=int, help="replicas at each temperature; by default those of each system")
    options.add_argument("--only", nargs="+", metavar="CONTESTANT", help="these alone, and `ours`")
    options.set_defaults(rounds=ROUNDS)
    run(options.parse_args(arguments), measure, md_table)


if __name__ == "__main__":
    main()
