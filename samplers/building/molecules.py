"""The molecule whose copies make up a system, and molecules from SMILES strings."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.elements import LAST_ELEMENT
from al_engine.structures.frames import BoolArray, FloatArray, IntArray
from samplers.building.valences import TRANSITION_METALS

_EMBED_ATTEMPTS = 20
"""Largest number of attempts to find a conformer."""
_EMBED_LIMIT_S = 60
"""Time limit of a search for a conformer, s; a minute is enough for a few hundred atoms."""
_LARGE = 300
"""Number of atoms above which the embedding starts from random coordinates, because RDKit's distance geometry fails."""
_RELAX_ITERATIONS = 5000
"""Largest number of iterations of a minimisation."""
_LONGEST_NAME = 60
"""Largest number of characters of a SMILES string in a message."""


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
        embedded: Whether the conformer was embedded from a SMILES, and not read from a file.
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
    embedded: bool = False
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

    name = f"SMILES '{shortened(smiles)}'"
    with rdBase.BlockLogs():
        mol = Chem.AddHs(_parsed(smiles, section))
        numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
        check_elements(numbers, name)
        _refuse_isotopes(mol, name)
        if len(Chem.GetMolFrags(mol)) > 1:
            raise InputError(f"{name} has several parts (separated by '.'); give the SMILES of a single molecule")
        if not _embed(mol, seed=seed):
            raise InputError(
                f"RDKit finds no conformer of {name} ({len(numbers)} atoms); name a structure file in "
                "system.structure instead"
            )
        _relax(mol)
    charge = Chem.GetFormalCharge(mol)
    return Molecule(
        numbers=numbers,
        positions=np.array(mol.GetConformer().GetPositions(), dtype=np.float64),
        bonds=bonds_of(mol),
        charge=charge,
        formal_charge=charge,
        radical_electrons=radicals_of(mol),
        source=name,
        rdkit=mol,
        embedded=True,
    )


def other_conformer(molecule: Molecule, *, seed: int) -> FloatArray | None:
    """Positions of a conformer that is embedded anew, with the configurations of stereocentres and double bonds kept.

    Args:
        molecule: A molecule whose conformer was embedded from a SMILES.
        seed: Seed of the conformer.

    Returns:
        Positions in Å, shape (n, 3); None if RDKit finds no conformer.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.Mol(molecule.rdkit)
        Chem.AssignStereochemistryFrom3D(mol)  # a SMILES may leave them open
        if not _embed(mol, seed=seed):
            return None
        _relax(mol)
    positions: FloatArray = np.array(mol.GetConformer().GetPositions(), dtype=np.float64)
    return positions


def _embed(mol: Any, *, seed: int) -> bool:
    """Give an RDKit molecule a conformer by ETKDG, instead of those that it has; returns whether there is one."""
    from rdkit.Chem import rdDistGeom

    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed % (2**31 - 1)
    parameters.maxIterations = _EMBED_ATTEMPTS
    parameters.timeout = _EMBED_LIMIT_S
    parameters.useRandomCoords = mol.GetNumAtoms() > _LARGE
    found = rdDistGeom.EmbedMolecule(mol, parameters)
    if found < 0 and not parameters.useRandomCoords:
        parameters.useRandomCoords = True
        found = rdDistGeom.EmbedMolecule(mol, parameters)
    return bool(found >= 0)


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


def bonds_of(mol: Any) -> IntArray:
    """Bonded pairs of an RDKit molecule, i < j, sorted, shape (n_bonds, 2)."""
    pairs = sorted(tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in mol.GetBonds())
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
