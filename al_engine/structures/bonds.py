"""Bonds and their graph: fragments, molecules made whole in periodic cells, stretched bonds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray
from al_engine.structures.neighbours import pairs_within
from al_engine.structures.periodic import image_shifts, nearest_image

HYDROGEN = 1
BONDED = 1.3
"""Distance in units of the sum of the covalent radii up to which two atoms count as bonded."""


@dataclass(frozen=True, slots=True, eq=False)
class Bonds:
    """Bonds and their equilibrium lengths.

    Attributes:
        pairs: Atom indices, shape (n_bonds, 2).
        lengths: Equilibrium lengths in Å, shape (n_bonds,).
    """

    pairs: IntArray
    lengths: FloatArray

    @classmethod
    def at(cls, frame: Frame, pairs: IntArray) -> "Bonds":
        """The bonds of these atom pairs, shape (n_bonds, 2), with the lengths that they have in a frame.

        In a periodic frame, a bond leads to the nearest image.
        """
        i, j = pairs.reshape(-1, 2).T
        vectors = nearest_image(frame.positions[i] - frame.positions[j], frame.cell, frame.pbc)
        return cls(pairs=pairs, lengths=np.linalg.norm(vectors, axis=1))

    def shifts_in(self, frame: Frame) -> IntArray:
        """Lattice shifts of the bonds' vectors in a frame whose bonds are short, shape (n_bonds, 3).

        They are 0 but for bonds across a cell boundary. They stay the same in a trajectory from that frame, in which no
        atom is put back into the cell (`lengths_in`).
        """
        i, j = self.pairs.reshape(-1, 2).T
        return image_shifts(frame.positions[i] - frame.positions[j], frame.cell, frame.pbc)

    def lengths_in(self, frame: Frame, shifts: IntArray) -> FloatArray:
        """Lengths of the bonds in a frame of a trajectory, Å, shape (n_bonds,), however long they have become.

        Args:
            frame: The frame.
            shifts: Lattice shifts of the bonds in the first frame of the trajectory (`shifts_in`).
        """
        i, j = self.pairs.reshape(-1, 2).T
        lengths: FloatArray = np.linalg.norm(frame.positions[i] - frame.positions[j] + shifts @ frame.cell, axis=1)
        return lengths

    def have_broken(self, frame: Frame, long: BoolArray) -> bool:
        """Whether bonds that are too long have broken.

        A hydrogen atom may have moved to another place in a molecule of the same formula: acids exchange their protons,
        the proton of a zwitterion moves. Then no bond has broken.

        Args:
            frame: The frame.
            long: Which bonds are too long, shape (n_bonds,).
        """
        with_hydrogen = (frame.numbers[self.pairs] == HYDROGEN).any(axis=1)
        if not long.any():
            return False
        return bool((long & ~with_hydrogen).any()) or not self._same_molecules_in(frame, with_hydrogen)

    def _same_molecules_in(self, frame: Frame, with_hydrogen: BoolArray) -> bool:
        """Whether the hydrogen atoms of a frame form molecules of the same formulas as here, wherever each of them is.

        A hydrogen atom belongs to the nearest atom, if they are at most `BONDED` times the sum of their covalent radii
        apart (Cordero et al., Dalton Trans. 2832 (2008)). All other bonds are taken as they are here.

        Args:
            frame: A frame of the same atoms.
            with_hydrogen: Which bonds have a hydrogen atom, shape (n_bonds,).
        """
        from ase.data import covalent_radii

        numbers = frame.numbers
        radii = covalent_radii[numbers]
        first, second, distances = pairs_within(frame, BONDED * float(covalent_radii[HYDROGEN] + radii.max()))
        near = (distances < BONDED * (radii[first] + radii[second])) & (first != second)
        other = self.pairs[~with_hydrogen]
        before = _of_hydrogens(numbers, self.pairs[with_hydrogen], self.lengths[with_hydrogen])
        after = _of_hydrogens(numbers, np.stack([first, second], axis=1)[near], distances[near])
        return _formulas(numbers, np.concatenate([other, before])) == _formulas(numbers, np.concatenate([other, after]))


def _of_hydrogens(numbers: IntArray, pairs: IntArray, distances: FloatArray) -> IntArray:
    """The pairs that lead from a hydrogen atom to the nearest atom, one for each such atom that has one, shape (n, 2).

    Args:
        numbers: Atomic numbers, shape (N,).
        pairs: Pairs of bonded atoms, shape (P, 2).
        distances: Their distances in Å, shape (P,).
    """
    both, distances = np.concatenate([pairs, pairs[:, ::-1]]), np.tile(distances, 2)
    of_hydrogen = numbers[both[:, 0]] == HYDROGEN
    both, distances = both[of_hydrogen], distances[of_hydrogen]
    order = np.lexsort((both[:, 1], distances, both[:, 0]))
    _, nearest = np.unique(both[order, 0], return_index=True)
    found: IntArray = both[order[nearest]]
    return found


def _formulas(numbers: IntArray, pairs: IntArray) -> list[list[int]]:
    """The atomic numbers of each bonded fragment, in ascending order."""
    owner = fragment_of_atom(len(numbers), pairs)
    return sorted(np.sort(numbers[owner == fragment]).tolist() for fragment in range(owner.max(initial=-1) + 1))


def bond_lengths(positions: FloatArray, pairs: IntArray) -> FloatArray:
    """Distances in Å, shape (n_bonds,), of atom pairs, shape (n_bonds, 2); no periodic images."""
    i, j = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    lengths: FloatArray = np.linalg.norm(positions[i] - positions[j], axis=1)
    return lengths


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """Atoms that bonds hold together, and the bonds between them.

    Attributes:
        atoms: Indices of the n atoms of the fragment in the graph, ascending, shape (n,).
        bonds: Indices of the m bonds of the fragment in the graph, ascending, shape (m,).
        pairs: The atoms of each bond, as indices into `atoms`, shape (m, 2).
    """

    atoms: IntArray
    bonds: IntArray
    pairs: IntArray


class BondGraph:
    """The graph whose nodes are N atoms and whose edges are bonds.

    Args:
        n_atoms: Number of atoms N.
        pairs: Bonded pairs of atom indices, shape (n_bonds, 2).

    Attributes:
        n_atoms: Number of atoms N.
        pairs: Bonded pairs of atom indices, shape (n_bonds, 2).
        neighbours: The atoms bonded to each atom, in the order of the bonds, N lists.
    """

    def __init__(self, n_atoms: int, pairs: IntArray | Sequence[tuple[int, int]]) -> None:
        self.n_atoms = n_atoms
        self.pairs: IntArray = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        self.neighbours: list[list[int]] = [[] for _ in range(n_atoms)]
        self._bonds: list[list[int]] = [[] for _ in range(n_atoms)]  # the bonds to the neighbours, in the same order
        for bond, (i, j) in enumerate(self.pairs.tolist()):
            self.neighbours[i].append(j)
            self.neighbours[j].append(i)
            self._bonds[i].append(bond)
            self._bonds[j].append(bond)

    def fragments(self) -> list[Fragment]:
        """The connected components of the graph, in order of their first atoms."""
        owner = fragment_of_atom(self.n_atoms, self.pairs)
        owner_of_bond = owner[self.pairs[:, 0]]
        fragments = []
        for index in range(int(owner.max(initial=-1)) + 1):
            atoms, bonds = np.flatnonzero(owner == index), np.flatnonzero(owner_of_bond == index)
            fragments.append(Fragment(atoms, bonds, np.searchsorted(atoms, self.pairs[bonds])))
        return fragments

    def side_of(self, root: int, across: int) -> set[int]:
        """The atoms that are still connected to an atom when the bond to one of its neighbours is removed.

        Args:
            root: The atom; it is in the result.
            across: The neighbour; it is in the result if the bond is in a ring.
        """
        seen, stack = {root}, [root]
        while stack:
            atom = stack.pop()
            for other in self.neighbours[atom]:
                if other not in seen and (atom, other) != (root, across):
                    seen.add(other)
                    stack.append(other)
        return seen

    def summed_steps(self, steps: IntArray) -> IntArray:
        """Sum of the steps along the bonds that lead to each atom from the first atom of its fragment.

        In a ring several paths lead to an atom; a depth-first search chooses between them.

        Args:
            steps: The step from the first to the second atom of each bond, shape (n_bonds, 3).

        Returns:
            The sums, shape (N, 3); zero for the first atom of a fragment.
        """
        sums = np.zeros((self.n_atoms, 3), dtype=np.int64)
        reached = np.zeros(self.n_atoms, dtype=bool)
        for root in range(self.n_atoms):
            stack = [] if reached[root] else [root]
            reached[root] = True
            while stack:
                atom = stack.pop()
                for other, bond in zip(self.neighbours[atom], self._bonds[atom], strict=True):
                    if not reached[other]:
                        forward = self.pairs[bond, 0] == atom
                        sums[other] = sums[atom] + (steps[bond] if forward else -steps[bond])
                        reached[other] = True
                        stack.append(other)
        return sums


def fragment_of_atom(n_atoms: int, bonds: IntArray) -> IntArray:
    """Index of the bonded fragment of each of N atoms, shape (N,); fragments are numbered by their first atoms."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j = np.asarray(bonds, dtype=np.int64).reshape(-1, 2).T
    _, found = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n_atoms, n_atoms)), directed=False)
    first = np.unique(found, return_index=True)[1]
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    fragments: IntArray = rank[found]
    return fragments


