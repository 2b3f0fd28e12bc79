"""Export of a campaign's labelled frames for other programs."""

import json
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from al_engine.campaign.labels import stored_level
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import iteration_of
from al_engine.errors import InputError
from al_engine.files.atomic import write_file
from al_engine.files.frames_hdf5 import UNITS, read_labelled
from al_engine.structures.frames import LabelledFrame

BEFORE_ITERATIONS = -1
"""The `iteration` of a frame of the initial set."""


def labelled_atoms(item: LabelledFrame) -> Any:
    """A labelled frame as `ase.Atoms` with a calculator that holds energy (eV) and forces (eV/Å).

    A weight other than 1 stands in `info` as `config_weight`, the name that mace-torch reads.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = item.frame.to_atoms()
    stress = {} if item.stress is None else {"stress": item.stress}
    if item.weight != 1.0:
        atoms.info["config_weight"] = item.weight
    atoms.calc = SinglePointCalculator(atoms, energy=item.energy, forces=item.forces, **stress)
    return atoms


def export_labels(directory: Path, output: Path, *, file_format: str) -> int:
    """Write the labelled frames, each with the part and the iteration that it comes from, and the method of its label.

    Args:
        directory: The campaign directory.
        output: The file.
        file_format: One of `FORMATS`.

    Returns:
        Number of frames written.

    Raises:
        InputError: If the campaign has no labelled frames yet, or the file exists.
        ResumableError: If the file cannot be written.
    """
    ledger = Ledger.open(directory)
    frames = list(_with_provenance(ledger))
    if not frames:
        raise InputError(f"{directory}: has no labelled frames yet; `al-engine run` computes them")
    refuse_existing(output)
    write_file(output, FORMATS[file_format](frames))
    return len(frames)


def refuse_existing(output: Path) -> None:
    """Refuse to replace a file.

    Raises:
        InputError: If the file exists.
    """
    if output.exists():
        raise InputError(f"{output}: exists already; give another file, or remove it")


def _with_provenance(ledger: Ledger) -> Iterator[tuple[LabelledFrame, dict[str, Any]]]:
    """Every labelled frame of the data set in order, with where it comes from."""
    level, parts = stored_level(ledger), ledger.reader()
    method = "" if level is None else f"{level['method']} {level['backend']} {level['backend_version']}"
    for name in parts.dataset_parts():
        iteration = iteration_of(name)
        provenance = {
            "iteration": BEFORE_ITERATIONS if iteration is None else iteration,
            "part": name,
            "level_of_theory": method,
        }
        with parts.open(name) as root:
            for item in read_labelled(root["labelled"]):
                yield item, provenance


def _extxyz(frames: list[tuple[LabelledFrame, dict[str, Any]]]) -> bytes:
    """Extended XYZ, which ASE, MACE, NequIP and others read: energies and forces as ASE writes a calculator's results.

    The total charge, the unpaired electrons and the provenance stand in the comment line.
    """
    from ase.io import write

    images = []
    for item, provenance in frames:
        atoms = labelled_atoms(item)
        atoms.info |= provenance
        images.append(atoms)
    text = StringIO()
    write(text, images, format="extxyz")
    return text.getvalue().encode()


def _ase_db(frames: list[tuple[LabelledFrame, dict[str, Any]]]) -> bytes:
    """A database of ASE (SQLite): charge, unpaired electrons and provenance are key-value pairs."""
    from ase.db import connect

    with TemporaryDirectory() as folder:
        path = Path(folder) / "frames.db"
        with connect(path) as database:
            for item, provenance in frames:
                electrons = {"total_charge": item.frame.charge, "unpaired_electrons": item.frame.unpaired_electrons}
                database.write(labelled_atoms(item), **electrons, **provenance, config_weight=item.weight)
        return path.read_bytes()


def _npz(frames: list[tuple[LabelledFrame, dict[str, Any]]]) -> bytes:
    """Arrays of numpy, of all atoms in a row; `n_atoms` divides them into frames, `units` is JSON."""
    items = [item for item, _ in frames]
    structures = [item.frame for item in items]
    no_stress = np.full((3, 3), np.nan)
    file = BytesIO()
    arrays: dict[str, Any] = dict(
        n_atoms=np.array([len(frame) for frame in structures]),
        numbers=np.concatenate([frame.numbers for frame in structures]),
        positions=np.concatenate([frame.positions for frame in structures]),
        cell=np.stack([frame.cell for frame in structures]),
        pbc=np.stack([frame.pbc for frame in structures]),
        charge=np.array([frame.charge for frame in structures]),
        unpaired_electrons=np.array([frame.unpaired_electrons for frame in structures]),
        energy=np.array([item.energy for item in items]),
        forces=np.concatenate([item.forces for item in items]),
        stress=np.stack([no_stress if item.stress is None else item.stress for item in items]),
        weight=np.array([item.weight for item in items]),
        **{name: np.array([provenance[name] for _, provenance in frames]) for name in frames[0][1]},
        units=np.array(json.dumps(UNITS, sort_keys=True)),
    )
    np.savez_compressed(file, **arrays)
    return file.getvalue()


FORMATS: Mapping[str, Callable[[list[tuple[LabelledFrame, dict[str, Any]]]], bytes]] = {
    "extxyz": _extxyz,
    "ase-db": _ase_db,
    "npz": _npz,
}
"""The content of a file in each format, from frames and their provenance."""
