"""Structures and trajectories from files.

Data in a file are either used or refused, except for labels and constraints, which are not used and named to the user.
Missing data are not guessed.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from samplers.reading.database_files import database_images
from samplers.reading.file_elements import elements_of_gro, elements_of_pdb, xyz_with_elements
from samplers.reading.lammps_elements import lammps_with_elements
from samplers.reading.program_charges import charge_in_text, has_charge_in_text
from samplers.reading.sdf_files import read_sdf
from samplers.reading.stated_charge import Stated, stated_charge_and_spin

FARTHEST_ANG = 1e5
"""Largest absolute coordinate of an atom, Å. Neighbour searches fail at far larger extents than any real system's."""
ISOTOPE_AMU = 0.5
"""Difference of a mass from the element's mass, amu, above which the atom counts as an isotope or a united atom."""
FULL_OCCUPANCY = 1e-3
"""Largest difference from 1 of the occupancy of a fully occupied site."""
PLACEHOLDER_ANG = 1.01
"""Upper limit of the edges of the placeholder cell (1 Å) in PDB files without a cell, Å."""
LAMMPS_DATA = (r"(?m)^\s*\d+\s+atoms\s*(#.*)?$", r"(?m)^\s*\d+\s+atom types\s*(#.*)?$")
"""Lines that a LAMMPS data file has in its header."""
CONVERSIONS: Mapping[tuple[str, ...], str] = {
    (".mol2", ".pdbqt", ".smi"): "convert it to SDF, with Open Babel by `obabel FILE -O mine.sdf`",
    (".npz", ".npy", ".csv", ".pkl", ".pickle", ".mat"): (
        "its arrays do not say what they are: make an ASE `Atoms` of each frame, with its labels in "
        "`atoms.info['energy']` (eV) and `atoms.arrays['forces']` (eV/Å), and write them by "
        "`ase.io.write('mine.extxyz', frames)`"
    ),
    (".raw",): (
        "for data of DeePMD-kit, use dpdata: `ase.io.write('mine.extxyz', dpdata.LabeledSystem(FOLDER, "
        "fmt='deepmd/raw').to('ase/structure'))`"
    ),
}
"""Advice on files in formats that ASE does not read, by the suffix of the name."""
_HEAD = 4000
"""Number of characters at the start of a file that are searched for `LAMMPS_DATA`."""
LABEL_NAMES = re.compile(r"energy|forces?(?:_|$)|stress|virial", re.IGNORECASE)
"""Names of data that are labels."""
WEIGHT_NAMES = re.compile(r"weight", re.IGNORECASE)
"""Names of data that are weights of frames in the training loss."""
METHOD_NAMES = frozenset({"method", "level_of_theory", "theory", "functional", "xc", "level"})
"""Names, in lower case, under which files state the method of their labels."""
UNRELIABLE = {
    "gromos": "the elements of atoms",
    "dlp4": "the elements of atoms",
    "dlp-history": "the elements of atoms",
    "lammps-dump-binary": "the elements of atoms",
    "netcdftrajectory": "the elements of atoms",
}
"""Formats that lack needed information, which ASE would guess, by ASE's name; the value names the information."""


@dataclass(frozen=True, slots=True, eq=False)
class FileStructure:
    """A structure that was read from a file.

    Attributes:
        frame: Elements, positions, cell and periodicity; charge and spin as stated, else 0.
        stated: Charge and spin that the file states.
        where: Name of the structure in messages.
        unused: Names of data in the file that are not used, such as energies and forces.
        labels: All data of the file beside the structure, by name: energies, forces, weights, statements of the method.
        rdkit: The RDKit molecule, atoms in the same order, if the file has bond orders; else None.
    """

    frame: Frame
    stated: Stated
    where: str
    unused: tuple[str, ...] = ()
    rdkit: Any = None
    labels: Mapping[str, Any] = field(default_factory=dict)


