"""A user's own frames as the system's: its molecules found by their bonds, put in its order, cut from larger boxes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.frames import Frame, IntArray
from samplers.crop import nearest_molecules
from samplers.molecules import Molecule, bonds_from_radii
from samplers.periodic import made_whole
from samplers.system import System, tiled_bonds

HOT_BOND_FACTOR = 1.25
"""Bonds are told by 1.25 times the sum of covalent radii: at 900 K they are longer than a relaxed structure's."""


def in_system_order(frames: Sequence[Frame], system: System, source: str) -> list[Frame]:
    """Frames of a trajectory with their atoms in the order of the system's.

    Molecules are found by their bonds in the first frame that shows them all, and are taken to be the same atoms in
    every frame of the same elements. Periodic ones are made whole. If the system is a cluster, its molecules are cut
    out of periodic frames, those nearest the centre of the cell, as they are cut from an annealed box. Frames that are
    not made of the system's molecules alone stay as they are.

    Args:
        frames: The trajectory.
        system: The system.
        source: How to name the trajectory in a message.

    Raises:
        InputError: If the system is a cluster and a frame is periodic, but has not as many of the system's molecules.
    """
    found: dict[bytes, IntArray] = {}
    for frame in frames:
        kind = frame.numbers.tobytes()
        if kind not in found:
            order = molecules_in(frame, system.molecule)
            if order is not None:
                found[kind] = order
    ordered = []
    for index, frame in enumerate(frames):
        order = found.get(frame.numbers.tobytes())
        molecules = 0 if order is None else len(order)
        if frame.is_periodic and not system.frame.is_periodic and molecules < system.n_molecules:
            raise InputError(
                f"{source}, frame {index} is periodic and holds {molecules} molecules like {system.molecule.source}, "
                f"told by their bonds; a cluster of {system.n_molecules} cannot be cut from it"
            )
        ordered.append(frame if order is None else _ordered(frame, order, system))
    return ordered


def molecules_in(frame: Frame, molecule: Molecule) -> IntArray | None:
    """Where a frame holds copies of a molecule, by elements and bonds; bond orders and shapes are not looked at.

    Args:
        frame: The frame.
        molecule: The molecule, in one covalent piece.

    Returns:
        Atom indices in the order of the molecule's own, one row per copy in order of first atoms, shape (k, n); None
        if the frame is not made of such copies alone.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_atoms, size = len(frame), len(molecule)
    if n_atoms % size:
        return None
    bonds = bonds_from_radii(frame.numbers, frame.positions, frame.cell, frame.pbc, factor=HOT_BOND_FACTOR)
    links = coo_array((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms))
    count, owner = connected_components(links, directed=False)
    if count * size != n_atoms or (np.bincount(owner) != size).any():
        return None
    template = _graph(molecule.numbers, molecule.bonds)
    rows = []
    for copy in range(count):
        atoms = np.flatnonzero(owner == copy)
        inside = np.searchsorted(atoms, bonds[owner[bonds[:, 0]] == copy])
        if len(inside) != len(molecule.bonds):
            return None
        match = _graph(frame.numbers[atoms], inside).GetSubstructMatch(template)
        if len(match) != size:
            return None
        rows.append(atoms[list(match)])
    return np.array(sorted(rows, key=lambda row: row.min()), dtype=np.int64)


def _graph(numbers: IntArray, bonds: IntArray) -> Any:
    """Elements and bonds as an RDKit molecule of single bonds, to be matched, not to be chemistry."""
    from rdkit import Chem

    graph = Chem.RWMol()
    for number in numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)  # noqa: FBT003 -- RDKit's signature
        graph.AddAtom(atom)
    for i, j in bonds.tolist():
        graph.AddBond(i, j, Chem.BondType.SINGLE)
    Chem.FastFindRings(graph)
    return graph


def _ordered(frame: Frame, order: IntArray, system: System) -> Frame:
    copies = len(order)
    atoms, bonds = order.ravel(), tiled_bonds(system.molecule, copies)
    frame = replace(frame, numbers=frame.numbers[atoms], positions=frame.positions[atoms])
    if not frame.is_periodic:
        return frame
    if system.frame.is_periodic:
        return frame.with_positions(made_whole(frame.positions, bonds, frame.cell, frame.pbc))
    owner = np.repeat(np.arange(copies), len(system.molecule))
    charge, unpaired = system.frame.charge, system.frame.unpaired_electrons
    return nearest_molecules(frame, owner, bonds, system.n_molecules, charge=charge, unpaired_electrons=unpaired)[0]
