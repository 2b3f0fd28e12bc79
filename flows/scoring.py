"""Scoring: a committee against labels it was not trained on, written to a part, and what is read out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from al_engine.calibration import Calibration, ScoredFrames, calibrate, calibration_warnings
from al_engine.frame_io import has_dataset, read_labelled
from al_engine.frames import FloatArray, LabelledFrame
from al_engine.health import CommitteeHealth, MemberForces, committee_health
from al_engine.ledger import Ledger
from al_engine.parts import open_part
from al_engine.scores import score_frames
from al_engine.window import Window
from flows import names
from flows.labelling import read_labels

if TYPE_CHECKING:
    from models.committee import Committee

GROUPS = ("test", "new")
EVALUATION_BATCH = 16  # frames at a time: bounds memory, a 120-atom batch still fits a laptop


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled frames and the temperature each was sampled at in K, shape (F,); NaN where none is known."""

    frames: list[LabelledFrame]
    temperature_kelvin: FloatArray


def read_test(ledger: Ledger) -> Labelled:
    """The test set."""
    with open_part(ledger.part_path(names.INITIAL_DATASET)) as root:
        frames = read_labelled(root["test"])
        there = has_dataset(root["test"], "temperature_kelvin")
        kelvins = root["test/temperature_kelvin"][()] if there else np.full(len(frames), np.nan)
    return Labelled(frames, kelvins)


def read_new(ledger: Ledger, iteration: int) -> Labelled:
    """The new labels of an iteration."""
    labelled = read_labels(ledger.label_parts(iteration)).labelled
    with open_part(ledger.part_path(names.selection(iteration))) as root:
        part = root["source"][()][root["chosen"][()], 0]
    kelvins = np.asarray(ledger.config.sampling.temperatures_kelvin)[part[list(labelled)]]
    return Labelled(list(labelled.values()), kelvins.astype(np.float64))


def write_scores(group: h5py.Group, committee: "Committee", labelled: Labelled) -> None:
    """Write labels and all members' predictions side by side, what each frame's deviation and error are, and the MAEs.

    Args:
        group: An empty group.
        committee: The committee.
        labelled: The labels.
    """
    frames = labelled.frames
    energies, forces = committee.predict([item.frame for item in frames], batch_size=EVALUATION_BATCH)
    references = [item.forces for item in frames]
    group["n_atoms"] = np.array([len(item) for item in frames], dtype="<i8")
    group["temperature_kelvin"] = labelled.temperature_kelvin
    group["energy_reference"] = np.array([item.energy for item in frames], dtype="<f8")
    group["energy_members"] = energies
    group["energy_predicted"] = energies.mean(axis=0)
    none = np.empty((committee.n_members, 0, 3))
    members = np.concatenate([none, *forces], axis=1)
    group["forces_reference"] = np.concatenate([np.empty((0, 3)), *references])
    group["forces_members"] = members.astype("<f4")  # for comparisons in meV/Å
    group["forces_predicted"] = members.mean(axis=0)
    scores = score_frames(forces, references, members=committee.n_members)
    for name in scores.__slots__:
        group[name] = getattr(scores, name)
    if frames:
        per_atom = np.abs(group["energy_predicted"][()] - group["energy_reference"][()]) / group["n_atoms"][()]
        group.attrs["energy_mae_mev_per_atom"] = 1e3 * float(per_atom.mean())
        force_errors = np.abs(group["forces_predicted"][()] - group["forces_reference"][()])
        group.attrs["force_mae_mev_per_ang"] = 1e3 * float(force_errors.mean())


def read_scored(group: h5py.Group, deviation: str, *, kelvin: float | None = None) -> ScoredFrames:
    """What calibration asks of a group's frames; of those of one temperature only, if one is given.

    Args:
        group: As written by `write_scores`.
        deviation: Which deviation the window is on: `norm` or `component`.
        kelvin: The temperature in K.
    """
    scored = ScoredFrames(
        deviation=group[f"deviation_{deviation}"][()],
        error=group["force_error"][()],
        member_error=group["member_force_error"][()].mean(axis=0),
    )
    return scored if kelvin is None else scored.where(group["temperature_kelvin"][()] == kelvin)


def read_member_forces(group: h5py.Group) -> list[MemberForces]:
    """Every frame of a group as each member sees it."""
    ends = np.cumsum(group["n_atoms"][()])[:-1]
    if not len(group["n_atoms"]):
        return []
    predicted = np.split(group["forces_members"][()].astype(np.float64), ends, axis=1)
    reference = np.split(group["forces_reference"][()], ends)
    return [MemberForces(p, r) for p, r in zip(predicted, reference, strict=True)]


@dataclass(frozen=True, slots=True)
class Assessment:
    """What an iteration's labels say of its committee and its window."""

    calibration: Calibration
    health: CommitteeHealth | None
    warnings: tuple[str, ...]


def assess(path: Path, *, window: Window, deviation: str) -> Assessment:
    """Read calibration and committee health out of an evaluation part.

    Args:
        path: The part.
        window: The window in force.
        deviation: Which deviation it is on: `norm` or `component`.
    """
    with open_part(path) as root:
        test, new = (read_scored(root[name], deviation) for name in GROUPS)
        health = committee_health(*(read_member_forces(root[name]) for name in GROUPS))
    lower = window.lower_mev_per_ang
    calibration = calibrate(test, new, lower_mev_per_ang=lower, upper_mev_per_ang=window.upper_mev_per_ang)
    warnings: Sequence[str] = [] if health is None else health.warnings()
    return Assessment(
        calibration=calibration,
        health=health,
        warnings=(*warnings, *calibration_warnings(calibration, lower_mev_per_ang=lower)),
    )
