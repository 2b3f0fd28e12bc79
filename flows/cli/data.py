"""Labelled frames in files and campaigns: what they hold, what is wrong with them, and one file from several."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.campaign.export import labelled_atoms
from al_engine.campaign.labels import stored_level
from al_engine.campaign.ledger import Ledger
from al_engine.errors import InputError
from al_engine.files.atomic import write_file
from al_engine.structures.frames import LabelledFrame
from al_engine.units import MEV_PER_EV
from samplers.initial.user_data import HDF5_ENDINGS, listed, read_hdf5_data, write_hdf5_data
from samplers.reading.label_faults import Fault, accepted, faults_of, without_faults
from samplers.reading.label_units import unit_fault
from samplers.reading.labelled_files import FileLabel, LabelNames, read_labelled_file
from samplers.reading.structure_files import is_deepmd_folder

MOST_COMPOSITIONS = 12
"""Largest number of compositions that are listed."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The labelled frames of a file or a campaign.

    Attributes:
        path: The file, or the directory of the campaign.
        labels: The frames with their labels.
        level: Level of theory; None if the file does not state it.
        keys: Names of the energies and forces in the file; empty for campaigns.
    """

    path: Path
    labels: list[FileLabel]
    level: dict[str, Any] | None
    keys: tuple[str, ...] = ()


def read_source(path: Path, names: LabelNames) -> Source:
    """Read a file of labelled frames, or the data set of a campaign.

    Raises:
        InputError: If the path is neither, or has no labelled frames.
    """
    if path.is_dir() and not is_deepmd_folder(path):
        ledger = Ledger.open(path)
        frames = ledger.dataset()
        if not frames:
            raise InputError(f"{path}: has no labelled frames yet; `al-engine run` computes them")
        return Source(path, _as_read(path, frames), stored_level(ledger))
    if path.suffix in HDF5_ENDINGS:
        frames, level = read_hdf5_data(path)
        return Source(path, _as_read(path, frames), level)
    found = read_labelled_file(path, names)
    return Source(path, list(found.frames), None, (found.energy_key, found.forces_key))


def _as_read(path: Path, frames: Sequence[LabelledFrame]) -> list[FileLabel]:
    return [FileLabel.of(item, f"{path}, frame {index}") for index, item in enumerate(frames)]


def summary(source: Source) -> dict[str, Any]:
    """What a file or campaign holds: numbers, compositions, charges, ranges of energies and forces, level of theory."""
    frames = [label.frame for label in source.labels]
    energies = [label.energy / len(label.frame) for label in source.labels if label.energy is not None]
    finite = [energy for energy in energies if np.isfinite(energy)]
    forces = [np.zeros((0, 3)), *(label.forces for label in source.labels if label.forces is not None)]
    together = np.concatenate(forces)
    together = together[np.isfinite(together).all(1)]  # `faults_in` names labels that are not finite
    weights = [label.weight for label in source.labels]
    compositions = Counter(str(frame.to_atoms().get_chemical_formula()) for frame in frames)
    states = Counter(f"{frame.charge:+d} e, {frame.unpaired_electrons} unpaired electrons" for frame in frames)
    return {
        "path": str(source.path),
        "frames": len(frames),
        "with_energy": len(energies),
        "with_forces": len(forces) - 1,
        "energy_key": source.keys[0] if source.keys else None,
        "forces_key": source.keys[1] if source.keys else None,
        "level_of_theory": source.level,
        "methods": dict(Counter(label.method or "not stated" for label in source.labels).most_common()),
        "atoms": [min(map(len, frames)), max(map(len, frames))],
        "periodic": sum(frame.is_periodic for frame in frames),
        "compositions": dict(compositions.most_common()),
        "electrons": dict(states.most_common()),
        "weights": [min(weights), max(weights)],
        "energy_ev_per_atom": [min(finite), max(finite)] if finite else None,
        "force_rms_mev_per_ang": MEV_PER_EV * float(np.sqrt(np.mean(together**2))) if len(together) else None,
        "force_largest_ev_per_ang": float(np.abs(together).max()) if len(together) else None,
    }


def summary_text(values: Mapping[str, Any]) -> str:
    """A summary as text for the terminal."""
    smallest, largest = values["atoms"]
    keys = "" if values["energy_key"] is None else f" (`{values['energy_key']}`, `{values['forces_key']}`)"
    compositions = list(values["compositions"].items())
    shown = ", ".join(f"{formula} x {number}" for formula, number in compositions[:MOST_COMPOSITIONS])
    more = len(compositions) - MOST_COMPOSITIONS
    level = values["level_of_theory"]
    stated = f"{level['method']} by {level['backend']} {level['backend_version']}" if level else None
    lines = [
        f"{values['path']}: {values['frames']} frames of {smallest} to {largest} atoms, {values['periodic']} periodic",
        f"  compositions: {shown}{f', and {more} more' if more > 0 else ''}",
        f"  charge and spin: {'; '.join(f'{state} x {n}' for state, n in values['electrons'].items())}",
        f"  labels{keys}: {values['with_energy']} energies, {values['with_forces']} forces",
        f"  level of theory: {stated or ', '.join(f'{method} x {n}' for method, n in values['methods'].items())}",
    ]
    if values["weights"] != [1.0, 1.0]:
        lowest, highest = values["weights"]
        lines.append(f"  weights in the training loss: {lowest:g} to {highest:g}")
    if values["energy_ev_per_atom"] is not None:
        low, high = values["energy_ev_per_atom"]
        lines.append(f"  energies {low:.4f} to {high:.4f} eV per atom")
    if values["force_rms_mev_per_ang"] is not None:
        rms, most = values["force_rms_mev_per_ang"], values["force_largest_ev_per_ang"]
        lines.append(f"  forces: RMS {rms:.0f} meV/Å, largest component {most:.3g} eV/Å")
    return "\n".join(lines)


def faults_in(sources: Sequence[Source]) -> list[tuple[list[Fault], str]]:
    """The faults of the frames of each source, and what is wrong with its units, or an empty string.

    The sources are judged together: a frame may be a copy of a frame in another source, or contradict it.
    """
    together = faults_of([label for source in sources for label in source.labels])
    found, start = [], 0
    for source in sources:
        end = start + len(source.labels)
        faults = [replace(fault, frame=fault.frame - start) for fault in together if start <= fault.frame < end]
        found.append((faults, unit_fault(without_faults(source.labels, faults))))
        start = end
    return found


def merge(paths: Sequence[Path], output: Path, names: LabelNames, *, leave_out_faults: bool) -> dict[str, Any]:
    """Write the labelled frames of files and campaigns into one file; copies are left out.

    Args:
        paths: Files and campaign directories.
        output: An extended XYZ file; or an HDF5 file, which keeps the level of theory and needs sources that state it.
        names: Names and units of the labels in files of other programs.
        leave_out_faults: Whether frames with faults are left out; otherwise they are refused.

    Raises:
        InputError: If the output exists or has another ending, levels of theory differ, or frames have faults.
    """
    if output.exists():
        raise InputError(f"{output}: exists already; give another file, or remove it")
    if output.suffix not in (*HDF5_ENDINGS, ".xyz", ".extxyz"):
        raise InputError(f"{output}: give a file that ends in .xyz, .extxyz or .h5")
    sources = [read_source(path, names) for path in paths]
    level = _common_level(sources)
    found = faults_in(sources)
    faults = [fault for of_source, _ in found for fault in of_source]
    serious = [fault for fault in faults if not fault.drops]
    if serious and not leave_out_faults:
        raise InputError(
            f"{len(serious)} of {sum(len(source.labels) for source in sources)} frames cannot be used:\n"
            f"{listed(serious)}\nCorrect or remove them, or use --leave-out-faults"
        )
    for source, (_, wrong_unit) in zip(sources, found, strict=True):
        if wrong_unit:
            raise InputError(f"{source.path}: {wrong_unit}")
    kept = [item for source, (own, _) in zip(sources, found, strict=True) for item in accepted(source.labels, own)]
    if output.suffix in HDF5_ENDINGS:
        if level is None:
            raise InputError(
                f"{output}: an HDF5 file keeps the level of theory, and {sources[0].path} does not state one; write an "
                ".xyz file"
            )
        write_hdf5_data(output, kept, level)
    else:
        methods = [
            _method(source, label)
            for source, (own, _) in zip(sources, found, strict=True)
            for label in without_faults(source.labels, own)
        ]
        _write_xyz(output, kept, methods)
    return {
        "output": str(output),
        "frames": len(kept),
        "left_out": [str(fault) for fault in faults],
        "sources": {str(source.path): len(source.labels) for source in sources},
        "level_of_theory": level,
    }


def _common_level(sources: Sequence[Source]) -> dict[str, Any] | None:
    """The level of theory of all sources; None if one does not state it.

    Raises:
        InputError: If two sources state different levels.
    """
    stated = [source for source in sources if source.level is not None]
    for source in stated[1:]:
        if source.level != stated[0].level:
            raise InputError(
                f"{source.path} has labels of {source.level}, {stated[0].path} of {stated[0].level}; labels of two "
                "levels of theory are never mixed"
            )
    return stated[0].level if stated and len(stated) == len(sources) else None


def _method(source: Source, label: FileLabel) -> str:
    """The method that a source or one of its frames states; empty if it states none."""
    level = source.level
    return label.method if level is None else f"{level['method']} by {level['backend']} {level['backend_version']}"


def _write_xyz(output: Path, labelled: Sequence[LabelledFrame], methods: Sequence[str]) -> None:
    """Write labelled frames, each with the method of its label if it is stated."""
    from ase.io import write

    images = [labelled_atoms(item) for item in labelled]
    for atoms, method in zip(images, methods, strict=True):
        if method:
            atoms.info["method"] = method
    text = StringIO()
    write(text, images, format="extxyz")
    write_file(output, text.getvalue().encode())
