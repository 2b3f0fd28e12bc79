"""Clusters cut from a periodic box, molecule by molecule."""

from dataclasses import dataclass

import numpy as np

from al_engine.structures.bonds import made_whole
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray
from al_engine.structures.neighbours import pairs_within
from al_engine.structures.periodic import shortest_image

_ROUNDING_ANG = 1e-6
"""Largest rounding error in a cluster, Å: of the centre of mass of the central molecule, which would be the origin, and
of a distance, which would equal the distance in the box."""


@dataclass(frozen=True, slots=True, eq=False)
class MoleculeElectrons:
    """Charge and unpaired electrons of each of the M molecules of a mixture.

    A cluster has the sum of the charges and the sum of the unpaired electrons of its molecules.

    Attributes:
        charge: Charge of each molecule, e, shape (M,).
        unpaired_electrons: Unpaired electrons of each molecule, shape (M,).
        largest_charge: Largest absolute charge of a cluster, e. To a cluster with a larger charge, the nearest ions of
            opposite charge are added (`completed`).
    """

    charge: IntArray
    unpaired_electrons: IntArray
    largest_charge: int

    def completed(self, order: IntArray, count: int) -> IntArray:
        """Choose the molecules of a cluster: the nearest molecules, and ions that lower its charge.

        While the absolute charge is above `largest_charge`, the nearest ion of opposite charge is added. If the box has
        too few ions of opposite charge, the cluster has all of them, and keeps a charge above `largest_charge`.

        Args:
            order: Indices of all molecules, the nearest first, shape (M,).
            count: Number of the nearest molecules, without the added ions.

        Returns:
            Indices of the molecules of the cluster, ascending.
        """
        chosen, others = order[:count].tolist(), order[count:].tolist()
        while abs(total := int(self.charge[chosen].sum())) > self.largest_charge:
            ion = next((index for index in others if self.charge[index] * total < 0), None)
            if ion is None:
                break
            chosen.append(ion)
            others.remove(ion)
        return np.sort(chosen)


@dataclass(frozen=True, slots=True, eq=False)
class ClusterCut:
    """How clusters are cut from the boxes of a system.

    Attributes:
        molecules: Number of molecules of a cluster, without the ions that complete it.
        charge: Charge of a cluster of equal molecules, e.
        unpaired_electrons: Unpaired electrons of a cluster of equal molecules.
        molecule_of_atom: Index of the molecule that each atom of the box belongs to, shape (N,).
        bonds: Bonded pairs of the box, shape (n_bonds, 2).
        electrons: Charge and unpaired electrons of the molecules of a mixture; None: the molecules are equal.
    """

    molecules: int
    charge: int
    unpaired_electrons: int
    molecule_of_atom: IntArray
    bonds: IntArray
    electrons: MoleculeElectrons | None = None

    def around(self, frame: Frame, molecule: int) -> tuple[Frame, IntArray]:
        """Cut the cluster around the centre of mass of a molecule of a box.

        Args:
            frame: The box.
            molecule: Index of the molecule, as in `molecule_of_atom`.

        Returns:
            The cluster, and the indices of its atoms in the box, shape (n,), as from `nearest_molecules`.

        Raises:
            ValueError: If the box has fewer molecules than the cluster should have.
        """
        whole = made_whole(frame.positions, self.bonds, frame.cell, frame.pbc)
        of_molecule = self.molecule_of_atom == molecule
        return nearest_molecules(
            frame,
            self.molecule_of_atom,
            self.bonds,
            self.molecules,
            charge=self.charge,
            unpaired_electrons=self.unpaired_electrons,
            electrons=self.electrons,
            centre=np.average(whole[of_molecule], axis=0, weights=atomic_masses(frame.numbers[of_molecule])),
        )

    def inside(self, atoms: IntArray) -> tuple[IntArray, BoolArray]:
        """The bonds inside a cluster.

        Args:
            atoms: Indices of the n atoms of the cluster in the box, shape (n,).

        Returns:
            The bonded pairs of the cluster, as indices of its atoms, shape (bonds of the cluster, 2); and whether each
            bond of the box is inside the cluster, shape (n_bonds,).
        """
        index_in_cluster = np.full(len(self.molecule_of_atom), -1)
        index_in_cluster[atoms] = np.arange(len(atoms))
        pairs = index_in_cluster[self.bonds]
        within: BoolArray = np.all(pairs >= 0, axis=1)
        return pairs[within], within


