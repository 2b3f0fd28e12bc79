"""Training runs: updates within a budget, training, and errors; finished results are stored and read again."""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ablation.data import LabelledSet
from ablation.metrics import Predictions, curve_errors, set_errors
from ablation.variants import training
from al_engine.config import ModelConfig
from al_engine.errors import InputError
from al_engine.files.atomic import write_file
from al_engine.files.part_file import open_part, part_key, write_part
from al_engine.structures.frames import dataset_digest
from jobs import log, run_all
from models.inference.committee import Committee
from models.storage.weights import TrainedMember, read_member, write_member
from models.training.training import train_member

FIRST_TIMED, LAST_TIMED = 20, 60
"""Updates between which the time per update is measured; `train_member` reports every 20th update."""
EVALUATIONS = 15
SECONDS_BETWEEN_LINES = 20.0
PACES = "seconds_per_update.json"
METRICS = 1
"""Version of the errors; raise it when other errors are computed for a trained model."""
_MEMBER = "ablation-member"


@dataclass(frozen=True, slots=True)
class Run:
    """A model to train.

    Attributes:
        variant: Name in the table.
        model: Architecture.
        seed: Seed of weights, held-out frames and batches.
        learning_rate: Peak learning rate of the schedule.
        budget_s: CPU seconds of training; `with_updates` finds the number of updates.
        updates: Number of gradient updates; 0: not known yet.
        device: Device of training.
    """

    variant: str
    model: ModelConfig
    seed: int
    learning_rate: float
    budget_s: float
    updates: int = 0
    device: str = "cpu"

    @property
    def title(self) -> str:
        """Name of the run in messages."""
        return f"{self.variant}, rate {self.learning_rate:g}, seed {self.seed}"

    @property
    def pace_key(self) -> str:
        """Key of the inputs that determine the time of an update."""
        return part_key("ablation-pace", {"model": self.model.model_dump(exclude_defaults=True)}, [])


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run.

    Attributes:
        facts: `updates`, CPU `seconds`, `validation_loss` (eV², weighted) and number of `weights`; or only `failed`,
            the error of a run that diverged.
        errors: Errors on every set, as returned by `metrics.set_errors` and `metrics.curve_errors`.
    """

    facts: Mapping[str, Any]
    errors: Mapping[str, Mapping[str, float]]


def seconds_per_update(run: Run, data: LabelledSet) -> float:
    """CPU seconds of a gradient update, without preparation and validation."""
    times: dict[int, float] = {}

    def note(done: int, total: int, note: str = "") -> None:
        del total, note
        times[done] = time.process_time()

    updates = LAST_TIMED + 1
    train_member(
        frames=data.frames,
        model=run.model,
        training=training(updates=updates, learning_rate=run.learning_rate).model_copy(
            update={"validation_interval": updates}
        ),
        seed=run.seed,
        updates=updates,
        progress=note,
    )
    return (times[LAST_TIMED] - times[FIRST_TIMED]) / (LAST_TIMED - FIRST_TIMED)


def train(run: Run, data: LabelledSet, folder: Path) -> None:
    """Train the member and store it; if the run diverges, store the error."""
    start, last_line = time.process_time(), time.monotonic()

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal last_line
        if note and time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            log(f"{run.title}: {done} of {total} updates, {note}")

    with write_part(_member_path(run, folder), kind=_MEMBER, key=_member_key(run, data)) as root:
        try:
            member = train_member(
                frames=data.frames,
                model=run.model,
                training=training(updates=run.updates, learning_rate=run.learning_rate),
                seed=run.seed,
                updates=run.updates,
                device=run.device,
                progress=report,
            )
        except InputError as error:
            root.attrs["facts"] = json.dumps({"failed": str(error)})
            return
        write_member(root.create_group("member"), member)
        facts = {
            "updates": run.updates,
            "seconds": time.process_time() - start,
            "validation_loss": float(np.min(member.history.validation_loss)),
            "weights": sum(weight.numel() for weight in member.model.parameters()),
        }
        root.attrs["facts"] = json.dumps(facts)


def outcome(run: Run, data: Mapping[str, LabelledSet], folder: Path) -> Outcome | None:
    """The result of a run, or None if it has not been trained; errors are computed once and stored.

    Args:
        run: The run.
        data: The set `train`, and the sets on which errors are computed.
        folder: Folder of members and errors.
    """
    path = _member_path(run, folder)
    if not run.updates or not path.is_file():
        return None
    with open_part(path) as root:
        if root.attrs["key"] != _member_key(run, data["train"]):
            return None
        facts = json.loads(str(root.attrs["facts"]))
        content = str(root.attrs["content_hash"])
    if "failed" in facts:
        return Outcome(facts=facts, errors={})
    tests = {name: data[name] for name in sorted(data) if name != "train" and data[name].frames}
    digests = [dataset_digest(item.frames) for item in tests.values()]
    key = part_key("ablation-errors", {"metrics": METRICS, "sets": list(tests)}, [content, *digests])
    stored = path.with_suffix(".json")
    if stored.is_file() and (found := json.loads(stored.read_text(encoding="utf-8")))["key"] == key:
        return Outcome(facts=facts, errors=found["errors"])
    member = trained(run, folder)
    errors = {name: _errors(member, item, curves=name == "curves") for name, item in tests.items()}
    if errors:
        write_file(stored, json.dumps({"key": key, "errors": errors}, indent=1).encode())
    return Outcome(facts=facts, errors=errors)


def _errors(member: TrainedMember, data: LabelledSet, *, curves: bool) -> dict[str, float]:
    predicted = predict(member, data)
    return curve_errors(data, predicted.energies) if curves else set_errors(data, predicted)


def trained(run: Run, folder: Path) -> TrainedMember:
    """The trained member of a finished run."""
    with open_part(_member_path(run, folder)) as root:
        return read_member(root["member"])


def predict(member: TrainedMember, data: LabelledSet) -> Predictions:
    """Energies and forces of a member on a set."""
    energies, forces = Committee([member.model]).predict([item.frame for item in data.frames], batch_size=4)
    return Predictions(energies[0], [f[0] for f in forces])


def evaluation_ms(members: Mapping[str, TrainedMember], data: LabelledSet) -> dict[str, float]:
    """CPU milliseconds of energy and forces of the set's first frame, as in MD: medians, members taking turns.

    Measured with a single thread, because threads that wait for each other use CPU time too.
    """
    torch.set_num_threads(1)
    frame = data.frames[0].frame
    bound = {name: Committee([member.model]).bind([frame]) for name, member in members.items()}
    positions = torch.tensor(frame.positions)
    times: dict[str, list[float]] = {name: [] for name in members}
    for turn in range(EVALUATIONS + 3):
        for name, committee in bound.items():
            start = time.process_time()
            committee.energy_and_forces(positions, 0)
            if turn >= 3:  # noqa: PLR2004  # the first ones warm up
                times[name].append(1000.0 * (time.process_time() - start))
    return {name: median(values) for name, values in times.items()}


def measure_paces(pool: ProcessPoolExecutor, runs: Sequence[Run], data: LabelledSet, folder: Path) -> None:
    """Measure the time per update of each variant, unless the folder has it; each process measures one at a time."""
    known = _paces(folder)
    missing = {run.pace_key: run for run in runs if not run.updates and run.pace_key not in known}
    waiting = {pool.submit(seconds_per_update, run, data): run for run in missing.values()}
    for future in as_completed(waiting):
        run = waiting[future]
        known[run.pace_key] = future.result()
        write_file(folder / PACES, json.dumps(known, indent=1).encode())
        log(f"{run.variant}: {1000 * known[run.pace_key]:.0f} ms per update")


def with_updates(runs: Sequence[Run], folder: Path) -> list[Run]:
    """The runs, with the number of updates within their budgets if their time per update has been measured."""
    known = _paces(folder)
    return [
        run
        if run.updates or run.pace_key not in known
        else replace(run, updates=max(2, round(run.budget_s / known[run.pace_key])))
        for run in runs
    ]


def train_all(pool: ProcessPoolExecutor, runs: Sequence[Run], data: Mapping[str, LabelledSet], folder: Path) -> None:
    """Train the runs that are not finished, and compute their errors."""
    run_all(pool, {run.title: (_train_and_score, (run, data, folder)) for run in runs})


def _train_and_score(run: Run, data: Mapping[str, LabelledSet], folder: Path) -> None:
    if outcome(run, data, folder) is None:
        train(run, data["train"], folder)
        outcome(run, data, folder)


def _paces(folder: Path) -> dict[str, float]:
    path = folder / PACES
    known: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return known


def _member_path(run: Run, folder: Path) -> Path:
    words = "".join(c if (c.isascii() and c.isalnum()) or c in "-." else " " for c in run.title).split()
    return folder / f"{'-'.join(words)}.h5"


def _member_key(run: Run, data: LabelledSet) -> str:
    inputs = {
        "model": run.model.model_dump(exclude_defaults=True),
        "training": training(updates=run.updates, learning_rate=run.learning_rate).model_dump(exclude_defaults=True),
        "seed": run.seed,
        "updates": run.updates,
    }
    return part_key(_MEMBER, inputs, [dataset_digest(data.frames)])
