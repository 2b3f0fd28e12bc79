"""Clusters cut from a periodic box, molecule by molecule."""

from dataclasses import dataclass

import numpy as np

from al_engine.structures.bonds import made_whole
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray
from al_engine.structures.neighbours import pairs_within
from al_engine.structures.periodic import shortest_image

_ROUNDING_ANG = 1e-6
"""Largest distance between the origin and the centre of mass of the molecule around which a cluster was cut, Å; also
the largest difference between a distance in a box and the same distance in a cluster."""


@dataclass(frozen=True, slots=True, eq=False)
class MoleculeElectrons:
    """Charge and spin of each of the M molecules of a mixture; those of a cluster are the sums over its molecules.

    Attributes:
        charge: Charge of each molecule, e, shape (M,).
        unpaired_electrons: Unpaired electrons of each molecule, shape (M,).
        largest_charge: Largest charge of a cluster, e. A cluster with more gets the nearest ions of opposite charge.
    """

    charge: IntArray
    unpaired_electrons: IntArray
    largest_charge: int

    def completed(self, order: IntArray, count: int) -> IntArray:
        """The first molecules of an order, and the ions that bring their charge down to `largest_charge`.

        Args:
            order: Indices of all molecules, the nearest first, shape (M,).
            count: Number of molecules of a cluster without such ions.

        Returns:
            Indices of the molecules of the cluster, ascending. If the box has too few ions of opposite charge, the
            cluster has all of them.
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
        electrons: Charge and spin of the molecules of a mixture; None: the molecules are equal.
    """

    molecules: int
    charge: int
    unpaired_electrons: int
    molecule_of_atom: IntArray
    bonds: IntArray
    electrons: MoleculeElectrons | None = None

    def around(self, frame: Frame, molecule: int) -> tuple[Frame, IntArray]:
        """Cut the cluster around the centre of mass of a molecule of a box, as `nearest_molecules`."""
        whole = made_whole(frame.positions, self.bonds, frame.cell, frame.pbc)
        own = self.molecule_of_atom == molecule
        return nearest_molecules(
            frame,
            self.molecule_of_atom,
            self.bonds,
            self.molecules,
            charge=self.charge,
            unpaired_electrons=self.unpaired_electrons,
            electrons=self.electrons,
            centre=np.average(whole[own], axis=0, weights=atomic_masses(frame.numbers[own])),
        )

    def inside(self, atoms: IntArray) -> tuple[IntArray, BoolArray]:
        """The bonds of a cluster.

        Args:
            atoms: Indices of the n atoms of the cluster in the box, shape (n,).

        Returns:
            The bonded pairs as indices of atoms of the cluster, and which bonds of the box they are, shape (n_bonds,).
        """
        place = np.full(len(self.molecule_of_atom), -1)
        place[atoms] = np.arange(len(atoms))
        pairs = place[self.bonds]
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
    """Cut a cluster of the molecules whose centres of mass are nearest a point; no molecule is cut through.

    Every molecule is made whole and shifted to its image nearest the point. A molecule is taken once, even if a small
    cell has two of its images nearer the point than another molecule.

    Args:
        frame: A periodic (or already non-periodic) frame.
        molecule_of_atom: Index of the molecule that each atom belongs to, shape (N,).
        bonds: Bonded pairs, shape (n_bonds, 2).
        count: Number of molecules of the cluster.
        charge: Charge of a cluster of equal molecules, e.
        unpaired_electrons: Unpaired electrons of a cluster of equal molecules.
        electrons: Charge and spin of the molecules of a mixture; the cluster is then completed with ions.
        centre: The point in Å, shape (3,); by default the centre of the cell, or the centre of mass without a cell.

    Returns:
        The non-periodic cluster, with the molecules in their order in the frame and positions relative to the point;
        and the atoms' indices in the frame, shape (n,).

    Raises:
        ValueError: If there are fewer molecules than `count`.
    """
    labels = np.unique(molecule_of_atom)
    if len(labels) < count:
        raise ValueError(f"cannot cut {count} molecules from a frame that has {len(labels)}")
    masses = atomic_masses(frame.numbers)
    if centre is None:
        centre = (
            0.5 * frame.cell.sum(axis=0) if frame.is_periodic else np.average(frame.positions, axis=0, weights=masses)
        )
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


def surrounded(frame: Frame, cluster: Frame, atoms: IntArray, *, cutoff_ang: float) -> BoolArray:
    """Which atoms of a cluster have all neighbours, up to a cut-off, that they have in the box.

    Every distance within a cluster is also a distance in the box. So it suffices to compare the numbers of neighbours,
    in which the images of an atom count as different neighbours.

    Args:
        frame: The box.
        cluster: The cluster that was cut from it (`nearest_molecules`), of n atoms.
        atoms: Indices of the cluster's atoms in the box, shape (n,).
        cutoff_ang: The cut-off in Å.

    Returns:
        Whether each atom of the cluster is surrounded, shape (n,).
    """
    in_box = _neighbours(frame, cutoff_ang)[atoms]
    complete: BoolArray = _neighbours(cluster, cutoff_ang + _ROUNDING_ANG) >= in_box
    return complete


def _neighbours(frame: Frame, cutoff_ang: float) -> IntArray:
    """Number of neighbours of each of N atoms within a cut-off, images included, shape (N,)."""
    first, second, _ = pairs_within(frame, cutoff_ang)
    return np.bincount(np.concatenate([first, second]), minlength=len(frame))


def central_molecule(cluster: Frame, molecules: int) -> BoolArray | None:
    """Find the molecule around which a cluster of equal molecules was cut: its centre of mass is the origin.

    Args:
        cluster: A frame of n atoms, molecule after molecule.
        molecules: Number of molecules of a cluster.

    Returns:
        Whether each atom belongs to that molecule, shape (n,); None if no molecule is there, so that the frame was not
        cut around a molecule.
    """
    size, rest = divmod(len(cluster), molecules)
    if rest or cluster.is_periodic:
        return None
    positions = cluster.positions.reshape(molecules, size, 3)
    masses = atomic_masses(cluster.numbers).reshape(molecules, size, 1)
    distances = np.linalg.norm((masses * positions).sum(axis=1) / masses.sum(axis=1), axis=1)
    nearest = int(np.argmin(distances))
    return np.arange(len(cluster)) // size == nearest if distances[nearest] < _ROUNDING_ANG else None
