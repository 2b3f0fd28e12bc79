"""Kinds of bonds: those that the same surroundings make alike, and one of each to try things on."""

from dataclasses import dataclass

import numpy as np

from al_engine.structures.bonds import BondGraph
from al_engine.structures.frames import IntArray
from samplers.initial.stretch import movable_fragments


@dataclass(frozen=True, slots=True, eq=False)
class BondKind:
    """Bonds of the same two elements in the same surroundings.

    Attributes:
        name: The first one's atoms, such as `C0-F7`.
        elements: Their element symbols, such as `C-F`.
        pair: The first one's atoms, shape (2,), in the order of the name.
        moving: The atoms that are moved when it is stretched (`movable_fragments`).
        count: How many bonds are of this kind.
    """

    name: str
    elements: str
    pair: IntArray
    moving: IntArray
    count: int


def atom_classes(numbers: IntArray, bonds: IntArray) -> IntArray:
    """A number for each atom, shape (N,), equal for atoms that elements and bonds do not tell apart.

    By colour refinement (Weisfeiler & Leman 1968): atoms of one class have neighbours of the same classes. Bond orders
    and shapes are not looked at.

    Args:
        numbers: Atomic numbers, shape (N,).
        bonds: Bonded pairs, shape (n_bonds, 2).
    """
    neighbours = BondGraph(len(numbers), bonds).neighbours
    colours = np.unique(numbers, return_inverse=True)[1].tolist()
    while True:
        told = [(colours[atom], tuple(sorted(colours[n] for n in around))) for atom, around in enumerate(neighbours)]
        ranks = {signature: rank for rank, signature in enumerate(sorted(set(told)))}
        if len(ranks) == len(set(colours)):
            return np.array(colours, dtype=np.int64)
        colours = [ranks[signature] for signature in told]


def bond_kinds(numbers: IntArray, bonds: IntArray, *, limit: int) -> list[BondKind]:
    """The kinds of bonds that are in no ring, in order of their first bond.

    Args:
        numbers: Atomic numbers, shape (N,).
        bonds: Bonded pairs, shape (n_bonds, 2).
        limit: Where there are more kinds, one of each pair of elements comes first, then the kinds with most bonds.
    """
    from ase.data import chemical_symbols

    fragments = movable_fragments(len(numbers), bonds)
    classes = atom_classes(numbers, bonds)
    alike: dict[tuple[int, ...], list[int]] = {}
    for bond in fragments:
        alike.setdefault(tuple(sorted(classes[bonds[bond]].tolist())), []).append(bond)

    kinds = []
    for members in alike.values():
        first = members[0]
        pair = np.array(sorted(bonds[first].tolist(), key=lambda atom: (chemical_symbols[numbers[atom]], atom)))
        symbols = [chemical_symbols[numbers[atom]] for atom in pair]
        kinds.append(
            BondKind(
                name="-".join(f"{symbol}{atom}" for symbol, atom in zip(symbols, pair.tolist(), strict=True)),
                elements="-".join(symbols),
                pair=pair,
                moving=fragments[first],
                count=len(members),
            )
        )
    seen: set[str] = set()
    ranks: dict[int, tuple[bool, int]] = {}
    for place in sorted(range(len(kinds)), key=lambda place: -kinds[place].count):
        ranks[place] = (kinds[place].elements in seen, len(ranks))
        seen.add(kinds[place].elements)
    chosen = sorted(ranks, key=lambda place: ranks[place])[:limit]
    return [kinds[place] for place in sorted(chosen)]
