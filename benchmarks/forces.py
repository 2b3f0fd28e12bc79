"""Time and memory of energies and forces: this project's models and their peers.

    python benchmarks/forces.py --json
    python benchmarks/forces.py --device cuda --json
    python benchmarks/forces.py --profile

The time of an evaluation does not include the neighbour list, which is timed separately. Peak memory is that of the
first evaluations of a new process. See benchmarks/README.md for the method.
"""

import argparse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from al_engine.config import ModelConfig
from command import RESULTS, Bench, note, parser, run, structure_file
from floor import floor_of
from harness import Entry, Timing, Worker, WorkerError, peak_memory, ratio
from lineup import PEER_CUTOFFS_ANG, gated, mace, nequip, ours, single_scale
from result_tables import forces_table
from systems import benchmark_structures

SYSTEMS = ("cluster_120", "bulk_520")
MAIN = ("graph", "kernels", "plain")
"""Modes of the model; `ours_ms` reports the first mode that works on this machine."""
MODES = ("kernels", "plain")
"""Modes of the other models of this project."""
NEEDED = ("ours_plain", "mace_r10", "mace_r5")
PROFILE_RUNS, PROFILE_ROWS = 5, 30


def entries(bench: Bench) -> dict[str, Entry]:
    """All contestants by name."""
    model, dtype, (far, near) = bench.model, bench.model.dtype, PEER_CUTOFFS_ANG
    python = {name: bench.peer(name) for name in ("mace", "nequip")}
    found = [
        *(ours(f"ours_{mode}", model, mode=mode) for mode in MAIN),
        *(ours(f"ours_single_r{far:.0f}_{mode}", single_scale(model, far), mode=mode) for mode in MODES),
        *(ours(f"ours_single_r{near:.0f}_{mode}", single_scale(model, near), mode=mode) for mode in MODES),
        *(ours(f"ours_nequip_{mode}", gated(model), mode=mode) for mode in MODES),
        *(mace(f"mace_r{cutoff:.0f}", cutoff, python["mace"], dtype=dtype) for cutoff in PEER_CUTOFFS_ANG),
        *(nequip(f"nequip_r{cutoff:.0f}", cutoff, python["nequip"], dtype=dtype) for cutoff in PEER_CUTOFFS_ANG),
        nequip(f"nequip_r{far:.0f}_compiled", far, python["nequip"], dtype=dtype, compiled=True),
    ]
    if bench.conditions.device == "cuda":
        found += [mace(f"mace_r{far:.0f}_cueq", far, python["mace"], dtype=dtype, cueq=True)]
    return {entry.name: entry for entry in found}


def measure(bench: Bench) -> dict[str, Any]:
    """Measure all contestants on all systems; returns the result as a JSON object."""
    everyone = entries(bench)
    frames = benchmark_structures()
    with structure_file(frames) as structures:
        measured: dict[str, dict[str, dict[str, Any]]] = {}
        timings: dict[str, dict[str, Timing]] = {}
        with bench.workers(list(everyone.values()), structures) as workers:
            rates = workers["ours_plain"].ask("rates", dtype=bench.model.dtype)
            for system in SYSTEMS:
                timings[system], measured[system] = timed(workers, system, bench)
        add_memory(measured, everyone, structures, bench)
        for system in SYSTEMS:
            for name, row in measured[system].items():
                if "flop" not in row and everyone[name].module == "ours":
                    fused = floor_of(ModelConfig.model_validate(everyone[name].setting["model"]), frames[system])
                    row |= {"flop": fused.flop, "bytes": fused.bytes}
    for row in (row for rows in measured.values() for row in rows.values()):
        row.update(floors_ms(row, rates, bench.conditions.device))
    result = {system: summary(measured[system], timings[system], bench) for system in SYSTEMS}
    return {**result, "rates": rates, "about": bench.about()}


def timed(
    workers: Mapping[str, Worker], system: str, bench: Bench
) -> tuple[dict[str, Timing], dict[str, dict[str, Any]]]:
    """Times of neighbour lists and of evaluations, and the operations of an evaluation, by contestant."""
    clock = bench.conditions.clock
    rows: dict[str, dict[str, Any]] = {}
    for task in ("neighbours", "forces"):
        note(f"timing {task}, {system}")
        workers = bench.prepared(workers, task=task, structures=[system])
        timings = bench.timed(workers, needed=NEEDED)
        for name, timing in timings.items():
            spread = timing.spread(clock)
            key = "" if task == "forces" else f"{task}_"
            rows.setdefault(name, {}).update(
                {f"{key}ms": spread.median, f"{key}ms_low": spread.low, f"{key}ms_high": spread.high}
            )
    rows = {name: row for name, row in rows.items() if name in timings}
    for name, worker in ((name, workers[name]) for name in rows):
        rows[name]["wall_ms"] = timings[name].spread("wall_ms").median
        operators = not name.endswith(("graph", "kernels", "compiled"))  # the others do not run PyTorch's operators
        rows[name] |= worker.ask("count", operators=operators)
    return timings, rows