def nearest_molecules(
    frame: Frame,
    molecule_of_atom: IntArray,
    bonds: IntArray,
    count: int,
    *,
    charge: int = 0,
    unpaired_electrons: int = 0,
    electrons: MoleculeElectrons | None = None,
    centre: FloatArray | None = None,
) -> tuple[Frame, IntArray]:
    """Cut a cluster of the molecules whose centres of mass are nearest to a point; no molecule is cut through.

    Every molecule is made whole and shifted to the periodic image that is nearest to the point. A molecule is taken
    once, even if, in a small cell, two of its images are nearer to the point than another molecule.

    Args:
        frame: A periodic or non-periodic frame.
        molecule_of_atom: Index of the molecule that each atom belongs to, shape (N,).
        bonds: Bonded pairs, shape (n_bonds, 2).
        count: Number of molecules of the cluster.
        charge: Charge of a cluster of equal molecules, e.
        unpaired_electrons: Unpaired electrons of a cluster of equal molecules.
        electrons: Charge and unpaired electrons of the molecules of a mixture. The cluster is then completed with ions,
            and `charge` and `unpaired_electrons` are not used. None: all molecules are equal.
        centre: The point in Å, shape (3,); None: the centre of the cell, or the centre of mass of a non-periodic frame.

    Returns:
        The non-periodic cluster, with its molecules in the order of the frame and its positions relative to the point;
        and the indices of its atoms in the frame, shape (n,).

    Raises:
        ValueError: If there are fewer molecules than `count`.
    """
    labels = np.unique(molecule_of_atom)
    if len(labels) < count:
        raise ValueError(f"cannot cut {count} molecules from a frame that has {len(labels)}")
    masses = atomic_masses(frame.numbers)
    if centre is None and frame.is_periodic:
        centre = 0.5 * frame.cell.sum(axis=0)
    elif centre is None:
        centre = np.average(frame.positions, axis=0, weights=masses)
    positions = made_whole(frame.positions, bonds, frame.cell, frame.pbc)
    members = [np.flatnonzero(molecule_of_atom == label) for label in labels]
    centres = np.array([np.average(positions[atoms], axis=0, weights=masses[atoms]) for atoms in members])
    from_centre = shortest_image(centres - centre, frame.cell, frame.pbc)
    order = np.argsort(np.linalg.norm(from_centre, axis=1), kind="stable")
    chosen = np.sort(order[:count])
    if electrons is not None:
        chosen = electrons.completed(order, count)
        charge = int(electrons.charge[chosen].sum())
        unpaired_electrons = int(electrons.unpaired_electrons[chosen].sum())
    shifted = [positions[members[m]] - centres[m] + from_centre[m] for m in chosen]
    atoms = np.concatenate([members[m] for m in chosen])
    cluster = Frame(
        numbers=frame.numbers[atoms],
        positions=np.concatenate(shifted),
        charge=charge,
        unpaired_electrons=unpaired_electrons,
    )
    return cluster, atoms


def gathered(positions: FloatArray, fragment_of_atom: IntArray, cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """Positions in Å, shape (N, 3), in which the fragments of a cluster in a cell are at the images nearest each other.

    The cluster grows from the first fragment: the fragment with the shortest distance to it, periodic images included,
    is always next. So the cluster is as it was before its atoms were wrapped into the cell, if it is smaller than half
    the cell.

    Args:
        positions: Positions of whole fragments in Å, shape (N, 3).
        fragment_of_atom: Index of the fragment of each atom, from 0 on, shape (N,).
        cell: Cell vectors as rows in Å, shape (3, 3).
        pbc: Periodicity along each cell vector, shape (3,).
    """
    placed = positions.copy()
    inside = fragment_of_atom == 0
    nearest = np.full(len(positions), np.inf)  # distance of each atom to the cluster
    vectors = np.zeros((len(positions), 3))  # from an atom of the cluster
    origins = np.zeros((len(positions), 3))  # position of that atom
    new = np.flatnonzero(inside)
    while not inside.all():
        for atom in new.tolist():
            found = shortest_image(placed - placed[atom], cell, pbc)
            distances = np.linalg.norm(found, axis=1)
            closer = distances < nearest
            nearest[closer], vectors[closer], origins[closer] = distances[closer], found[closer], placed[atom]
        next_atom = int(np.argmin(np.where(inside, np.inf, nearest)))
        new = np.flatnonzero(fragment_of_atom == fragment_of_atom[next_atom])
        placed[new] += origins[next_atom] + vectors[next_atom] - placed[next_atom]
        inside[new] = True
    return placed


def surrounded(frame: Frame, cluster: Frame, atoms: IntArray, *, cutoff_ang: float) -> BoolArray:
    """Find the atoms of a cluster whose neighbours in the box, up to a cut-off, are all in the cluster.

    Every distance within the cluster is also a distance in the box. So it suffices to compare the number of neighbours
    of an atom in the cluster and in the box. Periodic images of an atom count as different neighbours.

    Args:
        frame: The box.
        cluster: The cluster of n atoms that was cut from the box by `nearest_molecules`.
        atoms: Indices of the cluster's atoms in the box, shape (n,).
        cutoff_ang: The cut-off in Å.

    Returns:
        Whether each atom of the cluster is surrounded, shape (n,).
    """
    in_box = _neighbour_counts(frame, cutoff_ang)[atoms]
    complete: BoolArray = _neighbour_counts(cluster, cutoff_ang + _ROUNDING_ANG) >= in_box
    return complete


def _neighbour_counts(frame: Frame, cutoff_ang: float) -> IntArray:
    """Number of neighbours of each of N atoms within a cut-off, periodic images included, shape (N,)."""
    first, second, _ = pairs_within(frame, cutoff_ang)
    return np.bincount(np.concatenate([first, second]), minlength=len(frame))


def central_molecule(cluster: Frame, molecules: int) -> BoolArray | None:
    """Find the molecule around which a cluster of equal molecules was cut: its centre of mass is the origin.

    Args:
        cluster: A frame of n atoms, molecule after molecule.
        molecules: Number of molecules of a cluster.

    Returns:
        Whether each atom belongs to that molecule, shape (n,); None if the frame was not cut around a molecule, that
        is, if no molecule has its centre of mass at the origin.
    """
    size, rest = divmod(len(cluster), molecules)
    if rest or cluster.is_periodic:
        return None
    positions = cluster.positions.reshape(molecules, size, 3)
    masses = atomic_masses(cluster.numbers).reshape(molecules, size, 1)
    distances = np.linalg.norm((masses * positions).sum(axis=1) / masses.sum(axis=1), axis=1)
    nearest = int(np.argmin(distances))
    return np.arange(len(cluster)) // size == nearest if distances[nearest] < _ROUNDING_ANG else None
