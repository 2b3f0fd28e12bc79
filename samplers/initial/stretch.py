"""Bond stretching (arXiv:2312.09490): a random bond's length is multiplied by a random factor.

The factor is uniform between a shortest and a longest factor. The smaller fragment is moved rigidly along the bond.
"""

from collections.abc import Mapping

import numpy as np

from al_engine.structures.bonds import BondGraph
from al_engine.structures.frames import FloatArray, Frame, IntArray
from al_engine.structures.neighbours import pairs_within
from al_engine.structures.periodic import nearest_image

_ATTEMPTS = 20
"""Largest number of draws of a bond and a factor for each bond to stretch."""
_ROUNDING = 1e-9
"""Relative increase of the search radius, so that rounding loses no pair."""


def movable_fragments(n_atoms: int, bonds: IntArray) -> dict[int, IntArray]:
    """Find the atoms that are moved when a bond is stretched: those on the side of the bond that has fewer atoms.

    If both sides have the same number of atoms, the side of the bond's second atom is moved. A bond in a ring has no
    sides and is left out.

    Args:
        n_atoms: Number of atoms.
        bonds: Bonded pairs, shape (n_bonds, 2).

    Returns:
        The indices of the moved atoms, ascending, by the index of the bond.
    """
    graph = BondGraph(n_atoms, bonds)
    fragments = {}
    for bond, (first, second) in enumerate(graph.pairs.tolist()):
        from_first = graph.side_of(first, second)
        if second in from_first:  # a ring
            continue
        from_second = graph.side_of(second, first)
        smaller = from_first if len(from_first) < len(from_second) else from_second
        fragments[bond] = np.array(sorted(smaller), dtype=np.int64)
    return fragments


def stretched_bond(frame: Frame, pair: IntArray, moving: IntArray, factor: float) -> Frame:
    """Multiply the length of a bond by a factor; a fragment is moved rigidly along the bond.

    Args:
        frame: The frame; the bond must not cross a periodic boundary (molecules are whole).
        pair: Indices of the two atoms of the bond, shape (2,).
        moving: Indices of the atoms that are moved; exactly one atom of the bond is among them.
        factor: New length divided by old length.

    Returns:
        The frame after the move.
    """
    first, second = (int(atom) for atom in pair)
    fixed, moved = (first, second) if second in moving else (second, first)
    positions = frame.positions.copy()
    positions[moving] += (factor - 1.0) * (frame.positions[moved] - frame.positions[fixed])
    return frame.with_positions(positions)


def collides(before: Frame, after: Frame, pair: IntArray, moving: IntArray) -> bool:
    """Tell whether the move of a fragment brought one of its atoms on top of an atom that was not moved.

    Two atoms are on top of each other if they are closer than the length of a bond and closer than before the move. The
    length of a bond is the sum of the covalent radii (Cordero et al., Dalton Trans. 2832 (2008)). The stretched bond is
    not checked. In a periodic frame, distances are between nearest images.

    Args:
        before: The frame before the move.
        after: The frame after the move.
        pair: The two atoms of the stretched bond, shape (2,).
        moving: Indices of the atoms that were moved.
    """
    from ase.data import covalent_radii

    radii = covalent_radii[before.numbers]
    first, second, _ = pairs_within(after, (1.0 + _ROUNDING) * 2.0 * float(radii.max()))
    moved = np.isin(np.arange(len(before)), moving)
    between = (moved[first] != moved[second]) & ~(np.isin(first, pair) & np.isin(second, pair))
    first, second = first[between], second[between]

    def distances(frame: Frame) -> FloatArray:
        vectors = frame.positions[first] - frame.positions[second]
        squares: FloatArray = np.square(nearest_image(vectors, frame.cell, frame.pbc)).sum(axis=-1)
        return np.sqrt(squares)

    now = distances(after)
    return bool(((now < radii[first] + radii[second]) & (now < distances(before))).any())


def stretch_random_bonds(
    frame: Frame,
    bonds: IntArray,
    fragments: Mapping[int, IntArray],
    *,
    count: int,
    shortest_factor: float,
    longest_factor: float,
    rng: np.random.Generator,
) -> tuple[Frame, tuple[int, ...]]:
    """Stretch several bonds, one after another, by random factors.

    Each bond is drawn uniformly from the bonds that are in no ring and not stretched yet, and its factor from
    U(shortest_factor, longest_factor). If a draw puts atoms on top of each other (`collides`), bond and factor are
    drawn again. After 20 such draws, the frame is returned with the bonds stretched so far.

    Args:
        frame: The frame; its molecules are whole.
        bonds: Bonded pairs, shape (n_bonds, 2).
        fragments: From `movable_fragments` of the same bonds.
        count: Number of bonds to stretch. If fewer bonds can be stretched, all of them are.
        shortest_factor: Smallest factor on a bond's length.
        longest_factor: Largest factor on a bond's length.
        rng: Generator of the draws.

    Returns:
        The frame, and the indices of the stretched bonds in the order in which they were stretched.
    """
    stretched: list[int] = []
    for _ in range(min(count, len(fragments))):
        candidates = [bond for bond in fragments if bond not in stretched]
        for _ in range(_ATTEMPTS):
            bond = candidates[int(rng.integers(len(candidates)))]
            factor = float(rng.uniform(shortest_factor, longest_factor))
            moved = stretched_bond(frame, bonds[bond], fragments[bond], factor)
            if not collides(frame, moved, bonds[bond], fragments[bond]):
                break
        else:  # every draw put atoms on top of each other
            break
        frame = moved
        stretched.append(bond)
    return frame, tuple(stretched)
