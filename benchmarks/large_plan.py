"""Cost per atom of a chunked evaluation, and an estimate for 500,000 atoms on a single GPU.

    python benchmarks/large_plan.py

Counts memory, floating-point operations and traffic of the model on the box of 520 atoms, with PyTorch's operators, as
on a GPU, and writes the tables of `docs/large-systems.md`. The table of measured values is from `results/large.json`.
Rates of GPUs are from their data sheets.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from al_engine.structures.frames import Frame
from command import HERE, RESULTS
from contestants.counting import count_operations
from large import as_frame, benchmark_model, predict_whole, repeated
from lineup import read_model
from models.graph.domains import DomainDecomposition
from models.inference.chunked import LARGEST_DOMAIN, DomainPlan, evaluate_chunked, plan_domains
from models.ms_mace import MSMACE
from result_tables import table
from systems import benchmark_structures

PAGE = HERE.parent / "docs" / "large-systems.md"
SIZES = (500_000, 1_000_000)
FLOP_EFFICIENCY, BANDWIDTH_EFFICIENCY = 0.4, 0.9
"""Assumed share of a card's FLOP rate that small matrix products reach, and of its bandwidth that streaming reaches."""
GB = 1e9


class Card(NamedTuple):
    """A GPU by its data sheet: memory in GB, single-precision rate in FLOP/s, bandwidth in bytes/s."""

    name: str
    memory_gb: float
    flop_per_s: float
    bytes_per_s: float


CARDS = (
    Card("A100, 40 GB", 40, 19.5e12, 1.555e12),
    Card("H100, 80 GB", 80, 67e12, 3.35e12),
    Card("H200, 141 GB", 141, 67e12, 4.8e12),
)


def measured_table(result: Mapping[str, Any]) -> str:
    """The table of the results of `large.py`."""
    rows = [
        [
            f"{row['atoms']:,}",
            f"{row['plan']['size']:,}",
            "yes" if row["plan"]["keep_lists"] else "no",
            f"{row['wall_s']:.0f}",
            f"{row['cpu_s']:.0f}",
            f"{row['cpu_us_per_atom']:.0f}",
            f"{row['process_peak_rss_mib']:,.0f}",
            f"{row['force_difference']:.0e}",
        ]
        for row in result["sizes"]
    ]
    head = [
        "atoms",
        "per domain",
        "lists kept",
        "s",
        "CPU s",
        "CPU µs per atom",
        "peak MiB",
        "largest force difference",
    ]
    about, before = result["about"], result["process_peak_rss_before_mib"]
    return (
        f"{table(head, rows)}\n\n{about['machine']}, one thread, {about['date']}, load average before "
        f"{about['load_average_before']}; PyTorch {about['versions']['torch']}. The peak is the whole process's; it "
        f"was {before:,.0f} MiB before the first large box. Command: `{about['command']}`."
    )


def costs_table(
    plan: DomainPlan, counts: Mapping[str, float], whole: Mapping[str, float], *, nodes: float, list_s: float
) -> str:
    """The table of costs per atom."""
    rows = [
        ["stored for every atom: h, G, coordinates", f"{plan.stored_bytes:,} B"],
        ["list of every atom, if kept", f"{plan.list_bytes:,} B"],
        ["working memory per atom of a domain", f"{plan.working_bytes:,} B"],
        [f"FLOP of matrix products, {nodes:.1f} nodes per atom", f"{counts['flop'] / 1e6:.1f} M"],
        ["the same, evaluated as a whole", f"{whole['flop'] / 1e6:.1f} M"],
        ["finding its neighbours, once, on one CPU core", f"{1e6 * list_s:.0f} µs"],
        ["bytes that operators read and write, nothing fused or cached", f"{counts['bytes'] / 1e6:.1f} MB"],
        ["the same, evaluated as a whole", f"{whole['bytes'] / 1e6:.1f} MB"],
    ]
    return table(["per atom", ""], rows)