def read_structures(path: Path, *, elements: Mapping[str, str] | None = None) -> list[FileStructure]:
    """Read all structures of a file in any format that ASE reads, or of an SDF or MOL file.

    Args:
        path: The file; `.gz`, `.bz2` and `.xz` files are unpacked.
        elements: Elements by atom name or type, for files without elements.

    Returns:
        The structures in the order of the file, at least one.

    Raises:
        InputError: If the file is missing, empty or unreadable, has no elements, or holds data that are not supported:
            partial occupancy, alternative positions, isotopes, fractional charges, or periodicity in some directions
            only. The message names the file, the structure or the line.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file{_way_out(path)}" if path.exists() else f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    kind = _format(path)
    if kind in UNRELIABLE:
        raise InputError(
            f"{path}: its format ({kind}) does not state {UNRELIABLE[kind]}; convert it to extended XYZ with elements"
        )
    if kind in ("sdf", "mol"):
        records = read_sdf(_text(path), source=str(path))
        if not records:
            raise InputError(f"{path} holds no structure")
        return [_checked(FileStructure(frame, Stated(frame.charge), where, rdkit=mol)) for frame, mol, where in records]
    images = _images(path, kind, elements or {})
    if not images:
        raise InputError(f"{path} holds no structure")
    stated = charge_in_text(_text(path), kind) if has_charge_in_text(kind) else {}
    return [
        _structure(atoms, f"{path}, frame {index}" if len(images) > 1 else str(path), stated)
        for index, atoms in enumerate(images)
    ]


def _format(path: Path) -> str:
    """ASE's name of a file's format; raises `InputError` if ASE knows no format for the file."""
    from ase.io.formats import UnknownFileTypeError, filetype

    head = _text(path, _HEAD)
    if all(re.search(pattern, head) for pattern in LAMMPS_DATA):  # ASE takes it for other formats
        return "lammps-data"
    try:
        return str(filetype(str(path)))
    except (UnknownFileTypeError, OSError, UnicodeDecodeError, ValueError, *_DAMAGED_ARCHIVE) as error:
        raise _unreadable(path, error) from error


def _text(path: Path, length: int = -1) -> str:
    """The text of a file, or its first characters; raises `InputError` if a packed file is damaged."""
    try:
        with open_text(path) as handle:
            return handle.read(length)
    except _DAMAGED_ARCHIVE as error:
        raise _unreadable(path, error) from error


_DAMAGED_ARCHIVE = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
"""Errors of packed files that are cut short or are no such files."""


def _unreadable(path: Path, error: Exception) -> InputError:
    """The error for an exception of ASE's parsers, with the exception's type, because its text may be only a key."""
    reason = str(error).strip().splitlines()
    detail = f": {reason[0]}" if reason else ""
    return InputError(f"{path}: ASE can't read it ({type(error).__name__}{detail}){_way_out(path)}")


def _way_out(path: Path) -> str:
    """How a file or folder in a format that ASE does not read is converted, for a message; empty if it is not known."""
    suffix = ".raw" if is_deepmd_folder(path) else path.suffix.lower()
    return next((f"; {advice}" for suffixes, advice in CONVERSIONS.items() if suffix in suffixes), "")


def is_deepmd_folder(path: Path) -> bool:
    """Whether a path is a folder with data of DeePMD-kit."""
    return (path / "type.raw").is_file()


def open_text(path: Path) -> IO[str]:
    """Open a text file, unpacked if its name ends in `.gz`, `.bz2` or `.xz`.

    Bytes that are not UTF-8 are replaced; a byte order mark, which some editors write, is left out.
    """
    opener: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(path.suffix, open)
    handle: IO[str] = opener(path, "rt", encoding="utf-8-sig", errors="replace")
    return handle


def _has_byte_order_mark(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


def _images(path: Path, kind: str, elements: Mapping[str, str]) -> list[Any]:
    """The structures of a file as `ase.Atoms`, with the elements that the file or the user gives.

    Raises:
        InputError: If the file can't be read.
    """
    import ase.io

    try:
        if kind in ("xyz", "extxyz"):
            with open_text(path) as lines:
                text = xyz_with_elements(lines, elements, source=str(path), size=_unpacked_size(path))
            if text is None and _has_byte_order_mark(path):
                text = _text(path)
            return list(ase.io.read(path if text is None else io.StringIO(text), index=":", format=kind))
        if kind == "gromacs":
            with open_text(path) as lines:
                return elements_of_gro(lines, elements, source=str(path))
        if kind == "proteindatabank":
            return _pdb_images(path, elements)
        if kind in ("lammps-dump-text", "lammps-data"):
            with open_text(path) as lines:
                text, options = lammps_with_elements(lines, kind, elements, source=str(path))
            return list(ase.io.read(path if text is None else io.StringIO(text), index=":", format=kind, **options))
        if kind in ("db", "json"):
            return database_images(path)
        if kind == "cif":
            _refuse_alternatives(path)
        return list(ase.io.read(path, index=":"))
    except InputError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _refuse_alternatives(path: Path) -> None:
    """Raise `InputError` for a CIF file with alternative positions, also if it gives them full occupancy."""
    from ase.io.cif import parse_cif

    for block in parse_cif(str(path)):
        groups = {str(group) for group in block.get("_atom_site_disorder_group") or ()} - {".", "?", "0", "None"}
        if len(groups) > 1:
            raise InputError(
                f"{path}: has alternative positions (disorder groups {', '.join(sorted(groups))}); give a single "
                "ordered structure, with the atoms of one group"
            )


def _unpacked_size(path: Path) -> int | None:
    """Size of a file in bytes; None if the file is packed."""
    return path.stat().st_size if path.suffix not in (".gz", ".bz2", ".xz") else None


def _pdb_images(path: Path, elements: Mapping[str, str]) -> list[Any]:
    """The structures of a PDB file as ASE reads them, with the file's elements, and its cell for all models."""
    import ase.io

    with open_text(path) as lines:
        numbers, charges = elements_of_pdb(lines, elements, source=str(path))
    images = [atoms for atoms in ase.io.read(path, index=":", format="proteindatabank") if len(atoms)]
    first = next((atoms for atoms in images if atoms.pbc.any()), None)
    start = 0
    for atoms in images:
        stop = start + len(atoms)
        atoms.numbers = numbers[start:stop]
        if np.any(charges[start:stop]):
            atoms.set_initial_charges(charges[start:stop])
        start = stop
        if first is not None and not atoms.pbc.any():  # the record CRYST1 occurs once, before all models
            atoms.set_cell(first.cell)
            atoms.pbc = first.pbc
        if atoms.pbc.any() and (atoms.cell.lengths() < PLACEHOLDER_ANG).all():
            atoms.set_cell(None)
            atoms.pbc = False
    return images


