"""Learning curves: label, train, score, round after round; every round is a part, found again."""

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
"""Percentile of the force errors that stands for the tail."""
MODEL = ModelConfig.model_validate(
    {"kind": "mace", "short": {"cutoff_ang": 5.0, "channels": 16, "l_max": 2, "radial_mlp": []}}
)
"""As wide as the preset `quick`, without its long path: one molecule has no long range."""
MEMBERS = 4
BATCH = 32
METRICS = 1
"""To be raised when what is computed of a round changes."""
_START = "start"


@dataclass(frozen=True, slots=True)
class Plan:
    """What all curves share.

    Attributes:
        start: Labels drawn by lot before the first choice.
        step: Labels of each round.
        rounds: Rounds of choice.
        updates: Updates of every member in every round.
        seed: Seed of everything but the data.
    """

    start: int = 50
    step: int = 50
    rounds: int = 4
    updates: int = 800
    seed: int = 0

    def training(self) -> TrainingConfig:
        """The engine's training: later rounds start from the weights of the one before."""
        return TrainingConfig(
            members=MEMBERS,
            batch_size=10,
            validation_interval=max(1, self.updates // 4),
            patience=1000,
        )


@dataclass(frozen=True, slots=True)
class Curve:
    """One strategy once."""

    molecule: Molecule
    strategy: Strategy
    repeat: int

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.molecule.name}, {self.strategy}, repeat {self.repeat}"


@dataclass(frozen=True, slots=True)
class Study:
    """The plan and the data of all curves; rounds are kept where the data are."""

    plan: Plan
    source: DataSource

    def data(self, molecule: Molecule) -> "Data":
        """Pool and test set of a molecule.

        Raises:
            InputError: If they have not been made.
        """
        return Data(self.source.load(molecule, "pool"), self.source.load(molecule, "test"))

    def path(self, curve: Curve, number: int) -> Path:
        """The part of a round; the first is the same for all strategies."""
        name = curve.strategy.replace(" + ", "-") if number else _START
        return self.source.folder / f"{curve.molecule.name}-{curve.repeat}-{name}-round{number}.h5"

    def key(self, curve: Curve, number: int, data: "Data") -> str:
        """Names all that decides a round; of the plan's rounds, only those before it."""
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
    """What there is to choose from, and what errors are taken on."""

    pool: FrameSet
    test: FrameSet


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """A finished round.

    Attributes:
        labelled: Indices of the pool's frames that are labelled, in order of the rounds, shape (L,).
        in_window: How many frames of the rest the window held; None where no window was asked.
        errors: On the test set by temperature, and `all`: what `errors` returns.
        seconds: CPU seconds of choice and training.
    """

    labelled: IntArray
    in_window: int | None
    errors: Mapping[str, Mapping[str, float]]
    seconds: float


def run_start(study: Study, molecule: Molecule, repeat: int) -> None:
    """The labels and the committee that all strategies of a repeat begin with, unless they are there."""
    plan, data, curve = study.plan, study.data(molecule), Curve(molecule, STRATEGIES[0], repeat)
    if read_round(study, curve, 0, data) is None:
        began = time.process_time()
        rng = derived_rng(plan.seed, "start", repeat)
        labelled = np.sort(rng.choice(len(data.pool.frames), size=plan.start, replace=False))
        members = _trained(plan, curve, 0, [data.pool.frames[k] for k in labelled], before=None)
        seconds = time.process_time() - began
        _write(study, curve, 0, data, choice=Choice(labelled), labelled=labelled, members=members, seconds=seconds)


def run_curve(study: Study, curve: Curve) -> None:
    """All rounds of a curve that are not there."""
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
    """A round, if it is there as the study makes it."""
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
        Mean absolute errors of the energy per atom and of force components; and of the length of the error of an atom's
        force the 95th percentile and the largest. In meV and meV/Å.
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
    """What the strategy takes next, as indices of the pool."""
    rest = np.setdiff1d(np.arange(len(pool.frames)), labelled)
    frames = [pool.frames[k].frame for k in rest]
    available = Unlabelled(frames)
    if asks_committee(curve.strategy):
        _, forces = Committee([member.model for member in members]).predict(frames, batch_size=BATCH)
        sigma = [force_deviation(each).norm for each in forces]
        available = Unlabelled(frames, np.array([s.max() for s in sigma]), np.array([s.argmax() for s in sigma]))

    def describe(some: Sequence[Frame]) -> Iterator[FloatArray]:
        return atom_descriptors(members[0].model, some)

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
    """Errors of the committee's mean, over all of the test set and at each temperature."""
    committee = Committee([member.model for member in members])
    energies, forces = committee.predict([item.frame for item in test.frames], batch_size=BATCH)
    mean_energies, mean_forces = energies.mean(axis=0), [each.mean(axis=0) for each in forces]
    groups = {f"{kelvin:g}": rows for kelvin, rows in rows_by_temperature(test.kelvin).items()}
    groups["all"] = np.arange(len(test.frames))
    return {
        name: errors(mean_energies[rows], [mean_forces[k] for k in rows], [test.frames[k] for k in rows])
        for name, rows in groups.items()
    }
