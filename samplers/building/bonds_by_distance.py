"""Which atoms are bonded, by their distances alone."""

import numpy as np

from al_engine.structures.bonds import BondGraph
from al_engine.structures.frames import BoolArray, FloatArray, IntArray
from samplers.building.valences import ELECTRONEGATIVE, IONIC_METALS

BOND_FACTOR = 1.1
"""Atoms are bonded within so many times the length of a single bond."""
_LENGTHS = {(1, 1): 0.80, (7, 17): 1.90, (8, 8): 1.45, (8, 9): 1.42, (9, 9): 1.42}
"""Single bonds, Å, that are longer than the sum of the covalent radii."""
_SHARED_PROTON_ANG = 1.45


def bonds_from_radii(
    numbers: IntArray, positions: FloatArray, cell: FloatArray, pbc: BoolArray, *, factor: float = BOND_FACTOR
) -> IntArray:
    """Pairs closer than a factor times a single bond: the sum of covalent radii (Cordero et al., as ASE has them).

    Alkali and alkaline earth metals are ions beside whatever holds electronegative atoms; they are bonded to carbon,
    and to hydrogen that is bonded to nothing else. A hydrogen atom between two others, bonded to none, belongs to the
    nearer one.

    Args:
        numbers: Atomic numbers, shape (N,).
        positions: Positions in Å, shape (N, 3).
        cell: Cell vectors in Å, shape (3, 3).
        pbc: Periodicity, shape (3,).
        factor: The factor.

    Returns:
        Pairs of atom indices, i < j, sorted, shape (n_bonds, 2).
    """
    first, second, _ = _bonded(numbers, positions, cell, pbc, factor)
    pairs = np.stack([first, second], axis=1)
    pairs.sort(axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0).astype(np.int64).reshape(-1, 2)


def is_endless(numbers: IntArray, positions: FloatArray, cell: FloatArray, pbc: BoolArray) -> bool:
    """Whether a structure is bonded to its own periodic images, as a crystal, a slab or a polymer is.

    Arguments are those of `bonds_from_radii`. Small cells count too, where two atoms are bonded over several images.
    """
    if not np.any(pbc):
        return False
    first, second, shifts = _bonded(numbers, positions, cell, pbc, BOND_FACTOR)
    image = BondGraph(len(numbers), np.stack([first, second], axis=1)).summed_steps(shifts)
    return bool((image[second] != image[first] + shifts).any())


def _bonded(
    numbers: IntArray, positions: FloatArray, cell: FloatArray, pbc: BoolArray, factor: float
) -> tuple[IntArray, IntArray, IntArray]:
    """Bonds both ways, over every image: first atoms, second atoms, lattice shifts of the second, shape (P, 3)."""
    from ase import Atoms
    from ase.data import covalent_radii
    from ase.neighborlist import neighbor_list

    reach = max(factor * 2.0 * float(covalent_radii[numbers].max()), _SHARED_PROTON_ANG, 1.5 * factor)
    atoms = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=pbc)
    first, second, distances, shifts = neighbor_list("ijdS", atoms, reach)
    limits = factor * _single_bonds(numbers[first], numbers[second], covalent_radii)
    bonded = distances < limits
    bonded &= ~_ionic(numbers, first, second, bonded)
    bonded |= _shared_protons(numbers, first, second, distances, bonded)
    return first[bonded], second[bonded], shifts[bonded]


def _single_bonds(first: IntArray, second: IntArray, radii: FloatArray) -> FloatArray:
    """Lengths of single bonds between atoms of these numbers, Å, shape (P,)."""
    lengths: FloatArray = radii[first] + radii[second]
    low, high = np.minimum(first, second), np.maximum(first, second)
    for (a, b), length in _LENGTHS.items():
        lengths[(low == a) & (high == b)] = length
    return lengths


def _ionic(numbers: IntArray, first: IntArray, second: IntArray, near: BoolArray) -> BoolArray:
    """Whether a near pair is a metal ion and what it is beside, not what it is bonded to."""
    metal = np.isin(numbers, list(IONIC_METALS))
    if not metal.any():
        return np.zeros(len(first), dtype=bool)
    held = np.zeros(len(numbers), dtype=bool)  # hydrogen atoms that another atom holds
    held[first[near & ~metal[first] & ~metal[second]]] = True
    bonding = (numbers == 6) | ((numbers == 1) & ~held)  # noqa: PLR2004 -- carbon, or hydrogen
    if not np.isin(numbers, list(ELECTRONEGATIVE)).any():
        bonding |= metal
    result: BoolArray = (metal[first] & ~bonding[second]) | (metal[second] & ~bonding[first])
    return result


def _shared_protons(
    numbers: IntArray, first: IntArray, second: IntArray, distances: FloatArray, bonded: BoolArray
) -> BoolArray:
    """The nearest electronegative neighbour of each hydrogen atom that is bonded to nothing, as a choice of pairs."""
    lonely = numbers == 1
    lonely[first[bonded]] = False
    wanted = lonely[first] & np.isin(numbers[second], list(ELECTRONEGATIVE)) & (distances < _SHARED_PROTON_ANG)
    chosen = np.zeros(len(first), dtype=bool)
    for atom in np.unique(first[wanted]).tolist():
        own = np.flatnonzero(wanted & (first == atom))
        chosen[own[np.argmin(distances[own])]] = True
    return chosen
