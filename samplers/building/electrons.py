"""Charges and unpaired electrons of molecules, by formal charges and bond orders."""

from al_engine.structures.bonds import fragment_of_atom
from samplers.building.molecules import Molecule, radicals_of

_D_BLOCK = ((18, range(21, 31)), (36, range(39, 49)), (68, range(72, 81)))
"""Electrons below the d and s shell of the d-block elements, and their atomic numbers."""
_D_SHELL = 10
_GROUP_16 = frozenset({8, 16, 34, 52})
"""Atomic numbers of O, S, Se and Te."""


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


def open_shell(molecule: Molecule) -> str:
    """Why the bond orders of a molecule do not tell its unpaired electrons, in words; empty if they do.

    The reason is a bare ion whose d shell is partly filled, such as Fe(2+), which has 4 unpaired electrons in water and
    0 among strong ligands; or O2, S2 or SO, whose ground state is a triplet although all electrons of the Lewis
    structure are paired.
    """
    from rdkit import Chem

    if molecule.components:
        return next(filter(None, (open_shell(part) for part, _ in molecule.components)), "")
    if len(molecule) == 1:
        return _open_d_shell(int(molecule.numbers[0]), molecule.charge)
    if molecule.rdkit is None:
        return _triplet(tuple(molecule.numbers.tolist()), molecule.charge)
    for part in Chem.GetMolFrags(molecule.rdkit, asMols=True, sanitizeFrags=False):
        numbers = tuple(atom.GetAtomicNum() for atom in part.GetAtoms())
        charge = Chem.GetFormalCharge(part)
        reason = _open_d_shell(numbers[0], charge) if len(numbers) == 1 else _triplet(numbers, charge)
        if reason:
            return reason
    return ""


def _triplet(numbers: tuple[int, ...], charge: int) -> str:
    """The reason for a neutral molecule of two atoms of group 16; empty for others."""
    from ase.formula import Formula

    if len(numbers) != 2 or charge or not set(numbers) <= _GROUP_16:  # noqa: PLR2004 -- a diatomic molecule
        return ""
    name = Formula.from_list([_symbol(number) for number in numbers]).format("hill")
    return f"{name}, whose ground state has 2 unpaired electrons (a triplet), which its bonds do not show"


def _open_d_shell(number: int, charge: int) -> str:
    core = next((core for core, row in _D_BLOCK if number in row), None)
    partly_filled = core is not None and charge > 0 and 0 < number - core - charge < _D_SHELL
    if not partly_filled:
        return ""
    ion = f"{_symbol(number)}({charge}+)"
    return f"an ion with a partly filled d shell, {ion}, whose number of unpaired electrons depends on its surroundings"


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])
