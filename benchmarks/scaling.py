"""Time and peak memory of energy and forces against the number of atoms, in boxes of equal density.

    python benchmarks/scaling.py --json
    python benchmarks/scaling.py --copies 1 2 4 8 16 --json

The boxes are copies of a box of 520 atoms side by side, so that all atoms have the same neighbours at every size. Every
size runs in a separate process.
"""

from typing import Any

from command import Bench, note, parser, run, structure_file
from harness import Entry, Worker, WorkerError, peak_memory, take_turns
from lineup import PEER_CUTOFFS_ANG, mace, ours
from result_tables import scaling_table
from systems import benchmark_structures

BOX = 520
COPIES = (1, 2, 4, 8, 16)
MODES = ("graph", "kernels", "plain")


def measure(bench: Bench) -> dict[str, Any]:
    """Measure all contestants at all sizes; returns the result as a JSON object."""
    far, near = PEER_CUTOFFS_ANG
    largest = bench.options.copies
    limits = {
        **dict.fromkeys([f"ours_{mode}" for mode in MODES], max(largest)),
        f"mace_r{far:.0f}": bench.options.mace_copies,
        f"mace_r{near:.0f}": 4 * bench.options.mace_copies,
    }
    everyone = [
        *(ours(f"ours_{mode}", bench.model, mode=mode) for mode in MODES),
        *(mace(f"mace_r{r:.0f}", r, bench.peer("mace"), dtype=bench.model.dtype) for r in PEER_CUTOFFS_ANG),
    ]
    rows: dict[str, list[dict[str, Any]]] = {}
    with structure_file(benchmark_structures(copies=[n for n in largest if n > 1])) as structures:
        for entry in everyone:
            for count in largest:
                if count <= limits[entry.name] and entry.name not in bench.missing:
                    note(f"{entry.name}, {count * BOX} atoms")
                    row = one_size(entry, structures, count * BOX, bench)
                    if row is not None:
                        rows.setdefault(entry.name, []).append(row)
    return {"scaling": rows, "about": bench.about()}


def one_size(entry: Entry, structures: Any, atoms: int, bench: Bench) -> dict[str, Any] | None:
    """Time and peak memory at a size; None if the process fails, and the reason is kept in `Bench.missing`."""
    system, clock = f"bulk_{atoms}", bench.conditions.clock
    try:
        peak = peak_memory(entry, structures, bench.conditions, task="forces", names=[system])
        with Worker(entry, structures, bench.conditions) as worker:
            bench.descriptions[entry.name] = worker.description
            worker.ask("prepare", task="forces", structures=[system])
            timings = take_turns({system: worker}, bench.conditions, lost=_raise)
    except WorkerError as error:
        bench.drop(error)
        return None
    spread = timings[system].spread(clock)
    return {
        "atoms": atoms,
        "ms": spread.median,
        "us_per_atom": 1e3 * spread.median / atoms,
        "peak_mib": peak,
        "peak_kib_per_atom": 1024 * peak / atoms,
    }


def _raise(error: WorkerError) -> None:
    raise error


def main() -> None:
    """Measure and print."""
    options = parser((__doc__ or "").split("\n\n")[0])
    options.add_argument("--copies", type=int, nargs="+", default=COPIES, help="sizes, powers of two times 520 atoms")
    options.add_argument("--mace-copies", type=int, default=1, help="largest size for MACE at 10 Å; 4 times it at 5 Å")
    run(options.parse_args(), measure, scaling_table)


if __name__ == "__main__":
    main()
