"""The user's own labelled frames: read, searched for faults, and compared with the campaign's method."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.config import DataConfig
from al_engine.errors import InputError, LedgerError
from al_engine.files.frames_hdf5 import read_labelled, write_labelled
from al_engine.files.part_file import open_part, write_part
from al_engine.protocols import Reference
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.units import MEV_PER_EV
from samplers.reading.label_faults import Fault, accepted, faults_of, without_faults
from samplers.reading.label_units import unit_fault
from samplers.reading.labelled_files import FileLabel, LabelledFile, LabelNames, frame_weights, read_labelled_file
from samplers.reading.stated_charge import Stated
from samplers.reading.structure_files import read_structures

HDF5_ENDINGS = (".h5", ".hdf5")
"""Endings of the files that `al-engine data merge` writes with their level of theory."""
LEVEL = "level_of_theory"
"""Attribute of such a file: the level of theory as JSON."""
MOST_NAMED = 20
"""Largest number of faults in a message."""
FORCE_TOLERANCE_MEV = 10.0
"""Largest difference of a kept label's forces from the campaign's own label, meV/Å."""
ENERGY_TOLERANCE_MEV = 2.0
"""Largest such difference of the energy, meV per atom."""


@dataclass(frozen=True, slots=True, eq=False)
class UserData:
    """The usable frames of one file.

    Attributes:
        labelled: Frames whose labels are kept.
        unlabelled: Frames that the campaign labels.
        weights: Weight of each unlabelled frame in the training loss.
        faults: Faults of the frames that were left out.
        notes: Remarks for the user, a sentence each.
    """

    labelled: tuple[LabelledFrame, ...]
    unlabelled: tuple[Frame, ...]
    weights: tuple[float, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]


def user_data(
    item: DataConfig,
    systems: Sequence[Frame],
    *,
    base_dir: Path,
    level: Mapping[str, Any],
    max_force_ev_per_ang: float,
    has_ions: bool,
    has_open_shells: bool,
    elements: Mapping[str, str] | None = None,
) -> UserData:
    """Read the frames of a file, and leave out those with faults or refuse them.

    A frame that does not state its charge or spin and has the atoms of a system of the campaign gets the system's.

    Args:
        item: The file and its options.
        systems: The systems of the campaign, and the clusters that are labelled.
        base_dir: Folder that relative paths start from.
        level: Level of theory of the campaign's labels.
        max_force_ev_per_ang: A force component above this is a fault.
        has_ions: Whether a molecule of the systems is charged.
        has_open_shells: Whether a molecule of the systems has unpaired electrons.
        elements: Elements by the file's names or types of atoms.

    Raises:
        InputError: If the file cannot be read, has no usable frame, states another level of theory, or a frame has a
            fault and is not to be left out.
    """
    path = base_dir / item.file
    source: LabelledFile | dict[str, Any] | None = None
    if item.labels == "relabel":
        labels = _structures(path, item, elements)
    else:
        labels, source = _labels(path, item, elements)
    if isinstance(source, dict) and source != dict(level):
        raise InputError(
            f"{path}: its labels are of {_words(source)}, the campaign's are of {_words(level)}; labels are never "
            "mixed: set `labels: relabel` for this file, or the campaign's `labels` to the same method"
        )
    labels = [
        replace(label, frame=with_electrons(label.frame, label.stated, systems), weight=item.weight * label.weight)
        for label in labels
    ]
    faults = faults_of(
        labels,
        max_force_ev_per_ang=max_force_ev_per_ang,
        labelled=item.labels == "keep",
        outliers=not item.keep_outliers,
        atoms=False,
    )
    unstated = _unstated(labels, systems, faults, has_ions=has_ions, has_open_shells=has_open_shells)
    faults = sorted([*faults, *unstated], key=lambda fault: fault.frame)
    serious = [fault for fault in faults if not fault.drops]
    if serious and not item.leave_out_faults:
        raise InputError(
            f"{path}: {len(serious)} of {len(labels)} frames cannot be used:\n{listed(serious)}\nCorrect or remove "
            "them, or set `leave_out_faults: true` for this file"
        )
    sound = without_faults(labels, faults)
    if not sound:
        raise InputError(f"{path}: no frame can be used:\n{listed(faults)}")
    kept: tuple[LabelledFrame, ...] = ()
    if item.labels == "relabel":
        notes = [f"{path}: {len(sound)} frames are labelled by the campaign"]
    else:
        wrong_unit = unit_fault(sound, sizes=not item.keep_outliers)
        if wrong_unit:
            raise InputError(f"{path}: {wrong_unit}")
        kept = tuple(accepted(labels, faults))
        notes = [f"{path}: {len(kept)} labelled frames join the data set{_names_in(source, item)}"]
    if faults:
        notes.append(f"{path}: {len(faults)} frames are left out: {'; '.join(map(str, faults[:MOST_NAMED]))}")
    used = [label.weight for label in sound]
    if set(used) != {1.0}:
        notes.append(f"{path}: weights in the training loss from {min(used):g} to {max(used):g}")
    relabelled = sound if item.labels == "relabel" else []
    return UserData(
        labelled=kept,
        unlabelled=tuple(label.frame for label in relabelled),
        weights=tuple(label.weight for label in relabelled),
        faults=tuple(faults),
        notes=tuple(notes),
    )


def _unstated(
    labels: Sequence[FileLabel],
    systems: Sequence[Frame],
    faults: Sequence[Fault],
    *,
    has_ions: bool,
    has_open_shells: bool,
) -> list[Fault]:
    """Frames of other atoms than the systems' that do not state their charge or spin, if a system has ions or radicals.

    Their number of electrons is often even, so that they could be labelled in a wrong state.

    Args:
        labels: The frames.
        systems: As in `user_data`.
        faults: The faults that are known; these frames are not named again.
        has_ions: As in `user_data`.
        has_open_shells: As in `user_data`.
    """
    known, faulty = {np.sort(system.numbers).tobytes() for system in systems}, {fault.frame for fault in faults}
    found = []
    for index, label in enumerate(labels):
        if index in faulty or np.sort(label.frame.numbers).tobytes() in known:
            continue
        for missing, what in (
            (has_ions and label.stated.charge is None, "ions, and states no charge"),
            (
                has_open_shells and label.stated.unpaired_electrons is None,
                "unpaired electrons, and does not state its own",
            ),
        ):
            if missing:
                found.append(
                    Fault(index, label.where, "electrons", f"has other atoms than the systems, which have {what}")
                )
                break
    return found


def listed(faults: Sequence[Fault]) -> str:
    """Faults, a line each; of many, the first ones and their number."""
    lines = [f"  {fault}" for fault in faults[:MOST_NAMED]]
    return "\n".join([*lines, *([f"  ... and {len(faults) - MOST_NAMED} more"] if len(faults) > MOST_NAMED else [])])


def read_hdf5_data(path: Path) -> tuple[list[LabelledFrame], dict[str, Any]]:
    """Read a file that `al-engine data merge` wrote: the labelled frames, and their level of theory.

    Raises:
        InputError: If the file is no such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with open_part(path) as root:
            return read_labelled(root["labelled"]), dict(json.loads(str(root.attrs[LEVEL])))
    except (KeyError, LedgerError):
        raise InputError(
            f"{path}: is no file of labelled frames; `al-engine data merge` makes one from campaigns and files"
        ) from None


