"""Molecules from structure files: their charge, spin and bond orders as stated, or perceived and checked."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.bonds import made_whole
from al_engine.structures.frames import FloatArray, IntArray
from al_engine.structures.neighbours import closest_distance
from samplers.building.bonds_by_distance import bonds_from_radii, is_endless
from samplers.building.molecules import Molecule, bonds_of, check_elements, radicals_of
from samplers.building.perception import Perceived, perceived
from samplers.building.valences import NOBLE_GASES
from samplers.reading.structure_files import FileStructure, read_structures

_LONGEST_BOND_FACTOR = 1.5
"""Largest length of a bond in units of the sum of its atoms' covalent radii; ionic crystals reach 1.3."""
_SHORTEST_BOND_ANG = 0.4
"""A distance that no two atoms have, Å: half of the bond of H2."""
_BOHR_ANG = 0.529177
"""1 bohr in Å."""


def molecule_from_file(
    path: Path,
    *,
    charge: int | None = None,
    unpaired_electrons: int | None = None,
    elements: Mapping[str, str] | None = None,
    index: int | None = None,
    section: str = "system",
    spin_stated: bool = False,
) -> Molecule:
    """Read a structure with its bond orders, which are perceived fragment by fragment if the file does not state them.

    A molecule cut by a periodic boundary is made whole.

    Args:
        path: The file.
        charge: Charge of the structure stated by the user, e; None: the charge stated in the file, else 0.
        unpaired_electrons: Unpaired electrons of the structure stated by the user, or None.
        elements: Elements by the file's names or types of atoms.
        index: Index of the structure in a file of several structures, counted from the end if negative.
        section: Section of the config that the options of the messages belong to.
        spin_stated: Whether the user states the unpaired electrons of all copies together, so that a copy may have any.

    Raises:
        InputError: As `read_structures`; if the file has several structures and no index is given; if the user and the
            file contradict each other; or if hydrogens, a charge or a spin seem to be missing.
    """
    structures = read_structures(path, elements=elements)
    structure = _chosen(structures, index, path, section)
    frame, where = structure.frame, structure.where
    check_elements(frame.numbers, where)
    in_file = structure.stated.charge
    if structure.rdkit is not None and not in_file:  # no formal charges: the user may still ionise the molecule
        in_file = None
    charge = _agreed(charge, in_file, where, f"{section}.charge")
    unpaired_electrons = _agreed(
        unpaired_electrons, structure.stated.unpaired_electrons, where, f"{section}.unpaired_electrons"
    )
    notes = [
        f"{where}: its {', '.join(structure.unused)} {'is' if len(structure.unused) == 1 else 'are'} not used"
    ] * bool(structure.unused)
    if structure.rdkit is not None:
        formal = structure.stated.charge or 0
        return Molecule(
            numbers=frame.numbers,
            positions=frame.positions,
            bonds=bonds_of(structure.rdkit),
            charge=formal if charge is None else charge,
            formal_charge=formal,
            radical_electrons=radicals_of(structure.rdkit),
            unpaired_electrons=unpaired_electrons,
            charge_stated=charge is not None,
            source=where,
            rdkit=structure.rdkit,
            notes=tuple(notes),
        )
    bonds = bonds_from_radii(frame.numbers, frame.positions, frame.cell, frame.pbc)
    _refuse_other_units(structure)
    positions = made_whole(frame.positions, bonds, frame.cell, frame.pbc)
    lewis: Perceived | None = None
    endless = is_endless(frame.numbers, frame.positions, frame.cell, frame.pbc)
    if not endless:
        lewis = _perceive(
            structure,
            positions,
            bonds,
            charge=charge,
            spin_stated=spin_stated or unpaired_electrons is not None,
            section=section,
            radicals_allowed=unpaired_electrons != 0,
        )
        if lewis.rdkit is not None and ("," in lewis.fragments or lewis.charge):
            notes.append(f"{where} is read as {lewis.fragments}")
    return Molecule(
        numbers=frame.numbers,
        positions=positions,
        bonds=bonds,
        charge=charge or 0,
        formal_charge=None if lewis is None or lewis.rdkit is None else lewis.charge,
        radical_electrons=0 if lewis is None else lewis.radicals,
        unpaired_electrons=unpaired_electrons,
        charge_stated=charge is not None,
        source=where,
        cell=frame.cell,
        pbc=frame.pbc,
        endless=endless,
        rdkit=None if lewis is None or lewis.doubt else lewis.rdkit,
        notes=tuple(notes),
    )


