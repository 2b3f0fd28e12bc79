"""Structures from SDF and MOL files, read by RDKit, because ASE's reader drops bond orders and formal charges."""

import re
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.frames import Frame

_TETRAHEDRAL = 4
"""Smallest number of neighbours of an atom that makes a flat structure count as a drawing."""


def read_sdf(text: str, *, source: str) -> list[tuple[Frame, Any, str]]:
    """Read all records of a file.

    Args:
        text: The text of the file.
        source: Name of the file in messages.

    Returns:
        For each record its frame, whose charge is the sum of the formal charges, its RDKit molecule, and its name in
        messages.

    Raises:
        InputError: If a record can't be read, is a 2D drawing, lacks hydrogens or has isotopes.
    """
    from rdkit import Chem, rdBase

    blocks = [block for block in re.split(r"(?m)^\$\$\$\$.*\n?", text) if block.strip()]
    records = []
    for index, block in enumerate(blocks):
        where = f"{source}, record {index}" if len(blocks) > 1 else source
        with rdBase.BlockLogs():
            mol = Chem.MolFromMolBlock(block, sanitize=True, removeHs=False, strictParsing=True)
        if mol is None or mol.GetNumAtoms() == 0:
            raise InputError(f"{where}: RDKit can't read it as a molecule; check its atoms, bonds and valences")
        _refuse_incomplete(mol, block, where)
        frame = Frame(
            numbers=np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()]),
            positions=mol.GetConformer().GetPositions(),
            charge=Chem.GetFormalCharge(mol),
        )
        records.append((frame, mol, where))
    return records


def _refuse_incomplete(mol: Any, block: str, where: str) -> None:
    """Raise `InputError` for a record that has isotopes, is a 2D drawing, or lacks hydrogens."""
    isotopes = [atom for atom in mol.GetAtoms() if atom.GetIsotope()]
    if isotopes:
        raise InputError(
            f"{where}: atom {isotopes[0].GetIdx()} is {isotopes[0].GetIsotope()}{isotopes[0].GetSymbol()}; isotopes "
            "are not simulated, because a force field does not depend on them: remove the mass number"
        )
    header = block.splitlines()
    flat = not mol.GetConformer().GetPositions()[:, 2].any()
    tetrahedral = any(atom.GetDegree() >= _TETRAHEDRAL for atom in mol.GetAtoms())
    if (len(header) > 1 and header[1][20:22] == "2D") or (flat and tetrahedral):
        raise InputError(f"{where} is a drawing without a third dimension; give a structure in 3D, or its SMILES")
    missing = sum(atom.GetTotalNumHs() for atom in mol.GetAtoms())
    if missing:
        raise InputError(f"{where} lacks {missing} hydrogens; add them, or give its SMILES")
