"""One molecule: from a SMILES string or from any file ASE reads."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.frames import FloatArray, IntArray
from samplers.elements import LAST_ELEMENT
from samplers.periodic import made_whole
from samplers.structure_files import read_frames

_EMBED_ATTEMPTS = 20
_RELAX_ITERATIONS = 5000
_LARGEST_PERCEIVED = 300  # atoms; bond orders of larger structures are not worth the search


@dataclass(frozen=True, slots=True, eq=False)
class Molecule:
    """What one copy of the system's building block is; it may consist of several covalent fragments.

    Attributes:
        numbers: Atomic numbers, shape (n,).
        positions: One conformer in Å, shape (n, 3).
        bonds: Bonded pairs of atom indices, i < j, sorted, shape (n_bonds, 2).
        charge: Formal charge in e.
        radical_electrons: Radical electrons that the SMILES (or the file) names.
        source: How to name it in a message: the SMILES or the path.
        cell: Cell vectors of a periodic structure file in Å, shape (3, 3); zeros where there is none.
        pbc: Its periodicity, shape (3,).
        rdkit: The RDKit molecule (hydrogens explicit, same atom order) for force-field typing; None where bond orders
            could not be told from the coordinates.
    """

    numbers: IntArray
    positions: FloatArray
    bonds: IntArray
    charge: int
    radical_electrons: int
    source: str
    cell: FloatArray = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=bool))
    rdkit: Any = None

    def __len__(self) -> int:
        return len(self.numbers)


def check_elements(numbers: IntArray, source: str) -> None:
    """Refuse atomic numbers that no element has: dummy and ghost atoms.

    Raises:
        InputError: Naming the number and the source.
    """
    for number in sorted(set(np.asarray(numbers).tolist())):
        if not 1 <= number <= LAST_ELEMENT:
            raise InputError(f"{source} has an atom with Z = {number}, which is no element (Z = 1 to {LAST_ELEMENT})")


def molecule_from_smiles(smiles: str, *, seed: int) -> Molecule:
    """A conformer of a SMILES string: ETKDG embedding (Riniker & Landrum 2015), relaxed with MMFF94, else UFF.

    Raises:
        InputError: If the SMILES does not parse, has several parts, has an atom of no element, or has no embedding.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom

    name = f"SMILES '{smiles}'"
    with rdBase.BlockLogs():
        mol = Chem.AddHs(_parsed(smiles))
        numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
        check_elements(numbers, name)
        parts = len(Chem.GetMolFrags(mol))
        if parts > 1:
            raise InputError(
                f"{name} has {parts} parts ('.'); give one molecule, or all of them in a file as `system.structure`"
            )
        parameters: Any = rdDistGeom.ETKDGv3()
        parameters.randomSeed = seed % (2**31 - 1)
        parameters.maxIterations = _EMBED_ATTEMPTS
        embedded = rdDistGeom.EmbedMolecule(mol, parameters)
        if embedded < 0:
            parameters.useRandomCoords = True
            embedded = rdDistGeom.EmbedMolecule(mol, parameters)
        if embedded < 0:
            raise InputError(f"RDKit finds no conformer of {name}; give a structure file as `system.structure` instead")
        _relax(mol)
    return Molecule(
        numbers=numbers,
        positions=np.array(mol.GetConformer().GetPositions(), dtype=np.float64),
        bonds=_bonds_of(mol),
        charge=Chem.GetFormalCharge(mol),
        radical_electrons=sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()),
        source=name,
        rdkit=mol,
    )


def _parsed(smiles: str) -> Any:
    from rdkit import Chem

    mol = Chem.MolFromSmiles(smiles)
    if mol is not None and mol.GetNumAtoms():
        return mol
    unsanitised = Chem.MolFromSmiles(smiles, sanitize=False)
    problems = [] if unsanitised is None else [p.Message() for p in Chem.DetectChemistryProblems(unsanitised)]
    reason = problems[0] if problems else "no atoms" if unsanitised is not None else "not valid SMILES syntax"
    raise InputError(f"system.smiles: '{smiles}' can't be read: {reason}")


def _relax(mol: Any) -> None:
    from rdkit.Chem import rdForceFieldHelpers

    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=_RELAX_ITERATIONS)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=_RELAX_ITERATIONS)


def _bonds_of(mol: Any) -> IntArray:
    pairs = sorted(tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in mol.GetBonds())
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def molecule_from_file(path: Path, *, charge: int | None = None) -> Molecule:
    """The structure in a file: of a trajectory the last frame. `atoms.info` may hold charge and unpaired_electrons.

    A given charge goes before the file's. Bond orders are perceived by RDKit from coordinates and charge; where it
    fails, bonds come from covalent radii and `rdkit` is None. A molecule cut by a periodic boundary is made whole.

    Raises:
        InputError: If the file is missing, empty or unreadable, or has an atom of no element.
    """
    frame = read_frames(path)[-1]
    charge = frame.charge if charge is None else charge
    check_elements(frame.numbers, str(path))
    bonds = bonds_from_radii(frame.numbers, frame.positions, frame.cell, frame.pbc)
    positions = made_whole(frame.positions, bonds, frame.cell, frame.pbc)
    mol = _perceived(frame.numbers, positions, charge, len(bonds))
    return Molecule(
        numbers=frame.numbers,
        positions=positions,
        bonds=bonds if mol is None else _bonds_of(mol),
        charge=charge,
        radical_electrons=frame.unpaired_electrons,
        source=str(path),
        cell=frame.cell,
        pbc=frame.pbc,
        rdkit=mol,
    )


def bonds_from_radii(
    numbers: IntArray, positions: FloatArray, cell: FloatArray, pbc: np.ndarray, *, factor: float = 1.1
) -> IntArray:
    """Pairs closer than a factor times the sum of their covalent radii (ASE's natural cut-offs), shape (n_bonds, 2)."""
    from ase import Atoms
    from ase.neighborlist import natural_cutoffs, neighbor_list

    atoms = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=pbc)
    first, second = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=factor))
    pairs = np.stack([first, second], axis=1)[first < second]
    return np.unique(pairs, axis=0).astype(np.int64).reshape(-1, 2)


def _perceived(numbers: IntArray, positions: FloatArray, charge: int, n_bonds: int) -> Any:
    """The RDKit molecule of a structure, or None if no assignment of bond orders fits its charge."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds
    from rdkit.Geometry import Point3D

    if len(numbers) > _LARGEST_PERCEIVED:
        return None
    editable = Chem.RWMol()
    conformer = Chem.Conformer(len(numbers))
    for index, (number, position) in enumerate(zip(numbers.tolist(), positions.tolist(), strict=True)):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)  # noqa: FBT003 -- RDKit's signature
        editable.AddAtom(atom)
        conformer.SetAtomPosition(index, Point3D(*position))
    editable.AddConformer(conformer)
    with rdBase.BlockLogs():
        for charged_fragments in (True, False):  # False allows radicals
            mol = Chem.Mol(editable)
            try:
                rdDetermineBonds.DetermineBonds(mol, charge=charge, allowChargedFragments=charged_fragments)
                Chem.SanitizeMol(mol)
            except (ValueError, RuntimeError):
                continue
            if mol.GetNumBonds() == n_bonds:  # the two ways to tell bonds agree
                return mol
    return None