def plan_table(costs: DomainPlan, counts: Mapping[str, float], *, density: float, cutoff: float) -> str:
    """The table of estimates for several cards; half of the memory is used."""
    rows = []
    for atoms in SIZES:
        for card in CARDS:
            fixed = atoms * (costs.stored_bytes + costs.list_bytes)
            largest = min(LARGEST_DOMAIN, int((0.5 * card.memory_gb * GB - fixed) / costs.working_bytes))
            domains = -(-atoms // largest)
            size = -(-atoms // domains)
            edge = (size / density) ** (1 / 3)
            rows.append(
                [
                    f"{atoms:,}",
                    card.name,
                    f"{size:,}",
                    f"{domains}",
                    f"{((edge + 2 * cutoff) / edge) ** 3:.1f}",
                    f"{fixed / GB:.1f}",
                    f"{size * costs.working_bytes / GB:.1f}",
                    f"{atoms * counts['flop'] / (FLOP_EFFICIENCY * card.flop_per_s):.2f}",
                    f"{atoms * counts['bytes'] / (BANDWIDTH_EFFICIENCY * card.bytes_per_s):.2f}",
                ]
            )
    head = ["atoms", "card", "per domain", "domains", "nodes per atom", "stored GB", "working GB", "FLOP s", "bytes s"]
    return table(head, rows)


def seconds_for_lists(model: MSMACE, box: Frame) -> float:
    """CPU seconds per atom to find the neighbours in a box of eight copies of `box`."""
    frame = repeated(box, (2, 2, 2))
    species = np.searchsorted(model.constants.elements, frame.numbers)
    start = time.process_time()
    domains = DomainDecomposition(
        frame, species, cutoffs=model.cutoffs, size=2000, n_species=len(model.constants.elements), device=model.device
    )
    for _ in domains:
        pass
    return (time.process_time() - start) / len(frame)


def per_atom(counts: Mapping[str, float], other: Mapping[str, float] | None, box: Frame) -> dict[str, float]:
    """Counts per atom, minus the counts `other` that were included in `counts`."""
    return {name: (counts[name] - (other[name] if other else 0.0)) / len(box) for name in ("flop", "bytes")}


def main() -> None:
    """Count, and write the tables of the page."""
    torch.set_num_threads(1)
    structures = benchmark_structures()
    box = as_frame(structures["bulk_520"])
    model = benchmark_model(structures, read_model(HERE / "model.yaml"))
    species = np.searchsorted(model.constants.elements, box.numbers)
    cpu = torch.device("cpu")
    planning = count_operations(lambda: plan_domains(model, box, species, memory_mib=2048.0), device=cpu)
    chunked = count_operations(lambda: evaluate_chunked(model, box, domain_atoms=len(box)), device=cpu)
    whole = count_operations(lambda: predict_whole(model, box), device=cpu)
    counts = per_atom(chunked, planning, box)
    plan = plan_domains(model, box, species, memory_mib=2048.0)
    density = len(box) / float(abs(np.linalg.det(box.cell)))
    edge = (len(box) / density) ** (1 / 3)
    nodes = ((edge + 2 * model.cutoffs[-1]) / edge) ** 3
    tables = {
        "measured": measured_table(json.loads((RESULTS / "large.json").read_text(encoding="utf-8"))),
        "costs": costs_table(
            plan, counts, per_atom(whole, None, box), nodes=nodes, list_s=seconds_for_lists(model, box)
        ),
        "plan": plan_table(plan, counts, density=density, cutoff=model.cutoffs[-1]),
    }
    fill(PAGE, tables)


def fill(page: Path, tables: Mapping[str, str]) -> None:
    """Put tables into a page, each between the comments with its name."""
    text = page.read_text(encoding="utf-8")
    for name, content in tables.items():
        before, rest = text.split(f"<!-- {name} -->\n")
        text = f"{before}<!-- {name} -->\n{content}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