def made_whole(positions: FloatArray, bonds: IntArray, cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """Positions in Å, shape (N, 3), in which no bonded fragment is split by a cell boundary; first atoms are not moved.

    Atoms move by whole lattice vectors, so that a fragment that is not split is returned bit for bit. Bonds must be
    shorter than half the smallest cell height.

    Args:
        positions: Positions in Å, shape (N, 3).
        bonds: Bonded pairs of atom indices, shape (n_bonds, 2).
        cell: Cell vectors as rows in Å, shape (3, 3).
        pbc: Periodicity along each cell vector, shape (3,).
    """
    if not np.any(pbc):
        return np.array(positions, dtype=np.float64)
    graph = BondGraph(len(positions), bonds)
    steps = image_shifts(positions[graph.pairs[:, 1]] - positions[graph.pairs[:, 0]], cell, pbc)
    whole: FloatArray = positions + graph.summed_steps(steps) @ cell
    return whole


def is_fragmented(frame: Frame, bonds: Bonds, max_factor: float) -> bool:
    """Whether a bond of a frame is longer than a factor times its equilibrium length.

    Bonds of hydrogen atoms do not count if these atoms have moved to other places in molecules of the same formulas
    (`Bonds.have_broken`).

    Args:
        frame: The frame.
        bonds: The bonds; in periodic frames a bond leads to the nearest image.
        max_factor: The factor.
    """
    from ase.data import covalent_radii

    stretches = _stretches(frame, bonds)
    long = stretches > max_factor
    if not long.any():
        return False
    reach = BONDED * covalent_radii[frame.numbers[bonds.pairs[long]]].sum(axis=1)
    still_bonded = stretches[long] * bonds.lengths[long] < reach
    return bool(still_bonded.any()) or bonds.have_broken(frame, long)


def longest_bonds(frames: Sequence[Frame], bonds: Bonds) -> FloatArray:
    """Length of the most stretched bond of each frame, in units of the equilibrium length of that bond.

    Args:
        frames: F frames of the system whose bonds are given.
        bonds: The bonds; in periodic frames a bond leads to the nearest image.

    Returns:
        Relative lengths, shape (F,); 0 where there are no bonds.
    """
    return np.array([_stretches(frame, bonds).max(initial=0.0) for frame in frames])


def shortest_bonds(frames: Sequence[Frame], bonds: Bonds) -> FloatArray:
    """Length of the least stretched bond of each frame, as `longest_bonds`; infinity where there are no bonds."""
    return np.array([_stretches(frame, bonds).min(initial=np.inf) for frame in frames])


def _stretches(frame: Frame, bonds: Bonds) -> FloatArray:
    """Lengths of a frame's bonds in units of their equilibrium lengths, shape (n_bonds,)."""
    stretches: FloatArray = bonds.lengths_in(frame, bonds.shifts_in(frame)) / bonds.lengths
    return stretches
