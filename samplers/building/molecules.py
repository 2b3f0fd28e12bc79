"""The molecule whose copies make up a system, from a SMILES string or a structure file."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.bonds import made_whole
from al_engine.structures.elements import LAST_ELEMENT
from al_engine.structures.frames import BoolArray, FloatArray, IntArray
from samplers.building.bonds_by_distance import bonds_from_radii, is_endless
from samplers.building.perception import Perceived, perceived
from samplers.building.valences import NOBLE_GASES, TRANSITION_METALS
from samplers.reading.structure_files import FileStructure, read_structures

_EMBED_ATTEMPTS = 20
"""Largest number of attempts to find a conformer."""
_EMBED_LIMIT_S = 60
"""Time limit of a search for a conformer, s; a minute is enough for a few hundred atoms."""
_LARGE = 300
"""Number of atoms above which the embedding starts from random coordinates, because RDKit's distance geometry fails."""
_LONGEST_BOND_FACTOR = 1.5
"""Largest length of a bond in units of the sum of its atoms' covalent radii; ionic crystals reach 1.3."""
_RELAX_ITERATIONS = 5000
"""Largest number of iterations of a minimisation."""
_LONGEST_NAME = 60
"""Largest number of characters of a SMILES string in a message."""
_D_BLOCK = ((18, range(21, 31)), (36, range(39, 49)), (68, range(72, 81)))
"""Electrons below the d and s shell of the d-block elements, and their atomic numbers."""
_D_SHELL = 10
_BOHR_ANG = 0.529177
"""1 bohr in Å."""


@dataclass(frozen=True, slots=True, eq=False)
class Molecule:
    """The molecule whose copies make up a system; it may consist of several bonded fragments.

    Attributes:
        numbers: Atomic numbers, shape (n,).
        positions: Positions of a conformer in Å, shape (n, 3).
        bonds: Bonded pairs of atom indices, i < j, sorted, shape (n_bonds, 2).
        charge: Charge in e as stated by the user or the file, else the sum of formal charges.
        formal_charge: Sum of formal charges of the SMILES or the bond orders, e; None without bond orders.
        radical_electrons: Radical electrons of the SMILES or the bond orders.
        unpaired_electrons: Unpaired electrons of a copy as stated by the user or the file; None if not stated.
        charge_stated: Whether the user or the file states the charge.
        source: Name of the molecule in messages: the SMILES or the path.
        cell: Cell vectors of a periodic structure file in Å, shape (3, 3); zeros without a cell.
        pbc: Periodicity of a structure file, shape (3,).
        endless: Whether the molecule is bonded to its own periodic images.
        rdkit: The RDKit molecule (hydrogens explicit, same atom order) for force-field typing; None if bond orders
            could not be determined from the coordinates.
        notes: Notes for the user on how the file was read, each a sentence.
        components: The molecules of a mixture and their numbers, in the order of the atoms; each is packed on its own.
            Empty for a molecule, and for a file of several molecules, which are packed as they lie in the file.
    """

    numbers: IntArray
    positions: FloatArray
    bonds: IntArray
    charge: int
    radical_electrons: int
    source: str
    formal_charge: int | None = None
    unpaired_electrons: int | None = None
    charge_stated: bool = False
    cell: FloatArray = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: BoolArray = field(default_factory=lambda: np.zeros(3, dtype=bool))
    endless: bool = False
    rdkit: Any = None
    notes: tuple[str, ...] = ()
    components: tuple[tuple["Molecule", int], ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)


def check_elements(numbers: IntArray, source: str) -> None:
    """Refuse atomic numbers that no element has, as dummy and ghost atoms have them.

    Raises:
        InputError: If there is such a number; the message names the number and the source.
    """
    for number in sorted(set(np.asarray(numbers).tolist())):
        if not 1 <= number <= LAST_ELEMENT:
            raise InputError(
                f"{source} has an atom with Z = {number}, which is not an element (Z = 1 to {LAST_ELEMENT})"
            )


# -- SMILES -----------------------------------------------------------------------------------------------------


def molecule_from_smiles(smiles: str, *, seed: int, section: str = "system") -> Molecule:
    """Make a conformer of a SMILES string by ETKDG embedding, relaxed with MMFF94 or, for lack of parameters, UFF.

    Method: S. Riniker, G. A. Landrum, J. Chem. Inf. Model. 55, 2562 (2015).

    Args:
        smiles: The SMILES of a single molecule; a SMILES with several parts is for `mixtures.built_from_smiles`.
        seed: Seed of the conformer.
        section: Section of the config that the options of the messages belong to.

    Raises:
        InputError: If the SMILES does not parse, has several parts, isotopes or an atom of no element, or has no
            embedding.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom

    name = f"SMILES '{shortened(smiles)}'"
    with rdBase.BlockLogs():
        mol = Chem.AddHs(_parsed(smiles, section))
        numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
        check_elements(numbers, name)
        _refuse_isotopes(mol, name)
        if len(Chem.GetMolFrags(mol)) > 1:
            raise InputError(f"{name} has several parts (separated by '.'); give the SMILES of a single molecule")
        parameters: Any = rdDistGeom.ETKDGv3()
        parameters.randomSeed = seed % (2**31 - 1)
        parameters.maxIterations = _EMBED_ATTEMPTS
        parameters.timeout = _EMBED_LIMIT_S
        parameters.useRandomCoords = len(numbers) > _LARGE
        embedded = rdDistGeom.EmbedMolecule(mol, parameters)
        if embedded < 0 and not parameters.useRandomCoords:
            parameters.useRandomCoords = True
            embedded = rdDistGeom.EmbedMolecule(mol, parameters)
        if embedded < 0:
            raise InputError(
                f"RDKit finds no conformer of {name} ({len(numbers)} atoms); name a structure file in "
                "system.structure instead"
            )
        _relax(mol)
    charge = Chem.GetFormalCharge(mol)
    return Molecule(
        numbers=numbers,
        positions=np.array(mol.GetConformer().GetPositions(), dtype=np.float64),
        bonds=_bonds_of(mol),
        charge=charge,
        formal_charge=charge,
        radical_electrons=radicals_of(mol),
        source=name,
        rdkit=mol,
    )


def parts_of_smiles(smiles: str, *, section: str = "system") -> list[tuple[str, int]]:
    """The different parts of a SMILES string, which dots separate, and the number of each, in order of appearance.

    Raises:
        InputError: If the SMILES does not parse.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        fragments = Chem.GetMolFrags(_parsed(smiles, section), asMols=True)
        return list(Counter(Chem.MolToSmiles(fragment) for fragment in fragments).items())


