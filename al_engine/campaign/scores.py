"""Scoring: a committee against labels it was not trained on, written to a part, and what is read out of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.labels import read_labels
from al_engine.campaign.part_reader import PartReader
from al_engine.committee.calibration import Calibration, ScoredFrames, calibrate, calibration_warnings
from al_engine.committee.health import CommitteeHealth, MemberForces, committee_health
from al_engine.config import CampaignConfig
from al_engine.files.frames_hdf5 import has_dataset, read_labelled
from al_engine.selection.window import Window
from al_engine.structures.frames import FloatArray, LabelledFrame

GROUPS = ("test", "new")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled frames and the temperature each was sampled at in K, shape (F,); NaN where none is known."""

    frames: list[LabelledFrame]
    temperature_kelvin: FloatArray


def read_test(parts: PartReader) -> Labelled:
    """The test set."""
    with parts.open(names.INITIAL_DATASET) as root:
        frames = read_labelled(root["test"])
        there = has_dataset(root["test"], "temperature_kelvin")
        kelvins = root["test/temperature_kelvin"][()] if there else np.full(len(frames), np.nan)
    return Labelled(frames, kelvins)


def read_new(parts: PartReader, config: CampaignConfig, iteration: int) -> Labelled:
    """The new labels of an iteration."""
    labelled = read_labels(parts.path(name) for name in parts.label_chunks(iteration)).labelled
    with parts.open(names.selection(iteration)) as root:
        part = root["source"][()][root["chosen"][()], 0]
    kelvins = np.asarray(config.sampling.temperatures_kelvin)[part[list(labelled)]]
    return Labelled(list(labelled.values()), kelvins.astype(np.float64))


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


def assess(root: h5py.Group, *, window: Window, deviation: str) -> Assessment:
    """Read calibration and committee health out of an evaluation part.

    Args:
        root: The root of the part.
        window: The window in force.
        deviation: Which deviation it is on: `norm` or `component`.
    """
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
