"""The cluster that stands for all clusters cut from a system's boxes: how they are cut, their charge and spin."""

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.bonds import Bonds
from al_engine.structures.clusters import ClusterCut, MoleculeElectrons, nearest_molecules
from al_engine.structures.frames import IntArray
from al_engine.structures.molecules import MoleculeTable
from samplers.building.electrons import electrons_by_fragment
from samplers.building.system import System


def fragment_electrons(system: System, *, largest_charge: int) -> MoleculeElectrons | None:
    """Charge and spin of each molecule of a mixture, by its formal charges; None if each copy is a single molecule.

    Args:
        system: The system.
        largest_charge: Largest charge of a cluster that is cut, e.

    Raises:
        InputError: If the formal charges or radical electrons are unknown or do not add up to those of the system.
    """
    molecule = system.molecule
    if not system.several_fragments:
        return None
    of_copy = electrons_by_fragment(molecule)
    if of_copy is None:
        raise InputError(
            f"selection.cut_molecules: no bond orders fit {molecule.source}, so the charges of its molecules are not "
            "known"
        )
    found = system.n_molecules * of_copy
    charges, unpaired = (np.array(column, dtype=np.int64) for column in zip(*found, strict=True))
    for what, total, wanted in (
        ("charge", charges.sum(), system.frame.charge),
        ("unpaired electrons", unpaired.sum(), system.frame.unpaired_electrons),
    ):
        if total != wanted:
            raise InputError(
                f"selection.cut_molecules: the molecules of {molecule.source} have {what} {total} by their bonds, the "
                f"box has {wanted}, so it is not known which molecules have the difference; set "
                f"system.{what.replace(' ', '_')} to {total}, or state it for each of system.species"
            )
    _refuse_redox_pairs(system, charges, unpaired)
    if abs(system.frame.charge) > largest_charge:
        raise InputError(
            f"selection.cut_charge: the box has a charge of {system.frame.charge:+d} e, so that not every cluster can "
            f"be completed to at most {largest_charge} e; add counter-ions, or set selection.cut_charge to "
            f"{abs(system.frame.charge)}"
        )
    return MoleculeElectrons(charges, unpaired, largest_charge)


def _refuse_redox_pairs(system: System, charges: IntArray, unpaired: IntArray) -> None:
    """Refuse molecules of the same atoms with different charge or spin: clusters with them would differ in them too.

    Args:
        system: The system.
        charges: Charge of each molecule, e, shape (M,).
        unpaired: Unpaired electrons of each molecule, shape (M,).

    Raises:
        InputError: If there are such molecules; the models see neither charge nor spin.
    """
    found: dict[tuple[int, ...], tuple[int, int]] = {}
    for index, electrons in enumerate(zip(charges.tolist(), unpaired.tolist(), strict=True)):
        atoms = system.frame.numbers[system.molecules.fragment_of_atom == index]
        other = found.setdefault(tuple(np.sort(atoms).tolist()), electrons)
        if other != electrons:
            from ase.symbols import Symbols

            name = Symbols(atoms).get_chemical_formula()
            raise InputError(
                f"selection.cut_molecules: the box has {name} with charge {other[0]:+d} and {other[1]} unpaired "
                f"electrons, and with {electrons[0]:+d} and {electrons[1]}. Clusters of the same atoms would differ in "
                "charge or spin, which the models do not see; label the whole box, or remove one of the two"
            )


def cluster_of(system: System, count: int, *, largest_charge: int = 0) -> System:
    """Cut a cluster of `count` molecules from a box, with the charge and spin of the clusters that will be labelled.

    The clusters of a mixture differ in their molecules; this cluster is cut around the first molecule of the box.

    Args:
        system: The system, a box.
        count: Number of molecules.
        largest_charge: Largest charge of a cluster of a mixture, e (`selection.cut_charge`).

    Raises:
        InputError: If the box has fewer molecules; if its charge or unpaired electrons do not divide among equal
            molecules, or do not fit a cluster of this size; for mixtures, as `fragment_electrons`.
    """
    table, pairs = system.molecules, system.bonds.pairs
    electrons = fragment_electrons(system, largest_charge=largest_charge)
    available = system.n_molecules if electrons is None else len(electrons.charge)
    if count > available:
        raise InputError(f"selection.cut_molecules is {count}, but the box has {available} molecules")
    if electrons is None:
        charge, unpaired = _share_of_electrons(system, count)
        cut = ClusterCut(count, charge, unpaired, table.copy_of_atom, pairs)
        frame, _ = nearest_molecules(
            system.frame, table.copy_of_atom, pairs, count, charge=charge, unpaired_electrons=unpaired
        )
        return System.of_copies(frame, system.molecule, count, cut=cut)
    cut = ClusterCut(count, 0, 0, table.fragment_of_atom, pairs, electrons)
    frame, atoms = cut.around(system.frame, 0)
    inside, _ = cut.inside(atoms)
    return System(
        frame=frame,
        molecule=system.molecule,
        n_molecules=1,
        bonds=Bonds.at(frame, inside),
        molecules=MoleculeTable.of(np.zeros(len(frame), dtype=np.int64), inside),
        cut=cut,
    )


def _share_of_electrons(system: System, count: int) -> tuple[int, int]:
    """Charge and unpaired electrons of a cluster of `count` of a system's equal molecules.

    Raises:
        InputError: If those of the system do not divide among its molecules, or do not fit a cluster of this size.
    """
    share = f"{count} of {system.n_molecules} molecules"
    charge, rest = divmod(system.frame.charge * count, system.n_molecules)
    if rest:
        raise InputError(
            f"selection.cut_molecules: system.charge {system.frame.charge:+d} does not divide among {share}"
        )
    unpaired, rest = divmod(system.frame.unpaired_electrons * count, system.n_molecules)
    if rest:
        raise InputError(
            f"selection.cut_molecules: {system.frame.unpaired_electrons} unpaired electrons do not divide among {share}"
        )
    electrons = count * int(system.molecule.numbers.sum()) - charge
    if (electrons - unpaired) % 2:
        raise InputError(
            f"selection.cut_molecules: {share} have {electrons} electrons, of which {unpaired} can't be "
            "unpaired; cut another number of molecules, or set system.unpaired_electrons"
        )
    return charge, unpaired
