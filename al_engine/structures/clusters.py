"""Clusters cut from a periodic box, molecule by molecule."""

from dataclasses import dataclass

import numpy as np

from al_engine.structures.bonds import made_whole
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import FloatArray, Frame, IntArray
from al_engine.structures.periodic import shortest_image


@dataclass(frozen=True, slots=True, eq=False)
class ClusterCut:
    """How clusters are cut from the boxes of a system.

    Attributes:
        molecules: Number of molecules of a cluster.
        charge: Charge of a cluster, e.
        unpaired_electrons: Unpaired electrons of a cluster.
        molecule_of_atom: Index of the copy that each atom of the box belongs to (`MoleculeTable.copy_of_atom`),
            shape (N,).
        bonds: Bonded pairs of the box, shape (n_bonds, 2).
    """

    molecules: int
    charge: int
    unpaired_electrons: int
    molecule_of_atom: IntArray
    bonds: IntArray

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
            centre=np.average(whole[own], axis=0, weights=atomic_masses(frame.numbers[own])),
        )


def nearest_molecules(
    frame: Frame,
    molecule_of_atom: IntArray,
    bonds: IntArray,
    count: int,
    *,
    charge: int = 0,
    unpaired_electrons: int = 0,
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
        charge: Charge of the cluster, e.
        unpaired_electrons: Unpaired electrons of the cluster.
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
    order = np.argsort(np.linalg.norm(from_centre, axis=1), kind="stable")[:count]
    chosen = np.sort(order)
    shifted = [positions[members[m]] - centres[m] + from_centre[m] for m in chosen]
    atoms = np.concatenate([members[m] for m in chosen])
    cluster = Frame(
        numbers=frame.numbers[atoms],
        positions=np.concatenate(shifted),
        charge=charge,
        unpaired_electrons=unpaired_electrons,
    )
    return cluster, atoms
