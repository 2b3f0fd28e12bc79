"""Bonds from elements and the distances between atoms."""

import numpy as np

from al_engine.structures.bonds import BondGraph
from al_engine.structures.frames import BoolArray, FloatArray, IntArray
from samplers.building.valences import ELECTRONEGATIVE, IONIC_METALS

BOND_FACTOR = 1.1
"""Largest length of a bond, in units of the length of a single bond."""
_LENGTHS = {(1, 1): 0.80, (7, 17): 1.90, (8, 8): 1.45, (8, 9): 1.42, (9, 9): 1.42}
"""Lengths in Å of single bonds that are longer than the sum of the covalent radii."""
_CARBON, _CARBON_VALENCE = 6, 4
_SHARED_PROTON_ANG = 1.45
"""Largest distance between a hydrogen atom without bonds and the electronegative atom that it belongs to, Å."""


def bonds_from_radii(
    numbers: IntArray, positions: FloatArray, cell: FloatArray, pbc: BoolArray, *, factor: float = BOND_FACTOR
) -> IntArray:
    """Find the bonds: pairs closer than a factor times the length of a single bond.

    The length of a single bond is the sum of the covalent radii (Cordero et al., Dalton Trans. 2832 (2008), from ASE),
    with a few exceptions. Alkali and alkaline earth metals are bonded only to hydrogen atoms without other bonds and to
    carbon atoms that have at most three neighbours, none of them electronegative, and not to the face of a double bond;
    in structures without electronegative atoms also to each other. A hydrogen atom that lies between two
    electronegative atoms and is bonded to neither belongs to the nearer atom.

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

    Arguments are those of `bonds_from_radii`. In a small cell, two atoms bonded over several images count too.
    """
    if not np.any(pbc):
        return False
    first, second, shifts = _bonded(numbers, positions, cell, pbc, BOND_FACTOR)
    image = BondGraph(len(numbers), np.stack([first, second], axis=1)).summed_steps(shifts)
    return bool((image[second] != image[first] + shifts).any())


def _bonded(
    numbers: IntArray, positions: FloatArray, cell: FloatArray, pbc: BoolArray, factor: float
) -> tuple[IntArray, IntArray, IntArray]:
    """Find the bonds, periodic images included; most are listed from both ends, shared protons only from the hydrogen.

    Returns:
        Indices of the first atoms and of the second atoms, shape (P,), and lattice shifts of the second, shape (P, 3).
    """
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
    """Lengths in Å of single bonds between atoms of the given atomic numbers, shape (P,)."""
    lengths: FloatArray = radii[first] + radii[second]
    low, high = np.minimum(first, second), np.maximum(first, second)
    for (a, b), length in _LENGTHS.items():
        lengths[(low == a) & (high == b)] = length
    return lengths


def _ionic(numbers: IntArray, first: IntArray, second: IntArray, near: BoolArray) -> BoolArray:
    """Whether a near pair is a metal ion and an atom that it is not bonded to, shape (P,)."""
    metal = np.isin(numbers, list(IONIC_METALS))
    if not metal.any():
        return np.zeros(len(first), dtype=bool)
    has_bond = np.zeros(len(numbers), dtype=bool)  # non-metal atoms that are bonded to a non-metal
    has_bond[first[near & ~metal[first] & ~metal[second]]] = True
    bonding = _carbanions(numbers, first, second, near & ~metal[first] & ~metal[second])
    bonding |= (numbers == 1) & ~has_bond
    if not np.isin(numbers, list(ELECTRONEGATIVE)).any():
        bonding |= metal
    result: BoolArray = (metal[first] & ~bonding[second]) | (metal[second] & ~bonding[first])
    return result | _beside_pi_systems(numbers, metal, first, second, near)


def _carbanions(numbers: IntArray, first: IntArray, second: IntArray, bonded: BoolArray) -> BoolArray:
    """Which atoms are carbon atoms that may be bonded to a metal, shape (N,).

    A carbon atom with an electronegative neighbour, such as that of a carboxylate, and a carbon atom with four
    neighbours are only near the metal.

    Args:
        numbers: Atomic numbers, shape (N,).
        first: First atoms of pairs, shape (P,).
        second: Second atoms of the pairs; pairs are listed from both ends.
        bonded: Whether the atoms of a pair are bonded non-metals, shape (P,).
    """
    polar = np.zeros(len(numbers), dtype=bool)
    polar[first[bonded & np.isin(numbers[second], list(ELECTRONEGATIVE))]] = True
    n_neighbours = np.bincount(first[bonded], minlength=len(numbers))
    result: BoolArray = (numbers == _CARBON) & ~polar & (n_neighbours < _CARBON_VALENCE)
    return result


def _beside_pi_systems(
    numbers: IntArray, metal: BoolArray, first: IntArray, second: IntArray, near: BoolArray
) -> BoolArray:
    """Which near pairs are a metal and a carbon atom whose bonded neighbour, also carbon, is near that metal too, (P,).

    The metal lies on the face of a double bond or a ring, and is bonded to neither atom.
    """
    contacts = np.flatnonzero(near & metal[first] & (numbers[second] == _CARBON))
    if not len(contacts):
        return np.zeros(len(first), dtype=bool)
    by_metal: dict[int, set[int]] = {}
    for index in contacts.tolist():
        by_metal.setdefault(int(first[index]), set()).add(int(second[index]))
    carbons = near & (numbers[first] == _CARBON) & (numbers[second] == _CARBON)
    bonds = set(zip(first[carbons].tolist(), second[carbons].tolist(), strict=True))
    faces = {
        (metal_atom, carbon)
        for metal_atom, own in by_metal.items()
        for carbon in own
        if any((carbon, other) in bonds for other in own)
    }
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return np.array([(i, j) in faces or (j, i) in faces for i, j in pairs], dtype=bool)


def _shared_protons(
    numbers: IntArray, first: IntArray, second: IntArray, distances: FloatArray, bonded: BoolArray
) -> BoolArray:
    """Which pairs are a hydrogen atom without bonds and its nearest electronegative neighbour, shape (P,)."""
    unbonded = numbers == 1
    unbonded[first[bonded]] = False
    wanted = unbonded[first] & np.isin(numbers[second], list(ELECTRONEGATIVE)) & (distances < _SHARED_PROTON_ANG)
    chosen = np.zeros(len(first), dtype=bool)
    for atom in np.unique(first[wanted]).tolist():
        own = np.flatnonzero(wanted & (first == atom))
        chosen[own[np.argmin(distances[own])]] = True
    return chosen
