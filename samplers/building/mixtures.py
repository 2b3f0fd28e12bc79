"""Mixtures: molecules and ions of several kinds, each with a number, from the config or from a SMILES with dots."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.seeds import derived_seed
from al_engine.structures.frames import FloatArray
from samplers.building.molecules import Molecule, molecule_from_smiles, parts_of_smiles
from samplers.building.packing import packed_in_sphere


def built_from_smiles(smiles: str, *, seed: int, section: str = "system") -> Molecule:
    """Build the molecule of a SMILES string, or the mixture of its parts, which dots separate.

    Args:
        smiles: The SMILES.
        seed: Seed of conformers and packing.
        section: Section of the config that the options of the messages belong to.

    Raises:
        InputError: As `molecule_from_smiles`, or if the molecules can't be packed.
    """
    parts = parts_of_smiles(smiles, section=section)
    if sum(count for _, count in parts) == 1:
        return molecule_from_smiles(smiles, seed=derived_seed(seed, "conformer"), section=section)
    components = [
        (molecule_from_smiles(part, seed=derived_seed(seed, "conformer", index), section=section), count)
        for index, (part, count) in enumerate(parts)
    ]
    return mixture(components, seed=seed)


def mixture(components: Sequence[tuple[Molecule, int]], *, seed: int) -> Molecule:
    """A mixture of molecules, packed into a cluster; a component that is a mixture itself is taken apart.

    Args:
        components: Molecules and their numbers; the atoms are ordered component after component, molecule after
            molecule.
        seed: Seed of the packing.

    Returns:
        The mixture; a lone molecule as it is.

    Raises:
        InputError: If a molecule has a periodic cell, or the molecules can't be packed.
    """
    flat = tuple(
        (molecule, count * number)
        for component, count in components
        for molecule, number in component.components or ((component, 1),)
    )
    for molecule, _ in flat:
        if molecule.pbc.any():
            raise InputError(f"{molecule.source} has a periodic cell; a species of a mixture is a molecule without one")
    if len(flat) == 1 and flat[0][1] == 1:
        return flat[0][0]
    each = [molecule for molecule, count in flat for _ in range(count)]
    source = " + ".join(molecule.source if count == 1 else f"{count} x {molecule.source}" for molecule, count in flat)
    firsts = np.cumsum([0, *(len(molecule) for molecule in each)])
    positions = packed_in_sphere(flat, 1, seed=derived_seed(seed, "mixture"), source=source)
    formal = [molecule.formal_charge for molecule in each]
    return Molecule(
        numbers=np.concatenate([molecule.numbers for molecule in each]),
        positions=positions,
        bonds=np.concatenate([molecule.bonds + first for molecule, first in zip(each, firsts, strict=False)]),
        charge=sum(molecule.charge for molecule in each),
        formal_charge=None if None in formal else sum(charge or 0 for charge in formal),
        radical_electrons=sum(molecule.radical_electrons for molecule in each),
        unpaired_electrons=sum(molecule.unpaired_electrons or 0 for molecule in each) or None,
        source=source,
        rdkit=_combined([molecule.rdkit for molecule in each], positions),
        notes=tuple(note for molecule, _ in flat for note in molecule.notes),
        components=flat,
    )


def _combined(mols: Sequence[Any], positions: FloatArray) -> Any:
    """RDKit molecules as a single molecule of several fragments; None if a molecule has no bond orders."""
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    if any(mol is None for mol in mols):
        return None
    combined = reduce(Chem.CombineMols, mols)
    Chem.SanitizeMol(combined)
    conformer = combined.GetConformer()
    for atom, position in enumerate(positions.tolist()):
        conformer.SetAtomPosition(atom, Point3D(*position))
    return combined
