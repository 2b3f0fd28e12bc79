"""Initial sets from the classical anneal and from MD by GFN2-xTB: errors of the first model, and what the set costs.

For each system and each kind of initial set, the set is made as by a campaign with the preset `quick`, and a single
member is trained on it. The member is tested on frames of MD by GFN2-xTB at the sampling temperatures, from other
packings. Writes `results/initial-sets.json` and `initial-sets.md`. Every finished run is kept in the folder `--data`:
the same command continues an interrupted benchmark, and `--report` makes the tables from the finished runs.

    python benchmarks/initial_sets.py --jobs 2
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.config import OneSystemConfig
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import validate_config
from al_engine.errors import InputError
from al_engine.files.atomic import write_file
from al_engine.files.frames_hdf5 import read_labelled, write_labelled
from al_engine.files.part_file import open_part, part_key, write_part
from al_engine.seeds import derived_seed
from al_engine.structures.frames import FloatArray, Frame, LabelledFrame
from jobs import log, run_all, workers
from labelers.backends.protocol import LabelError
from labelers.backends.registry import create_labeler
from labelers.checks.reference import ReferenceMethod
from learning.curves import errors
from learning.data import rows_by_temperature
from machine import circumstances, versions
from models.inference.committee import Committee
from models.training.training import train_member
from molecules import SYSTEMS
from pages import origin, page, publish, spread
from pages import parser as page_parser
from result_tables import table
from samplers.building.system import build_system
from samplers.initial.initial import InitialFrames, initial_frames
from samplers.initial.reference_geometry import relaxed_system

HERE = Path(__file__).resolve().parent
PACKAGES = ("al-engine", "torch", "numpy", "tblite", "openmm", "rdkit")
NAME = "initial-sets"
DEFAULT_SYSTEMS = ("acetamide x 2", "formic acid x 2", "ethylene glycol", "imidazolium")
KINDS: Mapping[str, Mapping[str, Any]] = {
    "anneal, 400 frames": {"source": "anneal", "frames": 400},
    "anneal, 800 frames": {"source": "anneal", "frames": 800},
    "GFN2-xTB, 400 frames, every 40 steps": {"source": "reference", "frames": 400, "reference_stride_steps": 40},
    "GFN2-xTB, 800 frames, every 20 steps": {"source": "reference", "frames": 800, "reference_stride_steps": 20},
}
"""Changes to the `initial` section of the preset `quick`, by the name in the tables."""
TEST: Mapping[str, Any] = {
    "source": "reference",
    "frames": 160,
    "test_frames": 200,
    "hot_kelvin": 1000.0,
    "reference_stride_steps": 100,
}
"""The `initial` section that makes the test set; its training frames are not used."""
BATCH = 20
UNUSED_FRAMES = 4
"""Test frames of the sets that are trained on, one for each temperature: all sets are tested on other frames."""


@dataclass(frozen=True, slots=True)
class Run:
    """An initial set to be made, trained on and tested; its fields name its file."""

    system: str
    kind: str
    seed: int

    @property
    def title(self) -> str:
        """Name of the run in messages and of its file."""
        return "-".join(f"{self.system} {self.kind} {self.seed}".replace(",", "").split())


def config_of(system: str, initial: Mapping[str, Any]) -> OneSystemConfig:
    """The config of a quick campaign on a system, with another `initial` section."""
    values = {"name": "trial", "system": SYSTEMS[system], "labels": {"backend": "tblite"}, "initial": initial}
    return validate_config(merged(PRESETS["quick"], values), source="benchmark").by_system[""]


def frames_of(config: OneSystemConfig, *, seed: int) -> InitialFrames:
    """The initial and the test frames of a campaign."""
    system = build_system(config.system, base_dir=Path(), seed=seed)
    kelvins = config.sampling.temperatures_kelvin
    if config.initial.source == "anneal":
        return initial_frames(system, config.initial, kelvins, base_dir=Path(), seed=seed)
    with ReferenceMethod(config.labels, config.selection, periodic=False, workers=1) as reference:
        relaxed = relaxed_system(reference, system, config.system, seed=seed)
        return initial_frames(relaxed, config.initial, kelvins, base_dir=Path(), seed=seed, reference=reference)


def labelled(frames: Sequence[Frame], config: OneSystemConfig) -> dict[int, LabelledFrame]:
    """The frames with their labels by GFN2-xTB, by index; frames that cannot be labelled are left out."""
    labeler = create_labeler(config.labels)
    found = {}
    for index, frame in enumerate(frames):
        with suppress(LabelError):
            found[index] = LabelledFrame(frame, *labeler.label(frame))
    return found


def test_path(folder: Path, system: str) -> Path:
    """File of a system's test set."""
    return folder / f"test-{'-'.join(system.split())}.h5"


