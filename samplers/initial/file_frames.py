"""Frames from the user's file, with atoms in the system's order.

Molecules are found by their bonds. If the system is a cluster, clusters are cut from the file's boxes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.bonds import BondGraph, bond_lengths, fragment_of_atom, made_whole, shortest_bonds
from al_engine.structures.clusters import gathered, nearest_molecules
from al_engine.structures.frames import Frame, IntArray
from samplers.building.bonds_by_distance import bonds_from_radii
from samplers.building.molecules import Molecule, check_elements
from samplers.building.system import System, tiled_bonds
from samplers.reading.stated_charge import Stated
from samplers.reading.structure_files import read_structures, unused_in

HOT_BOND_FACTOR = 1.25
"""Largest length of a bond in units of the length of a single bond: bonds are longer at 900 K than at rest."""
WRONG_UNIT_FACTOR = 1.6
"""Length of the least stretched bond, in units of its length in the system, above which positions are not in Å.

Positions in bohr give 1.89.
"""
STRETCHED = 2.0
"""Length of a bond, in units of its length in the molecule, above which a frame may have another order of atoms."""


@dataclass(frozen=True, slots=True, eq=False)
class FileFrames:
    """The frames of a file, and notes for the user on how they were read, each a sentence."""

    frames: tuple[Frame, ...]
    notes: tuple[str, ...]


def frames_of_file(
    path: Path, system: System, labelled: System, *, elements: Mapping[str, str] | None = None
) -> FileFrames:
    """Read all frames of a file in the system's order of atoms.

    Frames of the system, or of the clusters that are labelled, get their charge and spin. Frames of other atoms keep
    the charge and spin that the file states.

    Args:
        path: The file.
        system: The system.
        labelled: The system that is labelled: `system`, or a cluster cut from it.
        elements: Elements by the file's names or types of atoms.

    Raises:
        InputError: If the file is unusable, or a frame states another charge or spin than the system has, is in another
            unit of length, or has no possible spin.
    """
    structures = read_structures(path, elements=elements)
    ordered = in_system_order([structure.frame for structure in structures], system, str(path))
    frames = []
    for structure, frame in zip(structures, ordered, strict=True):
        if len(structure.frame) == len(frame):
            frames.append(_of_system(frame, structure.stated, (system, labelled), structure.where))
        else:
            _refuse_other_charge(structure.frame, structure.stated, system.molecule, structure.where)
            frames.append(frame)
    unused = unused_in(structures)
    notes = (
        f"{path}: its {', '.join(unused)} {'is' if len(unused) == 1 else 'are'} not used; frames are labelled anew",
    )
    return FileFrames(tuple(frames), notes if unused else ())


def _of_system(frame: Frame, stated: Stated, systems: Sequence[System], where: str) -> Frame:
    """The frame with charge and spin of the first system that has the same atoms, else with its own."""
    check_elements(frame.numbers, where)
    for system in systems:
        if np.array_equal(np.sort(frame.numbers), np.sort(system.frame.numbers)):
            in_file, wanted = stated.charge, system.frame.charge
            if in_file is not None and in_file != wanted:
                raise _other_electrons(f"{where} states charge {in_file:+d}, the system has {wanted:+d}")
            in_file, wanted = stated.unpaired_electrons, system.frame.unpaired_electrons
            if in_file is not None and in_file != wanted:
                raise _other_electrons(
                    f"{where} states {in_file} unpaired electrons (multiplicity {in_file + 1}), the system has {wanted}"
                )
            if np.array_equal(frame.numbers, system.frame.numbers):
                _refuse_other_unit(frame, system, where)
            return replace(frame, charge=system.frame.charge, unpaired_electrons=system.frame.unpaired_electrons)
    _refuse_unstated_electrons(stated, systems, where)
    if (frame.n_electrons - frame.unpaired_electrons) % 2:
        raise InputError(
            f"{where} has other atoms than the system, and of its {frame.n_electrons} electrons "
            f"{frame.unpaired_electrons} can't be unpaired; write charge and unpaired_electrons into the frame's info"
        )
    return frame


def _refuse_unstated_electrons(stated: Stated, systems: Sequence[System], where: str) -> None:
    """Refuse a frame of other atoms than the systems' if its charge or its spin can't be known.

    Raises:
        InputError: If the systems have ions or unpaired electrons, and the frame does not state its charge or spin.
    """
    if stated.charge is None and any(system.has_ions for system in systems):
        raise InputError(
            f"{where} has other atoms than the system, which has ions, and states no charge; write the charge into the "
            "frame's info"
        )
    if stated.unpaired_electrons is None and any(system.has_open_shells for system in systems):
        raise InputError(
            f"{where} has other atoms than the system, which has unpaired electrons, and does not state its own; write "
            "unpaired_electrons into the frame's info"
        )


def _other_electrons(difference: str) -> InputError:
    return InputError(
        f"{difference}; a campaign has a single charge and spin, because its models do not see them: remove such "
        "frames, or set system.charge and system.unpaired_electrons"
    )


def _refuse_other_charge(frame: Frame, stated: Stated, molecule: Molecule, where: str) -> None:
    """Refuse a box from which clusters are cut if it states another charge than its molecules have."""
    expected = len(frame) // len(molecule) * molecule.charge
    if stated.charge is not None and stated.charge != expected:
        raise InputError(
            f"{where} states charge {stated.charge:+d}, but its {len(frame) // len(molecule)} molecules of charge "
            f"{molecule.charge:+d} have {expected:+d} together; correct the file's charge, or set system.charge"
        )


def _refuse_other_unit(frame: Frame, system: System, where: str) -> None:
    """Refuse a frame in which even the least stretched bond is too long for positions in Å."""
    if not len(system.bonds.pairs):
        return
    least = float(shortest_bonds([frame], system.bonds)[0])
    if least > WRONG_UNIT_FACTOR:
        raise InputError(
            f"{where}: every bond is at least {least:.2f} times as long as in the system; positions must be in Å (are "
            "they in bohr?)"
        )


def in_system_order(frames: Sequence[Frame], system: System, source: str) -> list[Frame]:
    """Put the atoms of frames in the order of the system's atoms.

    Molecules are found by their bonds in the first frame that shows them all, and are taken to be the same atoms in
    every frame of the same elements. A frame in which this would stretch a bond to more than `STRETCHED` times its
    length has another order of atoms, if it shows molecules itself. Molecules that a periodic boundary cuts are made
    whole. Frames that have atoms beside the system's molecules are returned unchanged.

    If the system is a cluster, a periodic frame of its molecules alone is the cluster in a cell: its molecules are
    brought to the images nearest each other. From a frame with more molecules, those nearest the centre of the cell are
    cut, as from an annealed box.

    Args:
        frames: The trajectory.
        system: The system.
        source: Name of the trajectory in messages.

    Raises:
        InputError: If the system is a cluster and a periodic frame has fewer molecules than the cluster.
    """
    found: dict[bytes, IntArray] = {}
    for frame in frames:
        kind = frame.numbers.tobytes()
        if kind not in found:
            order = molecules_in(frame, system.molecule, system.n_molecules)
            if order is not None:
                found[kind] = order
    ordered = []
    for index, frame in enumerate(frames):
        order = found.get(frame.numbers.tobytes())
        molecules = 0 if order is None else len(order)
        if frame.is_periodic and not system.frame.is_periodic and molecules < system.n_molecules:
            if system.several_fragments:
                raise InputError(
                    f"{source}, frame {index} ({_formula(frame)}) is periodic, and its bonds give other molecules than "
                    f"{system.molecule.source}. Clusters of a mixture are not cut from boxes of a file: remove the "
                    "frame, or simulate the box (system.shape: box) and cut clusters from it (selection.cut_molecules)"
                )
            raise InputError(
                f"{source}, frame {index} ({_formula(frame)}) is periodic and holds {molecules} molecules of "
                f"{system.molecule.source}, as found by their bonds; a cluster of {system.n_molecules} cannot be cut "
                "from it; lower system.molecules, or remove the frame"
            )
        arranged = frame if order is None else _ordered(frame, order, system)
        if order is not None and _longest_bond(arranged, system.molecule) > STRETCHED:
            own = molecules_in(frame, system.molecule, system.n_molecules)
            if own is not None and len(own) == molecules:
                arranged = _ordered(frame, own, system)
        ordered.append(arranged)
    return ordered


def _longest_bond(frame: Frame, molecule: Molecule) -> float:
    """Largest length of a bond in units of its length in the molecule, in a frame of whole copies of the molecule."""
    if not len(molecule.bonds):
        return 0.0
    copies = len(frame) // len(molecule)
    lengths = bond_lengths(frame.positions, tiled_bonds(molecule, copies))
    return float((lengths / np.tile(bond_lengths(molecule.positions, molecule.bonds), copies)).max())


def _formula(frame: Frame) -> str:
    return str(frame.to_atoms().get_chemical_formula())


def molecules_in(frame: Frame, molecule: Molecule, copies: int = 1) -> IntArray | None:
    """Find the copies of a molecule in a frame by elements and bonds; bond orders and shapes are ignored.

    Args:
        frame: The frame.
        molecule: The molecule. If it consists of several fragments, only a frame of the system's copies is recognised:
            bonds do not say which ions belong together.
        copies: Number of copies of the system.

    Returns:
        Atom indices in the order of the molecule's atoms, a row for each of the k copies in order of their first atoms,
        shape (k, n); None if the frame has other atoms beside such copies.
    """
    n_atoms, size = len(frame), len(molecule)
    templates = _pieces(molecule.numbers, molecule.bonds)
    has_several_fragments = len(templates) > 1
    if n_atoms % size or (has_several_fragments and n_atoms != copies * size):
        return None
    bonds = bonds_from_radii(frame.numbers, frame.positions, frame.cell, frame.pbc, factor=HOT_BOND_FACTOR)
    pieces = _pieces(frame.numbers, bonds)
    if not has_several_fragments:
        rows = [_matched(piece, templates[0]) for piece in pieces]
        if any(row is None for row in rows):
            return None
        return np.array(sorted((row for row in rows if row is not None), key=lambda row: row.min()), dtype=np.int64)
    order = np.full((copies, size), -1, dtype=np.int64)
    for copy, template in product(range(copies), templates):
        for index, piece in enumerate(pieces):
            row = _matched(piece, template)
            if row is not None:
                order[copy, template.atoms] = row
                del pieces[index]
                break
        else:
            return None
    return order


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A bonded fragment: the indices of its atoms in the frame, and its elements and bonds as an RDKit graph."""

    atoms: IntArray
    n_bonds: int
    graph: Any