def floors_ms(row: Mapping[str, float], rates: Mapping[str, float], device: str) -> dict[str, float]:
    """Milliseconds that the FLOP, the bytes and the calls of an evaluation take at the best rates of the device.

    For plain models the bytes are counted without fusion; for kernels and graphs FLOP and bytes are those of `floor`.
    Calls are kernel launches on a GPU and operators on a CPU.
    """
    calls = row.get("launches" if device == "cuda" else "operators")
    return {
        **({"flop_floor_ms": 1e3 * row["flop"] / rates["flop_per_s"]} if "flop" in row else {}),
        **({"bytes_floor_ms": 1e3 * row["bytes"] / rates["bytes_per_s"]} if "bytes" in row else {}),
        **({"calls_floor_ms": 1e3 * calls * rates["s_per_operator"]} if calls is not None else {}),
    }


def add_memory(
    measured: Mapping[str, dict[str, dict[str, Any]]], everyone: Mapping[str, Entry], structures: Path, bench: Bench
) -> None:
    """Add the peak memory in MiB to the rows of all contestants and systems.

    Each measurement is a separate process; on a CPU two run at a time, as memory does not depend on other processes.
    The memory is None if the process fails; the reason is kept in `Bench.missing`.
    """

    def peak(system: str, name: str) -> None:
        note(f"memory of {name}, {system}")
        try:
            value = peak_memory(everyone[name], structures, bench.conditions, task="forces", names=[system])
        except WorkerError as error:
            bench.drop(error)
            value = None
        measured[system][name]["peak_mib"] = value

    with ThreadPoolExecutor(1 if bench.conditions.device == "cuda" else 2) as pool:
        jobs = [pool.submit(peak, system, name) for system in measured for name in measured[system]]
    for job in jobs:
        job.result()


def summary(rows: dict[str, dict[str, Any]], timings: Mapping[str, Timing], bench: Bench) -> dict[str, Any]:
    """The main figures, and all figures by contestant."""
    mode = next(mode for mode in MAIN if f"ours_{mode}" in rows)
    mine, clock = f"ours_{mode}", bench.conditions.clock
    result: dict[str, Any] = {
        "ours_mode": mode,
        "ours_ms": rows[mine]["ms"],
        "mace_r10_ms": rows["mace_r10"]["ms"],
        "mace_r5_ms": rows["mace_r5"]["ms"],
        "ratio_r10": ratio(timings["mace_r10"], timings[mine], clock).median,
        "ratio_r5": ratio(timings["mace_r5"], timings[mine], clock).median,
        "ours_peak_mib": rows[mine]["peak_mib"],
        "mace_r10_peak_mib": rows["mace_r10"]["peak_mib"],
    }
    for name, row in rows.items():
        slower = ratio(timings[name], timings[mine], clock)
        row |= {"times_ours": slower.median, "times_ours_low": slower.low, "times_ours_high": slower.high}
    return {**result, "contestants": rows}


def profiled(bench: Bench) -> str:
    """Tables of the time in each operator and module of the model, in every mode, as text."""
    sections = []
    with structure_file(benchmark_structures()) as structures:
        for mode in MAIN:
            with bench.workers([ours(f"ours_{mode}", bench.model, mode=mode)], structures) as workers:
                for worker in workers.values():
                    for system in SYSTEMS:
                        if not bench.prepared(workers, task="forces", structures=[system]):
                            break
                        worker.ask("warm", n=bench.conditions.warm_up)
                        tables = worker.ask("profile", n=PROFILE_RUNS, rows=PROFILE_ROWS)
                        for title, table in tables.items():
                            sections.append(f"{mode}, {system}, {title}, {PROFILE_RUNS} evaluations\n\n{table}")
    return "\n\n".join(sections)


def arguments() -> argparse.Namespace:
    """The command line."""
    options = parser((__doc__ or "").split("\n\n")[0])
    options.add_argument(
        "--profile",
        action="store_true",
        help=f"instead of timing, write a profile to {RESULTS.name}/profile.txt",
    )
    return options.parse_args()


def main() -> None:
    """Measure and print, or write a profile."""
    options = arguments()
    if options.profile:
        RESULTS.mkdir(exist_ok=True)
        text = profiled(Bench(options))
        (RESULTS / "profile.txt").write_text(text + "\n", encoding="utf-8")
        return
    run(options, measure, forces_table)


if __name__ == "__main__":
    main()