def make_test_set(system: str, folder: Path) -> None:
    """Make and label the test set of a system, unless it exists."""
    path = test_path(folder, system)
    if path.is_file():
        return
    config = config_of(system, TEST)
    found = frames_of(config, seed=derived_seed(0, f"test of {system}"))
    with write_part(path, kind="test", key=part_key("test", {"config": config.model_dump(mode="json")}, [])) as root:
        labels = labelled(found.test, config)
        write_labelled(root.create_group("frames"), list(labels.values()))
        root["kelvin"] = found.test_temperature_kelvin[list(labels)]


def read_test_set(system: str, folder: Path) -> tuple[list[LabelledFrame], FloatArray]:
    """The labelled test frames of a system, and the temperature of each in K."""
    with open_part(test_path(folder, system)) as root:
        return list(read_labelled(root["frames"])), np.asarray(root["kelvin"])


def make_and_test(run: Run, folder: Path) -> None:
    """Make the initial set, train a member on it, test it at every temperature, and write the result."""
    path = folder / f"{run.title}.json"
    if path.is_file():
        return
    config = config_of(run.system, {**KINDS[run.kind], "test_frames": UNUSED_FRAMES})
    begun = time.perf_counter()
    made = frames_of(config, seed=run.seed)
    frames_s = time.perf_counter() - begun
    train = list(labelled(made.train, config).values())
    labels_s = time.perf_counter() - begun - frames_s
    begun = time.perf_counter()
    training = config.training
    member = train_member(frames=train, model=config.model, training=training, seed=run.seed, updates=training.updates)
    train_s = time.perf_counter() - begun
    test, kelvin = read_test_set(run.system, folder)
    energies, forces = Committee([member.model]).predict([item.frame for item in test], batch_size=BATCH)
    found = {
        f"{each:g}": errors(energies[0, rows], [forces[k][0] for k in rows], [test[k] for k in rows])
        for each, rows in rows_by_temperature(kelvin).items()
    }
    seconds = {"frames": frames_s, "labels": labels_s, "training": train_s}
    write_file(path, json.dumps({"seconds": seconds, "errors": found}).encode())


def tabulated(runs: Sequence[Run], folder: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Results of the finished runs, by system and kind.

    Raises:
        InputError: If no run is finished.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for run in runs:
        path = folder / f"{run.title}.json"
        if path.is_file():
            found.setdefault(run.system, {}).setdefault(run.kind, []).append(json.loads(path.read_text()))
    if not found:
        raise InputError("no run is finished; run the command without --report")
    return found


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page."""
    lines = [
        "# Initial sets",
        "",
        (
            "Two kinds of initial set are compared: from the classical anneal with MMFF94, and from MD with GFN2-xTB "
            "at temperatures from 2000 K down to 280 K. Both have the settings of the preset `quick`. A single member "
            f"is trained on each set, and tested on {TEST['test_frames']} frames of MD by GFN2-xTB that started from "
            "other packings. The tables give the mean absolute error of the force components at each temperature, and "
            "the 95th percentile of the error of an atom's force at 900 K. Times are for one core. A value is "
            "the mean over the seeds, ± half their range if there are several."
        ),
    ]
    for system, kinds in result["systems"].items():
        kelvins = list(next(iter(kinds.values()))[0]["errors"])
        head = ["initial set", "frames, s", "labels, s", "training, s", *(f"{kelvin} K, meV/Å" for kelvin in kelvins)]
        rows = [
            [
                kind,
                *(spread([run["seconds"][what] for run in runs], 0) for what in ("frames", "labels", "training")),
                *(spread([run["errors"][kelvin]["force_mev_per_ang"] for run in runs], 1) for kelvin in kelvins),
                spread([run["errors"][kelvins[-1]]["force_p95_mev_per_ang"] for run in runs], 0),
            ]
            for kind, runs in kinds.items()
        ]
        lines += ["", f"## {system}", "", table([*head, f"{kelvins[-1]} K: 95 %"], rows)]
    lines += ["", *origin(result["about"])]
    return page(lines, reading=reading)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; every option has the default that the published figures use."""
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache" / NAME)
    parser.add_argument(
        "--systems", nargs="+", metavar="SYSTEM", choices=list(SYSTEMS), default=list(DEFAULT_SYSTEMS), help="systems"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of frames, weights and batches")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes, with one thread each")
    return parser.parse_args(arguments)


def main() -> None:
    """Make the sets, train, test, write the tables."""
    options = parse_arguments()
    about = {**circumstances(), "versions": versions(PACKAGES)}
    runs = [Run(system, kind, seed) for seed in options.seeds for system in options.systems for kind in KINDS]
    folder: Path = options.data
    folder.mkdir(parents=True, exist_ok=True)
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    if not options.report:
        with workers(options.jobs) as pool:
            run_all(pool, {f"{system}: test set": (make_test_set, (system, folder)) for system in options.systems})
            run_all(pool, {run.title: (make_and_test, (run, folder)) for run in runs})
    try:
        result = {"about": about, "systems": tabulated(runs, folder)}
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    log(f"written: {publish(result, markdown, output=options.output, name=NAME)}")
    if options.json:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
