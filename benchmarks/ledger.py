"""Time and memory of ledger operations in a campaign of a million sampled frames and a hundred thousand labels.

    python benchmarks/ledger.py --json
    python benchmarks/ledger.py --shares 0.01 0.1

Frames of 120 atoms are random. The engine itself writes, links, verifies and reads the files, as in a campaign. Several
shares of the full size are measured, to find operations that grow faster than linearly.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.labels import LabelReason
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import Part
from al_engine.config import CampaignConfig
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import validate_config
from al_engine.files.frames_hdf5 import write_frames, write_labelled
from al_engine.files.hdf5 import append_rows, growing
from al_engine.files.part_file import write_part
from al_engine.selection.fates import Fate, count
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.verdict.records import IterationRecord, TemperatureRecord
from machine import circumstances, versions
from result_tables import ledger_table

ATOMS, SAMPLED, LABELS, ITERATIONS = 120, 1_000_000, 100_000, 20
SHARES = (0.01, 0.1, 1.0)
KELVINS = (300.0, 500.0, 700.0, 900.0)
BLOCK = 1000
"""Frames written at a time."""
CHUNK = 100
"""Number of labels in a part."""
OPERATIONS = ("status", "verify", "load", "resume")


def config() -> CampaignConfig:
    """The config of the campaign."""
    wanted = {"name": "large", "system": {"smiles": "C"}, "sampling": {"temperatures_kelvin": list(KELVINS)}}
    return validate_config(merged(wanted, PRESETS["quick"]), source="benchmark")


def build(directory: Path, share: float, seed: int) -> float:
    """Write a campaign directory of a share of the full size; returns the seconds of its last append."""
    rng = np.random.default_rng(seed)
    ledger = Ledger(directory, config())
    ledger.write_config()
    ledger.begin()
    _stage(ledger, names.INITIAL_FRAMES, _nothing)
    _stage(
        ledger, names.INITIAL_DATASET, lambda root: write_labelled(root.create_group("labelled"), _labelled(rng, 10))
    )
    per_iteration, sampled = round(share * LABELS / ITERATIONS), round(share * SAMPLED / ITERATIONS / len(KELVINS))
    size, seconds = 10, 0.0
    for iteration in range(ITERATIONS):
        for member in range(ledger.config.training.members):
            _stage(ledger, names.member(iteration, member), _nothing)
        for kelvin in KELVINS:
            _sample(ledger, names.sample(iteration, kelvin), sampled, rng)
        labelled = _labelled(rng, per_iteration)
        fates = np.full(sampled * len(KELVINS), Fate.ACCURATE, dtype=np.int8)
        fates[: len(labelled)] = Fate.LABELLED
        _select(ledger, iteration, fates)
        for first in range(1, per_iteration + 1, CHUNK):
            last = min(first + CHUNK - 1, per_iteration)
            _label(ledger, names.labels(names.selection(iteration), first, last), labelled[first - 1 : last])
        _stage(ledger, names.evaluation(iteration), _nothing)
        size += per_iteration
        start = time.perf_counter()
        _append(ledger, iteration, labelled, fates=fates, size=size)
        seconds = time.perf_counter() - start
    return seconds


def _nothing(root: Any) -> None:
    """Fill a part whose content no operation reads."""
    root["nothing"] = np.zeros(1)


def _select(ledger: Ledger, iteration: int, fates: np.ndarray) -> None:
    def fill(root: Any) -> None:
        root["fate"] = fates
        root["chosen"] = np.flatnonzero(fates == Fate.LABELLED)

    _stage(ledger, names.selection(iteration), fill)


def _label(ledger: Ledger, name: str, labelled: list[LabelledFrame]) -> None:
    def fill(root: Any) -> None:
        write_labelled(root.create_group("labelled"), labelled)
        root["reason"] = np.array([LabelReason.OK.value] * len(labelled), dtype="S")
        root["message"] = np.array([b""] * len(labelled), dtype="S400")
        root["rescue"] = np.array([b""] * len(labelled), dtype="S40")
        root.attrs["level_of_theory"] = "{}"

    _stage(ledger, name, fill)


def _stage(ledger: Ledger, name: str, fill: Callable[[Any], None]) -> Part:
    with write_part(ledger.part_path(name), kind=name, key=ledger.key(name, inputs={}, parents=[])) as root:
        fill(root)
    return ledger.finish([name])[0]


def _labelled(rng: np.random.Generator, count: int) -> list[LabelledFrame]:
    numbers = np.full(ATOMS, 9)
    return [
        LabelledFrame(Frame(numbers, rng.normal(size=(ATOMS, 3))), rng.normal(), rng.normal(size=(ATOMS, 3)))
        for _ in range(count)
    ]


def _sample(ledger: Ledger, name: str, count: int, rng: np.random.Generator) -> None:
    key = ledger.key(name, inputs={}, parents=[])
    with write_part(ledger.part_path(name), kind=name, key=key, streamed=True) as root:
        group = root.create_group("frames")
        write_frames(group, [])
        del group["positions"]
        positions = growing(group, "positions", row=(3,), dtype=np.dtype("<f8"), expected=count * ATOMS)
        for first in range(0, count, BLOCK):
            rows = min(BLOCK, count - first)
            append_rows(positions, rng.normal(size=(rows * ATOMS, 3)))
        root["deviation_norm"] = rng.random(count)
        root["stop_reason"] = np.zeros(8, dtype=int)
    ledger.finish([name])


def _append(ledger: Ledger, iteration: int, labelled: list[LabelledFrame], *, fates: np.ndarray, size: int) -> None:
    counts = count(fates)
    record = IterationRecord(
        iteration=iteration,
        temperatures=(TemperatureRecord(300.0, counts, float(len(fates)), 8, 0),),
        labelled=len(labelled),
        label_failures=0,
        dataset_size=size,
        error_before_training_mev_per_ang=1.0,
        test_force_mae_mev_per_ang=1.0,
        test_energy_mae_mev_per_atom=1.0,
    )

    def fill(root: Any) -> None:
        write_labelled(root.create_group("labelled"), labelled)
        root["fate"] = fates
        root.attrs.update(record=record.to_json(), iteration_seconds=1.0)

    _stage(ledger, names.append(iteration), fill)


def operate(directory: Path, operation: str) -> None:
    """Run an operation on a campaign directory; for a separate process."""
    if operation == "status":
        from flows.pages.status import campaign_status

        campaign_status(directory)
    elif operation == "verify":
        from al_engine.campaign.audit.verify import verify

        answer, text = verify(directory, repaired=False)
        if not answer["sound"]:
            raise SystemExit(text)
    elif operation == "load":
        if not Ledger.open(directory).dataset():
            raise SystemExit("no data set")
    else:  # resume: find that all parts are finished
        ledger = Ledger.open(directory)
        ledger.begin()
        for part in ledger.parts():
            ledger.find(part.name, part.key)


def measured(directory: Path, operation: str) -> dict[str, float]:
    """Wall time in seconds and peak memory in MiB of an operation, in a new process."""
    command = [sys.executable, __file__, "--operate", operation, "--directory", str(directory)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 (this file)
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="shares of the full size")
    parser.add_argument("--folder", type=Path, help="folder with 5 GB free; default: the system's temporary folder")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--operate", choices=OPERATIONS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.operate:
        start = time.perf_counter()
        operate(options.directory, options.operate)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mib": peak}))
        return
    rows = []
    about = {**circumstances(), "versions": versions(("al-engine", "h5py", "numpy"))}
    for share in options.shares:
        directory = Path(tempfile.mkdtemp(prefix="al-engine-ledger-", dir=options.folder))
        try:
            seconds = build(directory / "run", share, seed=0)
            size = sum(path.stat().st_size for path in directory.rglob("*.h5"))
            row = {
                "sampled": round(share * SAMPLED),
                "labels": round(share * LABELS),
                "bytes": size,
                "parts": sum(1 for _ in directory.rglob("parts/*.h5")),
                "append": {"seconds": seconds},
            }
            rows.append(row | {name: measured(directory / "run", name) for name in OPERATIONS})
        finally:
            shutil.rmtree(directory)
    result = {"ledger": rows, "about": about}
    print(json.dumps(result, indent=1) if options.json else ledger_table(result))


if __name__ == "__main__":
    main()