def write_hdf5_data(path: Path, labelled: Sequence[LabelledFrame], level: Mapping[str, Any]) -> None:
    """Write labelled frames of one level of theory into a file that `read_hdf5_data` reads.

    Raises:
        ResumableError: If the disk is full or cannot be written to.
    """
    with write_part(path, kind="data", key="data") as root:
        write_labelled(root.create_group("labelled"), labelled)
        root.attrs[LEVEL] = json.dumps(dict(level), sort_keys=True)


def compared(labelled: Sequence[LabelledFrame], count: int, reference: Reference) -> str:
    """How some kept labels differ from the campaign's own method; empty if they agree.

    Args:
        labelled: The frames with the labels of the user.
        count: Number of frames to compare, evenly spread.
        reference: The campaign's method.
    """
    chosen = np.unique(np.linspace(0, len(labelled) - 1, min(count, len(labelled))).astype(int)).tolist()
    items = [labelled[index] for index in chosen]
    forces, energies = [], []
    for item, own in zip(items, reference([item.frame for item in items]), strict=True):
        if own is not None:
            forces.append(MEV_PER_EV * float(np.abs(own[1] - item.forces).max()))
            energies.append(MEV_PER_EV * abs(own[0] - item.energy) / len(item))
    if not forces:
        return (
            "the campaign's method could label none of the frames that were to be compared, so that it is not known "
            "whether the labels are of this method; correct the campaign's `labels`, or set checked_frames: 0 for this "
            "file"
        )
    if max(forces) <= FORCE_TOLERANCE_MEV and max(energies) <= ENERGY_TOLERANCE_MEV:
        return ""
    return (
        f"its labels are not of the campaign's method: of {len(forces)} frames that were labelled again, forces differ "
        f"by up to {max(forces):.4g} meV/Å and energies by up to {max(energies):.4g} meV per atom; set for this file "
        "`labels: relabel` or its units (energy_unit, forces_unit), or the campaign's `labels` to its method"
    )


