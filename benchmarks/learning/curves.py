"""Learning curves: rounds of selection, training and scoring; every finished round is a part that is read again."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.committee.deviation import force_deviation
from al_engine.config import ModelConfig, SelectionConfig, TrainingConfig
from al_engine.files.part_file import open_part, part_key, write_part
from al_engine.seeds import derived_rng, derived_seed
from al_engine.selection.window import window_of
from al_engine.structures.frames import FloatArray, Frame, IntArray, LabelledFrame
from learning.data import DataSource, FrameSet, Molecule, rows_by_temperature
from learning.strategies import STRATEGIES, Choice, Strategy, Unlabelled, asks_committee, choose
from models.inference.committee import Committee
from models.inference.descriptors import atom_descriptors
from models.storage.weights import TrainedMember, read_member, write_member
from models.training.training import train_member

MILLI = 1000.0
TAIL = 95.0
"""Percentile of the force errors that is reported as their tail."""
MODEL = ModelConfig.model_validate(
    {"kind": "mace", "short": {"cutoff_ang": 5.0, "channels": 16, "l_max": 2, "radial_mlp": []}}
)
"""A small model without a long path, which a single molecule does not need."""
MEMBERS = 4
BATCH = 32
METRICS = 1
"""Version of the results; raise it when other results are computed for a round."""
_START = "start"


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings that all curves share.

    Attributes:
        start: Number of labels drawn at random before the first round of selection.
        step: Number of labels of each round.
        rounds: Number of rounds of selection.
        updates: Updates of every member in every round.
        seed: Seed of everything except the data.
    """

    start: int = 50
    step: int = 50
    rounds: int = 4
    updates: int = 800
    seed: int = 0

    def training(self) -> TrainingConfig:
        """The engine's training; a round starts from the weights of the round before."""
        return TrainingConfig(
            members=MEMBERS,
            optimizer="adam",  # as in the published curves
            warm_learning_rate_factor=0.5,
            batch_size=10,
            validation_interval=max(1, self.updates // 4),
            patience=1000,
        )


@dataclass(frozen=True, slots=True)
class Curve:
    """A repeat of a strategy on a molecule."""

    molecule: Molecule
    strategy: Strategy
    repeat: int

    @property
    def title(self) -> str:
        """Name of the curve in messages."""
        return f"{self.molecule.name}, {self.strategy}, repeat {self.repeat}"


@dataclass(frozen=True, slots=True)
class Study:
    """The plan and the data of all curves; rounds are kept in the folder of the data."""

    plan: Plan
    source: DataSource

    def data(self, molecule: Molecule) -> "Data":
        """Pool and test set of a molecule.

        Raises:
            InputError: If the data have not been made.
        """
        return Data(self.source.load(molecule, "pool"), self.source.load(molecule, "test"))

    def path(self, curve: Curve, number: int) -> Path:
        """The part of a round; all strategies share the part of round 0."""
        name = curve.strategy.replace(" + ", "-") if number else _START
        return self.source.folder / f"{curve.molecule.name}-{curve.repeat}-{name}-round{number}.h5"

    def key(self, curve: Curve, number: int, data: "Data") -> str:
        """Key of the inputs that determine a round; the number of rounds of the plan is not an input."""
        inputs: dict[str, Any] = {
            "metrics": METRICS,
            "model": MODEL.model_dump(exclude_defaults=True),
            "plan": {name: value for name, value in asdict(self.plan).items() if name != "rounds"},
            "training": self.plan.training().model_dump(exclude_defaults=True),
            "strategy": curve.strategy if number else _START,
            "repeat": curve.repeat,
            "round": number,
        }
        return part_key("learning-round", inputs, [data.pool.digest, data.test.digest])


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The pool of frames to select from, and the test set."""

    pool: FrameSet
    test: FrameSet


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """A finished round.

    Attributes:
        labelled: Indices of the labelled frames of the pool, in order of the rounds, shape (L,).
        in_window: Number of unlabelled frames in the window; None for a strategy without a window.
        errors: Errors on the test set, as returned by `errors`, for each temperature and for `all`.
        seconds: CPU seconds of selection and training.
    """

    labelled: IntArray
    in_window: int | None
    errors: Mapping[str, Mapping[str, float]]
    seconds: float


def run_start(study: Study, molecule: Molecule, repeat: int) -> None:
    """Make the labels and the committee that all strategies of a repeat begin with, unless they exist."""
    plan, data, curve = study.plan, study.data(molecule), Curve(molecule, STRATEGIES[0], repeat)
    if read_round(study, curve, 0, data) is None:
        began = time.process_time()
        rng = derived_rng(plan.seed, "start", repeat)
        labelled = np.sort(rng.choice(len(data.pool.frames), size=plan.start, replace=False))
        members = _trained(plan, curve, 0, [data.pool.frames[k] for k in labelled], before=None)
        seconds = time.process_time() - began
        _write(study, curve, 0, data, choice=Choice(labelled), labelled=labelled, members=members, seconds=seconds)


def run_curve(study: Study, curve: Curve) -> None:
    """Run all rounds of a curve that are not finished."""
    plan, data = study.plan, study.data(curve.molecule)
    for number in range(1, plan.rounds + 1):
        if read_round(study, curve, number, data) is not None:
            continue
        began = time.process_time()
        last = read_round(study, curve, number - 1, data)
        if last is None:
            raise RuntimeError(f"{curve.title}: round {number - 1} is missing")
        with open_part(study.path(curve, number - 1)) as root:
            before = [read_member(root[f"member{index}"]) for index in range(MEMBERS)]
        choice = _choice(plan, curve, number, pool=data.pool, labelled=last.labelled, members=before)
        labelled = np.concatenate([last.labelled, choice.chosen])
        members = _trained(plan, curve, number, [data.pool.frames[k] for k in labelled], before=before)
        seconds = time.process_time() - began
        _write(study, curve, number, data, choice=choice, labelled=labelled, members=members, seconds=seconds)


def read_round(study: Study, curve: Curve, number: int, data: Data) -> Round | None:
    """A finished round; None if it does not exist or was made from other inputs."""
    path = study.path(curve, number)
    if not path.is_file():
        return None
    with open_part(path) as root:
        if root.attrs["key"] != study.key(curve, number, data):
            return None
        in_window = int(root.attrs["in_window"])
        return Round(
            labelled=root["labelled"][()],
            in_window=None if in_window < 0 else in_window,
            errors=json.loads(str(root.attrs["errors"])),
            seconds=float(root.attrs["seconds"]),
        )


def errors(energies: FloatArray, forces: Sequence[FloatArray], references: Sequence[LabelledFrame]) -> dict[str, float]:
    """Errors of energies (eV, shape (F,)) and forces (eV/Å, each shape (N, 3)) of F frames.

    Returns:
        Mean absolute errors of the energy per atom and of force components; the 95th percentile and the largest value
        of the length of an atom's force error. In meV/atom and meV/Å.
    """
    per_atom = [abs(e - item.energy) / len(item) for e, item in zip(energies, references, strict=True)]
    differences = np.concatenate([f - item.forces for f, item in zip(forces, references, strict=True)])
    lengths = np.linalg.norm(differences, axis=1)
    return {
        "energy_mev_per_atom": MILLI * float(np.mean(per_atom)),
        "force_mev_per_ang": MILLI * float(np.abs(differences).mean()),
        "force_p95_mev_per_ang": MILLI * float(np.percentile(lengths, TAIL)),
        "force_max_mev_per_ang": MILLI * float(lengths.max()),
    }


def _choice(
    plan: Plan, curve: Curve, number: int, *, pool: FrameSet, labelled: IntArray, members: Sequence[TrainedMember]
) -> Choice:
    """The next frames of the strategy, as indices of the pool."""
    rest = np.setdiff1d(np.arange(len(pool.frames)), labelled)
    frames = [pool.frames[k].frame for k in rest]
    available = Unlabelled(frames)
    if asks_committee(curve.strategy):
        _, forces = Committee([member.model for member in members]).predict(frames, batch_size=BATCH)
        sigma = [force_deviation(each).norm for each in forces]
        available = Unlabelled(frames, np.array([s.max() for s in sigma]), np.array([s.argmax() for s in sigma]))

    def describe(described: Sequence[Frame]) -> Iterator[FloatArray]:
        return atom_descriptors(members[0].model, described)

    choice = choose(
        curve.strategy,
        available,
        [pool.frames[k].frame for k in labelled],
        count=plan.step,
        window=window_of(SelectionConfig(), np.empty(0)),
        describe=describe,
        rng=derived_rng(plan.seed, curve.strategy, curve.repeat, number),
    )
    return Choice(rest[choice.chosen], choice.in_window)


def _trained(
    plan: Plan,
    curve: Curve,
    number: int,
    frames: Sequence[LabelledFrame],
    *,
    before: Sequence[TrainedMember] | None,
) -> list[TrainedMember]:
    """The committee of a round; seeds are the same for all strategies."""
    return [
        train_member(
            frames=frames,
            model=MODEL,
            training=plan.training(),
            seed=derived_seed(plan.seed, "member", curve.repeat, number, member),
            updates=plan.updates,
            start=None if before is None else before[member],
        )
        for member in range(MEMBERS)
    ]


def _write(
    study: Study,
    curve: Curve,
    number: int,
    data: Data,
    *,
    choice: Choice,
    labelled: IntArray,
    members: Sequence[TrainedMember],
    seconds: float,
) -> None:
    """Score the committee, and write the round's part."""
    path, key = study.path(curve, number), study.key(curve, number, data)
    with write_part(path, kind="learning-round", key=key) as root:
        root["labelled"] = labelled
        for index, member in enumerate(members):
            write_member(root.create_group(f"member{index}"), member)
        root.attrs["in_window"] = -1 if choice.in_window is None else choice.in_window
        root.attrs["errors"] = json.dumps(_scores(members, data.test))
        root.attrs["seconds"] = seconds


def _scores(members: Sequence[TrainedMember], test: FrameSet) -> dict[str, dict[str, float]]:
    """Errors of the committee's mean on the whole test set and at each temperature."""
    committee = Committee([member.model for member in members])
    energies, forces = committee.predict([item.frame for item in test.frames], batch_size=BATCH)
    mean_energies, mean_forces = energies.mean(axis=0), [each.mean(axis=0) for each in forces]
    groups = {f"{kelvin:g}": rows for kelvin, rows in rows_by_temperature(test.kelvin).items()}
    groups["all"] = np.arange(len(test.frames))
    return {
        name: errors(mean_energies[rows], [mean_forces[k] for k in rows], [test.frames[k] for k in rows])
        for name, rows in groups.items()
    }
