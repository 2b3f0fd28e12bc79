"""Time the stages of one whole iteration, with their peak memory, and print a Markdown table.

By default the system is C12F27N (perfluorotributylamine), three molecules, 120 atoms, with the model of the preset
`paper`, GFN2-xTB labels and a small budget. It is an ordinary campaign, run by `al-engine run` in a separate process.
Its window accepts every deviation, so that there are always frames to label. The model is trained for too few updates
to be accurate.

    make benchmark-iteration
    .venv/bin/python benchmarks/iteration.py --smiles CO --molecules 1 --model tiny
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import Part
from al_engine.config import CampaignConfig
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import validate_config
from al_engine.config.writer import config_text
from al_engine.errors import AlEngineError, ExitStatus
from flows.cockpit.server import ensure_server
from machine import machine, versions
from systems import C12F27N

MODELS: Mapping[str, Mapping[str, Any]] = {
    "paper": PRESETS["paper"]["model"],
    "quick": PRESETS["quick"]["model"],
    "tiny": {
        "short": {"cutoff_ang": 4.0, "channels": 8, "l_max": 1, "radial_mlp": [16]},
        "long": {"cutoff_ang": 6.0, "channels": 4, "l_max": 0, "radial_mlp": []},
    },
}
PACKAGES = ("al-engine", "torch", "e3nn", "numpy", "openmm", "rdkit", "xtb", "tblite", "prefect")
SAMPLE_INTERVAL_S = 0.5
STAGES = (  # prefix of the part names, title of the stage, and title of the sum if several run at a time
    ("initial-frames", "build and anneal", ""),
    ("initial-labels", "initial labels", ""),
    ("iter000-member", "train member {}", "all training"),
    ("iter000-sample-", "sample {}", "all sampling"),
    ("iter000-selection", "select", ""),
    ("iter000-labels", "label", ""),
    ("iter000-evaluation", "evaluate", ""),
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every option has the default that the published figures use."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--smiles", default=C12F27N, help="the molecule")
    parser.add_argument("--molecules", type=int, default=3, help="number of molecules")
    parser.add_argument("--model", choices=list(MODELS), default="paper", help="model sizes")
    parser.add_argument("--frames", type=int, default=40, help="initial frames")
    parser.add_argument("--test-frames", type=int, default=10, help="test frames")
    parser.add_argument("--anneal-ps", type=float, default=5.0, help="length of the anneal")
    parser.add_argument("--updates", type=int, default=30, help="gradient updates per member")
    parser.add_argument("--replicas", type=int, default=2, help="replicas at each temperature")
    parser.add_argument("--steps", type=int, default=20, help="MD steps of each replica")
    parser.add_argument("--stride", type=int, default=5, help="MD steps between two sampled frames")
    parser.add_argument("--labels", type=int, default=10, help="new labels")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="value of another config option, such as labels.backend=tblite; may be repeated",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the campaign in this new directory")
    return parser.parse_args(arguments)


def campaign_config(options: argparse.Namespace) -> dict[str, Any]:
    """The config of the campaign that is timed, as nested mappings."""
    config = {
        "name": "benchmark",
        "system": {"smiles": options.smiles, "molecules": options.molecules},
        "initial": {
            "frames": options.frames,
            "test_frames": options.test_frames,
            "duration_ps": options.anneal_ps,
        },
        "model": MODELS[options.model],
        "training": {"updates": options.updates},
        "sampling": {
            "replicas": options.replicas,
            "steps": options.steps,
            "cost_share": 0.0,
            "stride_steps": options.stride,
            "stop_deviation_mev_per_ang": 1e9,
        },
        "selection": {"lower_mev_per_ang": 1e-9, "upper_mev_per_ang": 1e9, "max_labels": options.labels},
        "labels": {"max_failed_share": 1.0},
        "stop": {"max_iterations": 1},
    }
    for assignment in options.set:
        key, _, text = assignment.partition("=")
        value: Any = yaml.safe_load(text)
        for name in reversed(key.split(".")):
            value = {name: value}
        config = merged(config, value)
    return config


@dataclass(slots=True)
class MemoryWatch:
    """Samples the memory of a process and all its descendants while the block runs.

    Memory is the proportional set size: pages shared by several processes are counted once in all.

    Attributes:
        root: Process id.
        peak_bytes: Largest sum so far.
        processes: Number of processes at that moment.
    """

    root: int
    peak_bytes: int = 0
    processes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Sample the memory in a thread while the block runs."""
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_INTERVAL_S):
            sizes = [proportional_set_size(process) for process in process_tree(self.root)]
            if sum(sizes) > self.peak_bytes:
                self.peak_bytes, self.processes = sum(sizes), len(sizes)