def shortened(text: str) -> str:
    """The text, cut to a length that fits a message."""
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."


def _parsed(smiles: str, section: str) -> Any:
    from rdkit import Chem

    if len(smiles.split()) > 1:  # RDKit would take the rest as a name
        raise InputError(
            f"{section}.smiles: '{shortened(smiles)}' has a space; a number of molecules stands in front of the SMILES "
            "on the command line (--smiles '10 O'), and in `count` in the config"
        )
    mol = Chem.MolFromSmiles(smiles)
    if mol is not None and mol.GetNumAtoms():
        return mol
    unsanitised = Chem.MolFromSmiles(smiles, sanitize=False)
    problems = [] if unsanitised is None else [p.Message() for p in Chem.DetectChemistryProblems(unsanitised)]
    reason = problems[0] if problems else "no atoms" if unsanitised is not None else "not valid SMILES syntax"
    raise InputError(f"{section}.smiles: '{shortened(smiles)}' can't be read: {reason}")


def _refuse_isotopes(mol: Any, name: str) -> None:
    for atom in mol.GetAtoms():
        if atom.GetIsotope():
            raise InputError(
                f"{name} names the isotope {atom.GetIsotope()}{atom.GetSymbol()}; isotopes are not simulated, because "
                "a force field does not depend on them: write the element without its mass number"
            )


def _relax(mol: Any) -> None:
    from rdkit.Chem import rdForceFieldHelpers

    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        minimise(mol, mmff=True)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        minimise(mol, mmff=False)


def minimise(mol: Any, *, mmff: bool) -> None:
    """Move an RDKit molecule to a nearby minimum of MMFF94 or UFF.

    RDKit's line search raises an exception if it cannot lower the energy, as for H2 at its minimum. The molecule then
    stays where it is.
    """
    from rdkit.Chem import rdForceFieldHelpers

    optimise = rdForceFieldHelpers.MMFFOptimizeMolecule if mmff else rdForceFieldHelpers.UFFOptimizeMolecule
    with suppress(RuntimeError):
        optimise(mol, maxIters=_RELAX_ITERATIONS)


def radicals_of(mol: Any) -> int:
    """Number of radical electrons of an RDKit molecule.

    A bare ion of a main-group element is a closed shell if its number of electrons is even, such as Pb(2+), whose 6s
    electrons RDKit counts as two radicals; with an odd number it has one.
    """
    return sum(_radicals_of_atom(atom) for atom in mol.GetAtoms())


def _radicals_of_atom(atom: Any) -> int:
    number, charge = atom.GetAtomicNum(), atom.GetFormalCharge()
    if charge > 0 and not atom.GetTotalDegree() and number not in TRANSITION_METALS:
        return int((number - charge) % 2)
    return int(atom.GetNumRadicalElectrons())


def open_d_shell(molecule: Molecule) -> str:
    """A bare ion of the molecule whose d shell is partly filled, such as Fe(2+); empty if none is known.

    Its number of unpaired electrons depends on its surroundings: 4 in water, and 0 among strong ligands.
    """
    if molecule.components:
        return next(filter(None, (open_d_shell(part) for part, _ in molecule.components)), "")
    if len(molecule) == 1:
        return _open_d_shell(int(molecule.numbers[0]), molecule.charge)
    atoms = [] if molecule.rdkit is None else molecule.rdkit.GetAtoms()
    bare = (atom for atom in atoms if not atom.GetTotalDegree())
    return next(filter(None, (_open_d_shell(atom.GetAtomicNum(), atom.GetFormalCharge()) for atom in bare)), "")


def _open_d_shell(number: int, charge: int) -> str:
    from ase.data import chemical_symbols

    core = next((core for core, row in _D_BLOCK if number in row), None)
    partly_filled = core is not None and charge > 0 and 0 < number - core - charge < _D_SHELL
    return f"{chemical_symbols[number]}({charge}+)" if partly_filled else ""


def _bonds_of(mol: Any) -> IntArray:
    pairs = sorted(tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in mol.GetBonds())
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


# -- files ------------------------------------------------------------------------------------------------------


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
            bonds=_bonds_of(structure.rdkit),
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
    _refuse_bohr(structure)
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


def _refuse_bohr(structure: FileStructure) -> None:
    """Refuse a structure that has no bonds with positions in Å, but has bonds with positions in bohr."""
    frame = structure.frame
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