def _pieces(numbers: IntArray, bonds: IntArray) -> list[_Piece]:
    fragments = BondGraph(len(numbers), bonds).fragments()
    return [
        _Piece(fragment.atoms, len(fragment.pairs), _graph(numbers[fragment.atoms], fragment.pairs))
        for fragment in fragments
    ]


def _matched(piece: _Piece, template: _Piece) -> IntArray | None:
    """The piece's atoms in the order of the template's atoms; None if elements or bonds differ."""
    if len(piece.atoms) != len(template.atoms) or piece.n_bonds != template.n_bonds:
        return None
    match = piece.graph.GetSubstructMatch(template.graph)
    return piece.atoms[list(match)] if len(match) == len(piece.atoms) else None


def _graph(numbers: IntArray, bonds: IntArray) -> Any:
    """Elements and bonds as an RDKit molecule with single bonds only, to match fragments by."""
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
    """The frame with its atoms in an order, shape (k, n), as `in_system_order` describes it."""
    copies = len(order)
    atoms, bonds = order.ravel(), tiled_bonds(system.molecule, copies)
    frame = replace(frame, numbers=frame.numbers[atoms], positions=frame.positions[atoms])
    if not frame.is_periodic:
        return frame
    whole = made_whole(frame.positions, bonds, frame.cell, frame.pbc)
    if system.frame.is_periodic:
        return frame.with_positions(whole)
    if copies == system.n_molecules:  # the cluster itself, which a cell may have wrapped
        placed = gathered(whole, fragment_of_atom(len(frame), bonds), frame.cell, frame.pbc)
        return system.frame.with_positions(placed - placed.mean(axis=0))
    owner = np.repeat(np.arange(copies), len(system.molecule))
    charge, unpaired = system.frame.charge, system.frame.unpaired_electrons
    return nearest_molecules(frame, owner, bonds, system.n_molecules, charge=charge, unpaired_electrons=unpaired)[0]