def process_tree(root: int) -> list[int]:
    """Ids of a process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # the process has ended
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for process in found:  # grows while it is walked
        found += children.get(process, [])
    return found


def proportional_set_size(process: int) -> int:
    """PSS of a process in bytes; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def run_campaign(config_file: Path, directory: Path) -> tuple[float, MemoryWatch]:
    """Run the campaign in a separate process; returns the wall time in seconds and the watched memory."""
    command = [sys.executable, "-m", "flows.cli.app", "run", str(config_file), "--dir", str(directory)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 (our own interpreter)
        watch = MemoryWatch(process.pid)
        try:
            with watch.watching():
                status = process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
    if status not in {ExitStatus.DONE, ExitStatus.NOT_CONVERGED}:
        raise SystemExit(f"the campaign ended with status {status}; see its message above")
    return time.perf_counter() - start, watch


def stage_rows(parts: Sequence[Part]) -> Iterator[tuple[str, float, str]]:
    """Name, seconds and detail of every stage, in the order of `STAGES`; chunks of labels are summed."""
    for prefix, title, sum_title in STAGES:
        group = sorted((part for part in parts if part.name.startswith(prefix)), key=_number)
        total = sum(part.seconds for part in group)
        if sum_title:
            for part in group:
                name = part.name.removeprefix(prefix).replace("K", " K")
                yield title.format(name), part.seconds, ""
            yield sum_title, total, "sum; one per worker runs at a time, and the first of a worker also loads torch"
        elif group:
            frames = sum(_chunk_size(part) for part in group) if "labels" in prefix else 0
            yield title, total, f"{frames} frames" if frames else ""


def _number(part: Part) -> float:
    """The number at the end of a part's name: member or temperature; 0 without a number."""
    text = part.name.rsplit("-", 1)[-1].removeprefix("member").removesuffix("K")
    try:
        return float(text)
    except ValueError:
        return 0.0


def _chunk_size(part: Part) -> int:
    first, last = part.name.split("-")[-2:]
    return int(last) - int(first) + 1


def setting(config: CampaignConfig) -> str:
    """The timed campaign in a line: system, model and sizes."""
    model, training, sampling = config.model, config.training, config.sampling
    system = config.by_system[""].system
    temperatures = len(sampling.temperatures_kelvin)
    paths = [f"short {model.short.cutoff_ang:g} Å {model.short.channels} channels l {model.short.l_max}"]
    if model.long is not None:
        paths.append(f"long {model.long.cutoff_ang:g} Å {model.long.channels} channels l {model.long.l_max}")
    return "; ".join(
        [
            f"{system.molecules} x `{system.smiles}`",
            *paths,
            f"nu {model.correlation}, {model.layers} layers, hidden l {model.hidden_l_max}, {model.dtype}",
            f"{config.initial.frames} + {config.initial.test_frames} initial frames",
            f"{training.members} members x {training.updates} updates of {training.batch_size} frames",
            f"{sampling.replicas} replicas x {sampling.steps} steps at each of {temperatures} temperatures",
        ]
    )


def report(ledger: Ledger, *, wall_s: float, memory: MemoryWatch, load_before: float) -> str:
    """The tables in Markdown."""
    record = ledger.history()[0]
    lines = [
        f"{setting(ledger.config)}, {record.labelled} new labels ({record.label_failures} failed).",
        "",
        "| stage | seconds | |",
        "| --- | ---: | --- |",
        *(f"| {name} | {seconds:.1f} | {detail} |" for name, seconds, detail in stage_rows(ledger.parts())),
        f"| whole run, on the clock | {wall_s:.1f} | start of Python, torch and Prefect's flow included |",
        "",
        "| | |",
        "| --- | --- |",
        f"| peak memory | {memory.peak_bytes / 2**30:.2f} GiB in {memory.processes} processes (PSS; without server) |",
        f"| machine | {machine()}; load average before {load_before:.1f} |",
        f"| versions | {', '.join(f'{name} {version}' for name, version in versions(PACKAGES).items())} |",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the campaign and print the tables."""
    options = parse_arguments()
    if options.keep is not None and options.keep.exists():
        raise SystemExit(f"{options.keep} exists already, and only a new campaign can be timed; give a new directory")
    load_before = os.getloadavg()[0]
    try:
        config = validate_config(campaign_config(options), source="benchmark")
        server = ensure_server()  # here, so that the memory of a new server is not counted with the campaign
    except AlEngineError as error:
        raise SystemExit(f"error: {error}") from None
    if server.started:
        print(f"Prefect server started (it keeps running): {server.ui_url}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="al-engine-benchmark-") as scratch:
        config_file = Path(scratch) / "benchmark.yaml"
        config_file.write_text(config_text(config), encoding="utf-8")
        directory = options.keep or Path(scratch) / "campaign"
        wall_s, memory = run_campaign(config_file, directory)
        print(report(Ledger.open(directory), wall_s=wall_s, memory=memory, load_before=load_before))


if __name__ == "__main__":
    main()
