"""Charges and unpaired electrons of molecules, by formal charges and bond orders."""

from al_engine.structures.bonds import fragment_of_atom
from samplers.building.molecules import Molecule, radicals_of

_D_BLOCK = ((18, range(21, 31)), (36, range(39, 49)), (68, range(72, 81)))
"""Electrons below the d and s shell of the d-block elements, and their atomic numbers."""
_D_SHELL = 10


def unpaired_of(molecule: Molecule) -> int:
    """Unpaired electrons of an isolated molecule.

    The number is that stated in its file, else its number of radical electrons. If that number does not fit the number
    of electrons, it is 0 or 1.
    """
    stated = molecule.unpaired_electrons
    unpaired = molecule.radical_electrons if stated is None else stated
    electrons = int(molecule.numbers.sum()) - molecule.charge
    return unpaired if (electrons - unpaired) % 2 == 0 else electrons % 2


def electrons_by_fragment(molecule: Molecule) -> list[tuple[int, int]] | None:
    """Charge and unpaired electrons of each bonded fragment, in order of the fragments' first atoms.

    Returns:
        None if the bond orders of several fragments are unknown.
    """
    from rdkit import Chem

    if molecule.components:
        found: list[tuple[int, int]] = []
        for part, count in molecule.components:
            own = electrons_by_fragment(part)
            if own is None:
                return None
            found += count * own
        return found
    if not fragment_of_atom(len(molecule), molecule.bonds).max():
        return [(molecule.charge, unpaired_of(molecule))]
    if molecule.rdkit is None:
        return None
    return [(Chem.GetFormalCharge(part), radicals_of(part)) for part in Chem.GetMolFrags(molecule.rdkit, asMols=True)]


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