def _chosen(structures: list[FileStructure], index: int | None, path: Path, section: str) -> FileStructure:
    count, option = len(structures), f"{section}.structure_frame"
    if index is None:
        if count > 1:
            raise InputError(
                f"{path} holds {count} structures; choose one with {option}: 0 to {count - 1}, or -1 for the last"
                f"{' (`al-engine init --structure-frame`)' if section == 'system' else ''}"
            )
        return structures[0]
    if not -count <= index < count:
        raise InputError(
            f"{option} is {index}, but {path} holds {count} structures; give a number from 0 to "
            f"{count - 1}, or -1 for the last"
        )
    return structures[index]


def _agreed(user: int | None, stated: int | None, where: str, name: str) -> int | None:
    """The value stated by the user, else the value stated in the file.

    Raises:
        InputError: If they differ.
    """
    if user is not None and stated is not None and user != stated:
        raise InputError(
            f"{where} states {name.rsplit('.', 1)[-1]} {stated:+d}, but by {name} this structure has {user:+d}; "
            "correct one of the two"
        )
    return stated if user is None else user


def _refuse_other_units(structure: FileStructure) -> None:
    """Refuse a structure whose positions are in nm or bohr, by the distances of its atoms.

    Raises:
        InputError: If atoms are impossibly close; or if there are no bonds with positions in Å, but with positions in
            bohr.
    """
    frame = structure.frame
    closest = closest_distance(frame.positions, frame.cell, frame.pbc)
    if closest < _SHORTEST_BOND_ANG:
        raise InputError(
            f"{structure.where}: two atoms are {closest:.3g} Å apart, as if positions were in nm; convert positions "
            "and cell to Å, or remove one of the atoms"
        )
    bonding = ~np.isin(frame.numbers, list(NOBLE_GASES))
    near = bonds_from_radii(frame.numbers, frame.positions, frame.cell, frame.pbc, factor=_LONGEST_BOND_FACTOR)
    if len(near) or bonding.sum() < 2:  # noqa: PLR2004 -- a bond
        return
    scaled = bonds_from_radii(frame.numbers, _BOHR_ANG * frame.positions, _BOHR_ANG * frame.cell, frame.pbc)
    if len(np.intersect1d(scaled, np.flatnonzero(bonding))) > bonding.sum() // 2:
        raise InputError(
            f"{structure.where}: no two atoms are near enough to be bonded, as if positions were in bohr; convert "
            "positions and cell to Å"
        )


def _perceive(
    structure: FileStructure,
    positions: FloatArray,
    bonds: IntArray,
    *,
    charge: int | None,
    spin_stated: bool,
    section: str,
    radicals_allowed: bool,
) -> Perceived:
    """Perceive the bond orders of a structure at its charge.

    A charge that is not stated is taken as 0 if the bonds fit it. If they fit another charge, that charge is suggested
    to the user and not assumed.

    Raises:
        InputError: If the charges of the ions have a sum that is not stated, valences are not satisfied, or a charge is
            neither stated nor known from the bonds.
    """
    numbers, where = structure.frame.numbers, structure.where
    radicals_allowed = radicals_allowed and spin_stated
    lewis = perceived(numbers, positions, bonds, charge=charge or 0, radicals_allowed=radicals_allowed)
    if lewis.rdkit is not None and not lewis.doubt:
        return lewis
    suggestion = ""
    if charge is None:
        free = perceived(numbers, positions, bonds, charge=None, radicals_allowed=radicals_allowed)
        if free.rdkit is not None and not free.doubt and free.charge:
            suggestion = (
                f"its bonds fit {free.fragments}; if it consists of these, set {section}.charge: {free.charge} for "
                f"each copy{f' (--charge {free.charge})' if section == 'system' else ''}"
            )
    if lewis.doubt and not (spin_stated and charge is not None):
        raise InputError(
            f"{where}, at charge {charge or 0:+d}: {lewis.doubt}. Add hydrogens that are missing. "
            f"{f'At another charge {suggestion}. ' if suggestion else ''}To use the structure unchanged, set both "
            f"{section}.charge and {section}.unpaired_electrons (0 if there are none)"
        )
    if suggestion:
        raise InputError(f"{where} states no charge, and {suggestion}; set {section}.charge: 0 if it has no charge")
    if charge is None:  # a metal complex, for example
        raise InputError(
            f"{where} states no charge, and no bond orders fit by which a charge of 0 could be checked; set "
            f"{section}.charge, to 0 if it has no charge{' (--charge 0)' if section == 'system' else ''}"
        )
    return lewis
