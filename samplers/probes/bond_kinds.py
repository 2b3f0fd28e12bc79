"""Kinds of bonds: bonds in the same chemical surroundings are of the same kind. A scan takes a bond of each kind."""

from dataclasses import dataclass

import numpy as np

from al_engine.structures.bonds import BondGraph
from al_engine.structures.frames import IntArray
from samplers.initial.stretch import movable_fragments


@dataclass(frozen=True, slots=True, eq=False)
class BondKind:
    """A kind of bonds: bonds between atoms of the same two classes (`atom_classes`).

    Attributes:
        name: Elements and indices of the atoms of the first bond of this kind, such as `C0-F7`.
        elements: Element symbols of the bond, such as `C-F`.
        pair: Indices of the atoms of the first bond, shape (2,), in the order of the name.
        moving: Indices of the atoms that are moved when the first bond is stretched (`movable_fragments`).
        count: Number of bonds of this kind.
    """

    name: str
    elements: str
    pair: IntArray
    moving: IntArray
    count: int


def atom_classes(numbers: IntArray, bonds: IntArray) -> IntArray:
    """Divide atoms into classes, so that atoms of a class have the same element and neighbours of the same classes.

    The classes are found by colour refinement (Weisfeiler & Leman, Nauchno-Tekh. Inf. 2 (9), 12 (1968)). Bond orders
    and shapes are ignored.

    Args:
        numbers: Atomic numbers, shape (N,).
        bonds: Bonded pairs, shape (n_bonds, 2).

    Returns:
        The class of each atom, shape (N,).
    """
    neighbours = BondGraph(len(numbers), bonds).neighbours
    colours = np.unique(numbers, return_inverse=True)[1].tolist()
    while True:
        signatures = [
            (colours[atom], tuple(sorted(colours[n] for n in around))) for atom, around in enumerate(neighbours)
        ]
        finer = {signature: colour for colour, signature in enumerate(sorted(set(signatures)))}
        if len(finer) == len(set(colours)):
            return np.array(colours, dtype=np.int64)
        colours = [finer[signature] for signature in signatures]


def bond_kinds(numbers: IntArray, bonds: IntArray, *, limit: int) -> list[BondKind]:
    """Find the kinds of bonds that are in no ring.

    Args:
        numbers: Atomic numbers, shape (N,).
        bonds: Bonded pairs, shape (n_bonds, 2).
        limit: Largest number of kinds. If there are more, the kind with most bonds of each pair of elements is taken
            first, then the other kinds; both in order of their numbers of bonds.

    Returns:
        The kinds in order of their first bonds.
    """
    from ase.data import chemical_symbols

    fragments = movable_fragments(len(numbers), bonds)
    classes = atom_classes(numbers, bonds)
    bonds_by_classes: dict[tuple[int, ...], list[int]] = {}
    for bond in fragments:
        bonds_by_classes.setdefault(tuple(sorted(classes[bonds[bond]].tolist())), []).append(bond)

    kinds = []
    for same_kind in bonds_by_classes.values():
        first = same_kind[0]
        pair = np.array(sorted(bonds[first].tolist(), key=lambda atom: (chemical_symbols[numbers[atom]], atom)))
        symbols = [chemical_symbols[numbers[atom]] for atom in pair]
        kinds.append(
            BondKind(
                name="-".join(f"{symbol}{atom}" for symbol, atom in zip(symbols, pair.tolist(), strict=True)),
                elements="-".join(symbols),
                pair=pair,
                moving=fragments[first],
                count=len(same_kind),
            )
        )
    firsts: list[int] = []  # the kind with most bonds of each pair of elements
    others: list[int] = []
    seen: set[str] = set()
    for index in sorted(range(len(kinds)), key=lambda index: -kinds[index].count):
        (others if kinds[index].elements in seen else firsts).append(index)
        seen.add(kinds[index].elements)
    return [kinds[index] for index in sorted([*firsts, *others][:limit])]
