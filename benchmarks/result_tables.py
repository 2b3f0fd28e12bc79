"""Markdown tables of results; updates the tables of benchmarks/README.md from the files in benchmarks/results.

    python benchmarks/result_tables.py

Every figure on the page comes from a result file. Each table is between the comments `<!-- NAME -->`, the name of its
file, and `<!-- end -->`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Result = Mapping[str, Any]
TITLES = {"cluster_120": "120 atoms, cluster", "bulk_520": "520 atoms, periodic"}
FLOORS = ("floor: FLOP ms", "bytes ms", "calls ms")
UNITS = {"cpu_ms": "process CPU time", "wall_ms": "time on the clock", "device_ms": "time on the device"}


def forces_table(result: Result) -> str:
    """Energy and forces: a table for each system."""
    parts = []
    calls = "launches" if result["about"]["conditions"]["device"] == "cuda" else "operators"
    for system, title in TITLES.items():
        best_of_ours = f"ours_{result[system]['ours_mode']}"
        rows = [
            [
                f"**{name}**" if name == best_of_ours else name,
                number(row["ms"]),
                _spread(row, "times_ours"),
                number(row.get("peak_mib")),
                number(row["neighbours_ms"]),
                number(row["flop"] / 1e9 if "flop" in row else None),
                number(row.get(calls)),
                *(number(row.get(f"{kind}_floor_ms")) for kind in ("flop", "bytes", "calls")),
            ]
            for name, row in result[system]["contestants"].items()
        ]
        head = ["", "E+F ms", f"times {best_of_ours}", "peak MiB", "list ms", "GFLOP", calls, *FLOORS]
        parts.append(f"{title}:\n\n{table(head, rows)}")
    rates = result["rates"]
    best = (
        f"Floors at {rates['flop_per_s'] / 1e9:,.0f} GFLOP/s, {rates['bytes_per_s'] / 1e9:,.0f} GB/s and "
        f"{1e6 * rates['s_per_operator']:.2f} µs per call, as measured in the same run."
    )
    return "\n\n".join([*parts, best, circumstances(result)])


def training_table(result: Result) -> str:
    """Training updates."""
    rows = [
        [
            name,
            number(row["ms"]),
            _spread(row, "times_ours"),
            number(row["peak_mib"]),
        ]
        for name, row in result["training"]["contestants"].items()
    ]
    head = ["", "update ms", f"times {result['training']['ours']}", "peak MiB"]
    return f"{table(head, rows)}\n\n{circumstances(result)}"


def times_one(row: Result) -> str:
    """Cost relative to a single member, with its range."""
    return f"{row['times_one']:.2f} ({row['times_one_low']:.2f}-{row['times_one_high']:.2f})"


def committee_table(result: Result) -> str:
    """The committee in molecular dynamics."""
    committee = result["committee"]
    meaning = {
        "one": "one member",
        "stride": f"{committee['members']} members every {committee['stride_steps']} steps, one in between",
        "always": f"{committee['members']} members at every step",
    }
    rows = [
        [
            f"{mode}: {meaning[task]}",
            number(row["ms_per_step"]),
            times_one(row),
        ]
        for (mode, task), row in ((tuple(name.split("_")), row) for name, row in committee["contestants"].items())
    ]
    return f"{table(['', 'ms per step', 'times one'], rows)}\n\n{circumstances(result)}"


def members_table(result: Result) -> str:
    """Training four members on one device."""
    members = result["members"]
    calls = "launches" if result["about"]["conditions"]["device"] == "cuda" else "operators"
    meaning = {
        "one": "one member",
        "each": f"{members['members']} members one after another",
        "together": f"{members['members']} members side by side",
    }
    rows = [
        [
            f"{system['frames']} frames of {system['atoms']} atoms: {meaning[task]}",
            number(row["ms"]),
            times_one(row),
            number(row["calls"]),
        ]
        for system in members["systems"].values()
        for task, row in system["tasks"].items()
    ]
    return f"{table(['', 'update ms', 'times one', calls], rows)}\n\n{circumstances(result)}"


def scaling_table(result: Result) -> str:
    """Cost against size."""
    rows = [
        [name, *(number(row[key]) for key in ("atoms", "ms", "us_per_atom", "peak_mib", "peak_kib_per_atom"))]
        for name, sizes in result["scaling"].items()
        for row in sizes
    ]
    head = ["", "atoms", "E+F ms", "µs per atom", "peak MiB", "KiB per atom"]
    return f"{table(head, rows)}\n\n{circumstances(result)}"


def md_table(result: Result) -> str:
    """Molecular dynamics: a table for each system."""
    md, parts = result["md"], []
    kelvins = ", ".join(f"{kelvin:g}" for kelvin in md["temperatures_kelvin"])
    for system, found in md["systems"].items():
        rows = [
            [
                f"**{name}**" if name == "ours" else name,
                number(row["atom_steps_per_s"]),
                _spread(row, "ours_times_as_fast"),
            ]
            for name, row in found["contestants"].items()
        ]
        title = f"{system}: {found['replicas']} replicas of {found['atoms']} atoms at each of {kelvins} K:"
        parts.append(f"{title}\n\n{table(['', 'atom-steps per second', 'ours: times as fast'], rows)}")
    return "\n\n".join([*parts, circumstances(result)])


def _spread(row: Result, key: str) -> str:
    """Median, with the smallest and the largest value in brackets."""
    return f"{number(row[key])} ({number(row[f'{key}_low'])}-{number(row[f'{key}_high'])})"


def memory_table(result: Result) -> str:
    """Memory of the sampler against the length of its trajectories."""
    rows = [
        [
            "kept" if row["kept"] else "handed on",
            *(number(row[key]) for key in ("steps", "frames", "peak_mib", "kib_per_frame")),
        ]
        for row in result["memory"]["rows"]
    ]
    head = ["sampled frames are", "steps", "frames", "peak MiB", "KiB per further frame"]
    return f"{table(head, rows)}\n\n{circumstances(result, timed=False)}"


def batch_split_table(result: Result) -> str:
    """Time per atom against the atoms of a batch, and relative to the shortest time of the same model and system."""
    rows = result["batch_split"]["rows"]
    best: dict[tuple[str, str], float] = {}
    for row in rows:
        key = row["model"], row["system"]
        best[key] = min(best.get(key, row["us_per_atom"]), row["us_per_atom"])
    cells = [
        [
            f"{row['model']}, {row['system']}",
            f"{row['atoms']:,}",
            number(row["us_per_atom"]),
            f"{row['us_per_atom'] / best[row['model'], row['system']]:.2f}",
        ]
        for row in rows
    ]
    return f"{table(['', 'atoms in the batch', 'µs per atom', 'times the best'], cells)}\n\n{circumstances(result)}"


def ledger_table(result: Result) -> str:
    """Time and memory of ledger operations against the size of the campaign."""
    operations = ("append", "status", "verify", "load", "resume")
    rows = [
        [
            *(f"{row[key]:,}" for key in ("sampled", "labels", "parts")),
            number(row["bytes"] / 1e9),
            *(
                f"{row[name]['seconds']:.2f}" + (f" ({row[name]['peak_mib']:.0f})" if "peak_mib" in row[name] else "")
                for name in operations
            ),
        ]
        for row in result["ledger"]
    ]
    head = ["sampled frames", "labels", "parts", "GB", *(f"{name}, s (MiB)" for name in operations)]
    return f"{table(head, rows)}\n\n{made_by(result)}"


def overhead_table(result: Result) -> str:
    """Seconds of each guard in each stage."""
    stages = result["stages"]
    guards = list(next(iter(stages.values()))["guards"])
    total = {
        "seconds": sum(row["seconds"] for row in stages.values()),
        "guards": {guard: sum(row["guards"][guard] for row in stages.values()) for guard in guards},
    }
    rows = [
        [
            name,
            f"{row['seconds']:.1f}",
            *(f"{row['guards'][guard]:.2f}" for guard in guards),
            f"{sum(row['guards'].values()) / row['seconds']:.2%}",
        ]
        for name, row in {**stages, "**all**": total}.items()
    ]
    labels = result["isolation"]
    isolation = (
        f"A label takes {labels['in_process_ms']:.2f} ms in the campaign's own process, "
        f"{labels['in_worker_ms']:.2f} ms by a worker."
    )
    head = ["stage", "s", *(f"{guard}, s" for guard in guards), "share"]
    return f"{table(head, rows)}\n\n{isolation}\n\n{made_by(result)}"


TABLES: Mapping[str, Callable[[Result], str]] = {
    "forces": forces_table,
    "training": training_table,
    "committee": committee_table,
    "members": members_table,
    "scaling": scaling_table,
    "md": md_table,
    "memory": memory_table,
    "batch_split": batch_split_table,
    "ledger": ledger_table,
    "overhead": overhead_table,
}


def circumstances(result: Result, *, timed: bool = True) -> str:
    """Command, date, machine and versions of a result; with `timed`, also how times were measured."""
    about = result["about"]
    conditions, contestants = about["conditions"], about["contestants"].values()
    versions = sorted({f"{name} {version}" for item in contestants for name, version in item["versions"].items()})
    timing = f", {UNITS[conditions['clock']]}, median of {conditions['rounds']} rounds" if timed else ""
    text = (
        f"`{about['command']}`, {about['date']}; {about['machine']}, load average before "
        f"{about['load_average_before']}; {conditions['device']}, {conditions['threads']} thread(s), "
        f"{conditions['malloc']} malloc{timing}; {', '.join(versions)}."
    )
    missing = [f"Missing: {name} ({reason})." for name, reason in about["missing"].items()]
    return "\n".join([text, *missing])


def made_by(result: Result) -> str:
    """Command, date, machine and versions of a result without contestants."""
    about = result["about"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    busy = about["load_average_before"]
    return f"`{about['command']}`, {about['date']}; {about['machine']}, load average before {busy}; {versions}."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, all but the first column aligned to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def number(value: float | None) -> str:
    """A value with three significant digits, as a whole number from 100 on; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004  # three digits


def filled(page: str, results: Path) -> str:
    """A page with the tables of all existing result files; a table without a file stays as it is."""
    for path in sorted(results.glob("*.json")):
        name = path.stem
        if path.stem.split("-")[0] in TABLES:
            text = TABLES[path.stem.split("-")[0]](json.loads(path.read_text(encoding="utf-8")))
            marked = re.compile(f"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
            page = marked.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)  # type: ignore[misc]
    return page


if __name__ == "__main__":
    readme = HERE / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8"), HERE / "results"), encoding="utf-8")
