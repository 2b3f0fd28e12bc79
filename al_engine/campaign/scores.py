"""Scores of a committee on labels that it was not trained on: the test set and an iteration's new labels.

This module reads the labels to score, reads the scores back from evaluation parts, and assesses the committee by them.
"""

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
from al_engine.structures.clusters import central_molecule
from al_engine.structures.frames import BoolArray, FloatArray, LabelledFrame

GROUPS = ("test", "new")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled frames and what the scores need to know about each.

    Attributes:
        frames: The F frames.
        temperature_kelvin: Temperature at which each frame was sampled in K, shape (F,); NaN if unknown.
        interior: Whether each atom of a cluster stands for the box that the cluster was cut from
            (`Cutting.interior`), each shape (N,); None if frames are labelled whole.
    """

    frames: list[LabelledFrame]
    temperature_kelvin: FloatArray
    interior: list[BoolArray] | None = None


def read_test(parts: PartReader, config: CampaignConfig) -> Labelled:
    """Read the test set. Of a cluster, the molecule around which it was cut is interior; of other frames, all atoms.

    For mixtures the part has that molecule; equal molecules are found by their size.
    """
    with parts.open(names.INITIAL_DATASET) as root:
        frames = read_labelled(root["test"])
        known = has_dataset(root["test"], "temperature_kelvin")
        kelvins = root["test/temperature_kelvin"][()] if known else np.full(len(frames), np.nan)
        stored = root["test/central"][()] if has_dataset(root["test"], "central") else None
    cut = config.selection.cut_molecules
    if cut is None:
        return Labelled(frames, kelvins)
    if stored is not None:
        return Labelled(frames, kelvins, np.split(stored, np.cumsum([len(item) for item in frames])[:-1]))
    central = [central_molecule(item.frame, cut) for item in frames]
    everything = [np.ones(len(item), dtype=bool) for item in frames]
    return Labelled(
        frames,
        kelvins,
        [whole if atoms is None else atoms for atoms, whole in zip(central, everything, strict=True)],
    )


def read_new(parts: PartReader, config: CampaignConfig, iteration: int) -> Labelled:
    """Read the new labels of an iteration."""
    labelled = read_labels(parts.path(name) for name in parts.label_chunks(names.selection(iteration))).labelled
    with parts.open(names.selection(iteration)) as root:
        part = root["source"][()][root["chosen"][()], 0]
        interior = interior_atoms(root["selected"], config)
    kelvins = np.asarray(config.sampling.temperatures_kelvin)[part[list(labelled)]]
    return Labelled(
        list(labelled.values()),
        kelvins.astype(np.float64),
        None if interior is None else [interior[index] for index in labelled],
    )


def interior_atoms(selected: h5py.Group, config: CampaignConfig) -> list[BoolArray] | None:
    """The interior of every structure that was chosen; None if frames are labelled whole.

    Parts of earlier versions have no interior: in them it is the central molecule.
    """
    cut = config.selection.cut_molecules
    if cut is None or not has_dataset(selected, "centre_molecule"):
        return None
    n_atoms = selected["n_atoms"][()]
    if has_dataset(selected, "interior"):
        interior = selected["interior"][()]
    else:
        # Molecules are alike and their atoms successive, in the box as in the cluster.
        interior = selected["atom"][()] // np.repeat(n_atoms // cut, n_atoms) == np.repeat(
            selected["centre_molecule"][()], n_atoms
        )
    return np.split(interior, np.cumsum(n_atoms)[:-1]) if len(n_atoms) else []


INTERIOR = "interior"
"""Group of scores over interior atoms, in a group of scores of clusters cut from boxes; both have the same names."""


def box_scores(group: h5py.Group) -> h5py.Group:
    """The scores that describe the sampled frames: of the interior of clusters cut from boxes, otherwise of all atoms.

    Args:
        group: Group `test` or `new` of an evaluation part. Parts of earlier versions have scores of all atoms only.
    """
    if INTERIOR not in group:
        return group
    interior: h5py.Group = group[INTERIOR]
    return interior


def read_scored(group: h5py.Group, deviation: str, *, kelvin: float | None = None) -> ScoredFrames:
    """Read the deviations and errors of a group's frames, as the calibration needs them (`box_scores`).

    Args:
        group: Group `test` or `new` of an evaluation part.
        deviation: The deviation that the window refers to: `norm` or `component`.
        kelvin: Read only the frames of this temperature, K; None: all frames.
    """
    scores = box_scores(group)
    scored = ScoredFrames(
        deviation=scores[f"deviation_{deviation}"][()],
        error=scores["force_error"][()],
        member_error=scores["member_force_error"][()].mean(axis=0),
    )
    return scored if kelvin is None else scored.where(group["temperature_kelvin"][()] == kelvin)


def read_member_forces(group: h5py.Group) -> list[MemberForces]:
    """Read the members' forces and the reference forces on every frame of a group."""
    ends = np.cumsum(group["n_atoms"][()])[:-1]
    if not len(group["n_atoms"]):
        return []
    predicted = np.split(group["forces_members"][()].astype(np.float64), ends, axis=1)
    reference = np.split(group["forces_reference"][()], ends)
    return [MemberForces(p, r) for p, r in zip(predicted, reference, strict=True)]


@dataclass(frozen=True, slots=True)
class Assessment:
    """Calibration of the window, health of the committee, and warnings, from the labels of an iteration."""

    calibration: Calibration
    health: CommitteeHealth | None
    warnings: tuple[str, ...]


def assess(root: h5py.Group, *, window: Window, deviation: str) -> Assessment:
    """Compute calibration and committee health from an evaluation part.

    Args:
        root: The root of the part.
        window: The window of the iteration.
        deviation: The deviation that the window refers to: `norm` or `component`.
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
