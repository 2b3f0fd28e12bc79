"""Scores of a committee on labels that it was not trained on: the test set and an iteration's new labels.

This module reads the labels to score, reads the scores back from evaluation parts, and assesses the committee by them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.labels import read_labels
from al_engine.campaign.part_reader import PartReader
from al_engine.committee.calibration import Calibration, ScoredFrames, calibrate, calibration_warnings
from al_engine.committee.health import CommitteeHealth, MemberForces, committee_health
from al_engine.config import CampaignConfig, StatePoint
from al_engine.files.frames_hdf5 import has_dataset, read_labelled
from al_engine.selection.window import Window
from al_engine.structures.clusters import central_molecule
from al_engine.structures.frames import BoolArray, FloatArray, IntArray, LabelledFrame

GROUPS = ("test", "new")
SYSTEM = "system"
"""Data set with the index of the system of each frame, in campaigns of several systems."""
NO_SYSTEM = -1
"""Index of frames that the user brought: they belong to no system."""
SYSTEMS = "systems"
"""Attribute with the names of the systems that these indices refer to."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled frames and what the scores need to know about each.

    Attributes:
        frames: The F frames.
        temperature_kelvin: Temperature at which each frame was sampled in K, shape (F,); NaN if unknown.
        interior: Whether each atom of a cluster stands for the box that the cluster was cut from
            (`Cutting.interior`), each shape (N,); None if frames are labelled whole.
        system: Index of the system of each frame in `systems`, shape (F,); None in a campaign of one system.
        systems: Names of the systems.
    """

    frames: list[LabelledFrame]
    temperature_kelvin: FloatArray
    interior: list[BoolArray] | None = None
    system: IntArray | None = None
    systems: tuple[str, ...] = ()


def read_test(parts: PartReader, config: CampaignConfig) -> Labelled:
    """Read the test set. Of a cluster, the molecule around which it was cut is interior; of other frames, all atoms.

    For mixtures the part has that molecule; equal molecules are found by their size.
    """
    with parts.open(names.INITIAL_DATASET) as root:
        frames = read_labelled(root["test"])
        known = has_dataset(root["test"], "temperature_kelvin")
        kelvins = root["test/temperature_kelvin"][()] if known else np.full(len(frames), np.nan)
        stored = root["test/central"][()] if has_dataset(root["test"], "central") else None
        system = root[f"test/{SYSTEM}"][()] if has_dataset(root["test"], SYSTEM) else None
    interior = None
    if stored is not None:
        interior = np.split(stored, np.cumsum([len(item) for item in frames])[:-1])
    elif config.selection.cut_molecules is not None:
        interior = central_atoms(frames, config.selection.cut_molecules)
    return Labelled(frames, kelvins, interior, system, tuple(config.by_system))


def central_atoms(frames: Sequence[LabelledFrame], molecules: int) -> list[BoolArray]:
    """Whether each atom of each cluster of equal molecules belongs to the molecule that it was cut around.

    Args:
        frames: The clusters; of a frame that is no such cluster, all atoms count.
        molecules: Number of molecules of a cluster.
    """
    central = [central_molecule(item.frame, molecules) for item in frames]
    everything = [np.ones(len(item), dtype=bool) for item in frames]
    return [whole if atoms is None else atoms for atoms, whole in zip(central, everything, strict=True)]


def read_new(parts: PartReader, config: CampaignConfig, iteration: int) -> Labelled:
    """Read the new labels of an iteration."""
    labelled = read_labels(parts.path(name) for name in parts.label_chunks(names.selection(iteration))).labelled
    with parts.open(names.selection(iteration)) as root:
        part = root["source"][()][root["chosen"][()], 0]
        interior = interior_atoms(root["selected"], config)
    return labelled_at(config, labelled, part, interior)


def labelled_at(
    config: CampaignConfig,
    labelled: Mapping[int, LabelledFrame],
    part: IntArray,
    interior: Sequence[BoolArray] | None,
) -> Labelled:
    """Labelled frames with the state points at which they were sampled.

    Args:
        config: The campaign's config.
        labelled: The labelled frames, by their number among the F chosen frames.
        part: Index of the state point of each chosen frame, shape (F,).
        interior: Interior of each chosen frame; None if frames are labelled whole.
    """
    systems, points = tuple(config.by_system), config.state_points
    found = [points[index] for index in part[list(labelled)].tolist()]
    return Labelled(
        list(labelled.values()),
        np.array([point.temperature_kelvin for point in found], dtype=np.float64),
        None if interior is None else [interior[index] for index in labelled],
        np.array([systems.index(point.system) for point in found], dtype=np.int64) if config.systems else None,
        systems,
    )


def interior_atoms(selected: h5py.Group, config: CampaignConfig) -> list[BoolArray] | None:
    """The interior of every structure that was chosen; None if frames are labelled whole.

    Parts of earlier versions have no interior: in them it is the central molecule.
    """
    cut = max((one.selection.cut_molecules or 0 for one in config.by_system.values()), default=0)
    if not cut or not has_dataset(selected, "centre_molecule"):
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


def read_scored(group: h5py.Group, deviation: str, *, point: StatePoint | None = None) -> ScoredFrames:
    """Read the deviations and errors of a group's frames, as the calibration needs them (`box_scores`).

    Args:
        group: Group `test` or `new` of an evaluation part.
        deviation: The deviation that the window refers to: `norm` or `component`.
        point: Read only the frames of this state point; None: all frames.
    """
    scores = box_scores(group)
    scored = ScoredFrames(
        deviation=scores[f"deviation_{deviation}"][()],
        error=scores["force_error"][()],
        member_error=scores["member_force_error"][()].mean(axis=0),
    )
    if point is None:
        return scored
    here = group["temperature_kelvin"][()] == point.temperature_kelvin
    return scored.where(here & _of_system(group, group, point.system))


def of_system(root: h5py.File, group: str, source: str) -> BoolArray:
    """Which frames of a group of a part come from the system of a part of initial frames; all, if there is one system.

    Args:
        root: A part through which labels join the data set.
        group: `labelled` or `test`.
        source: Name of the part whose labels joined the data set.
    """
    system = names.system_of_initial(source)
    return _of_system(root, root if group == "labelled" else root[group], system or "", n=len(root[group]["n_atoms"]))


def _of_system(root: h5py.Group, group: h5py.Group, system: str, *, n: int | None = None) -> BoolArray:
    """Which frames are of a system, by the names in the attributes of `root` and the indices in `group`."""
    if SYSTEM not in group:
        return np.ones(len(group["n_atoms"]) if n is None else n, dtype=bool)
    systems = list(root.attrs[SYSTEMS])
    found: BoolArray = group[SYSTEM][()] == systems.index(system)
    return found


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