def _labels(
    path: Path, item: DataConfig, elements: Mapping[str, str] | None
) -> tuple[list[FileLabel], LabelledFile | dict[str, Any]]:
    """The frames of a file with their labels; and the file with the names of the labels, or their level of theory.

    Raises:
        InputError: If the file can't be read, or is an HDF5 file and an option names its labels or their units.
    """
    if path.suffix in HDF5_ENDINGS:
        _refuse_names(path, item)
        frames, level = read_hdf5_data(path)
        return [FileLabel.of(each, f"{path}, frame {index}") for index, each in enumerate(frames)], level
    names = LabelNames(**{field.name: getattr(item, field.name) for field in fields(LabelNames)})
    found = read_labelled_file(path, names, elements=elements)
    return list(found.frames), found


def _names_in(source: LabelledFile | dict[str, Any] | None, item: DataConfig) -> str:
    """The names under which the labels of a file were found, and those of stresses that are not used, for a note."""
    if not isinstance(source, LabelledFile):
        return ""
    stress = f", stresses `{item.stress_key}`" if item.stress_key else ""
    unused = ", ".join(f"`{name}`" for name in source.unused)
    return f" (energies `{source.energy_key}`, forces `{source.forces_key}`{stress})" + (
        f"; {unused} not used: stresses and virials are used if stress_key names them" if unused else ""
    )


def _refuse_names(path: Path, item: DataConfig) -> None:
    """Refuse options that have no effect on an HDF5 file, whose names and units are fixed."""
    used = [each.name for each in fields(LabelNames) if getattr(item, each.name) != each.default]
    if used:
        raise InputError(
            f"{path}: options without effect on an HDF5 file, whose names and units (eV, eV/Å) are fixed: "
            f"{', '.join(used)}; remove them"
        )


def _structures(path: Path, item: DataConfig, elements: Mapping[str, str] | None) -> list[FileLabel]:
    """The structures of a file with their weights, without labels; raises as `_labels`."""
    if path.suffix in HDF5_ENDINGS:
        _refuse_names(path, item)
        labels = [FileLabel.of(each, f"{path}, frame {index}") for index, each in enumerate(read_hdf5_data(path)[0])]
        return [replace(label, energy=None, forces=None, stress=None) for label in labels]
    structures = read_structures(path, elements=elements)
    weights = frame_weights(structures, str(path), item.weight_key)
    return [
        FileLabel(each.frame, each.where, None, None, stated=each.stated, weight=weight)
        for each, weight in zip(structures, weights, strict=True)
    ]


def with_electrons(frame: Frame, stated: Stated, systems: Sequence[Frame]) -> Frame:
    """The frame with the charge and spin of the system of the same atoms, where its file does not state them."""
    atoms = np.sort(frame.numbers)
    for system in systems:
        if np.array_equal(atoms, np.sort(system.numbers)):
            return replace(
                frame,
                charge=system.charge if stated.charge is None else frame.charge,
                unpaired_electrons=(
                    system.unpaired_electrons if stated.unpaired_electrons is None else frame.unpaired_electrons
                ),
            )
    return frame


def _words(level: Mapping[str, Any]) -> str:
    return f"{level.get('method')} by {level.get('backend')} {level.get('backend_version')} {level.get('settings')}"