def _structure(atoms: Any, where: str, by_text: Mapping[str, str]) -> FileStructure:
    """Check a structure that ASE has read, and collect its charge and spin.

    `by_text` holds the charge and multiplicity that the file's text states (`charge_in_text`).
    """
    _refuse_invalid(atoms, where)
    _refuse_not_simulated(atoms, where)
    parameters = {
        name: value
        for name, value in dict(getattr(atoms.calc, "parameters", None) or {}).items()
        if name in ("charge", "mult", "multiplicity")
    }
    results = getattr(atoms.calc, "results", None) or {}
    columns = {name: values for name, values in atoms.arrays.items() if "charge" in name.lower() and values.ndim == 1}
    columns |= {name: results[name] for name in ("charges",) if name in results}
    moments = atoms.arrays.get("initial_magmoms")
    stated = stated_charge_and_spin(
        {**by_text, **parameters, **atoms.info}, columns, moments, numbers=atoms.numbers, where=where
    )
    frame = Frame(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        charge=stated.charge or 0,
        unpaired_electrons=stated.unpaired_electrons or 0,
    )
    data = {str(name): value for name, value in [*atoms.info.items(), *atoms.arrays.items(), *results.items()]}
    unused = [name for name in data if LABEL_NAMES.search(name)]
    labels = {name: value for name, value in data.items() if name not in ("numbers", "positions")}
    if atoms.constraints:
        unused.append("constraints (fixed atoms)")
    return _checked(FileStructure(frame, stated, where, tuple(unused), labels=labels))


def _refuse_invalid(atoms: Any, where: str) -> None:
    """Raise `InputError` for a structure without atoms, with a non-finite number, or periodic without a full cell."""
    if len(atoms) == 0:
        raise InputError(f"{where} has no atoms")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise InputError(f"{where} has positions or a cell that are not finite numbers; correct the file")
    if atoms.pbc.any() and atoms.cell.rank < 3:  # noqa: PLR2004 -- three dimensions
        raise InputError(f"{where} is periodic but has fewer than three independent cell vectors; give all three")


def _refuse_not_simulated(atoms: Any, where: str) -> None:
    """Raise `InputError` for partly occupied sites, and for masses of isotopes or united atoms."""
    from ase.data import atomic_masses

    sites = atoms.info.get("occupancy")
    if isinstance(sites, Mapping):
        for kinds in sites.values():
            if len(kinds) != 1 or abs(sum(kinds.values()) - 1.0) > FULL_OCCUPANCY:
                text = ", ".join(f"{element} {share:g}" for element, share in kinds.items())
                raise InputError(
                    f"{where}: a site is only partly occupied ({text}); give a single ordered structure, with every "
                    "site occupied or empty"
                )
    if atoms.has("masses"):
        off = np.abs(atoms.get_masses() - atomic_masses[atoms.numbers]) > ISOTOPE_AMU
        if off.any():
            atom = int(np.argmax(off))
            raise InputError(
                f"{where}: atom {atom} ({atoms[atom].symbol}) has a mass of {atoms.get_masses()[atom]:.3f} amu; "
                "isotopes and united atoms are not simulated: remove the masses of isotopes, which a force field does "
                "not depend on, or give all atoms"
            )


def _checked(structure: FileStructure) -> FileStructure:
    """Check a structure's periodicity and coordinates, and return the structure.

    Raises:
        InputError: If the structure is periodic in some directions only, or an atom is too far from the origin.
    """
    pbc = structure.frame.pbc
    if pbc.any() and not pbc.all():
        axes = " and ".join(axis for axis, periodic in zip("abc", pbc, strict=True) if periodic)
        raise InputError(
            f"{structure.where} is periodic along {axes} only; systems are periodic in three directions or in none. "
            'Give a slab a cell with vacuum and pbc="T T T", and it is simulated with images above and below'
        )
    farthest = np.abs(structure.frame.positions).max()
    if farthest > FARTHEST_ANG:
        raise InputError(
            f"{structure.where} has a coordinate of {farthest:.3g} Å, above the limit of {FARTHEST_ANG:.0e} Å; move "
            "it to the origin, and check that its positions are in Å"
        )
    return structure


def unused_in(structures: Sequence[FileStructure]) -> tuple[str, ...]:
    """Names of the data in a file that are not used, without duplicates."""
    return tuple(dict.fromkeys(name for structure in structures for name in structure.unused))
