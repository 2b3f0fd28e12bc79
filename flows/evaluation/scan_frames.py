"""The frames whose bonds are stretched: the coldest test frames, or a single molecule of each of these frames."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_frames
from al_engine.files.part_file import open_part
from al_engine.structures.bonds import made_whole
from al_engine.structures.clusters import nearest_molecules
from al_engine.structures.frames import FloatArray, Frame, IntArray

Of = Literal["system", "molecule"]
"""The structure whose bonds are stretched: the whole test frame, or one molecule of it."""


@dataclass(frozen=True, slots=True, eq=False)
class ScanSubject:
    """Frames with the same atoms, whose molecules are not split by periodic boundaries.

    Attributes:
        frames: The frames.
        bonds: Bonded pairs, shape (n_bonds, 2).
        lengths: Equilibrium lengths of the bonds in Å, shape (n_bonds,).
    """

    frames: tuple[Frame, ...]
    bonds: IntArray
    lengths: FloatArray


def scan_subject(ledger: Ledger, system_name: str = "", *, of: Of, count: int) -> ScanSubject:
    """Choose the coldest test frames of a system as subjects of bond scans.

    A test frame may be a cluster with fewer molecules than the system. The chosen frames have the number of molecules
    of the coldest frame. Frames without a known temperature count as coldest.

    Args:
        ledger: The campaign.
        system_name: Name of the system; empty in a campaign of one system.
        of: `system`: whole frames; `molecule`: of each frame, the molecule nearest its centre.
        count: Largest number of frames.

    Raises:
        InputError: If clusters are cut from a mixture, no test frame has the atoms of the system, or charge or unpaired
            electrons cannot be divided among the molecules.
    """
    with open_part(ledger.part_path(names.initial_frames(system_name))) as root:
        system = read_frames(root["system"])[0]
        test, kelvins = read_frames(root["test"]), root["test/temperature_kelvin"][()]
        bonds, lengths, owner = (root[name][()] for name in ("bonds", "bond_lengths", "molecule_of_atom"))
        if "fragments" in root:
            raise InputError(
                f"{ledger.directory}: its clusters are cut from a mixture and differ in their bonds, which bond scans "
                "do not support"
            )
    molecule_numbers = system.numbers[owner == 0]
    usable = [k for k, frame in enumerate(test) if _consists_of(frame, molecule_numbers)]
    usable.sort(key=lambda k: np.nan_to_num(kelvins[k]))
    molecules = len(test[usable[0]]) // len(molecule_numbers) if usable else 0
    chosen = [k for k in usable if len(test[k]) == molecules * len(molecule_numbers)][:count]
    if not chosen or molecules > owner.max() + 1:
        raise InputError(
            f"{ledger.directory}: no test frame consists of the system's molecules, so its bonds are unknown"
        )

    # The molecules of the system are copies, so that a frame of n molecules has the bonds of the first n.
    in_frame = owner[bonds[:, 0]] < molecules
    frames = tuple(_whole(test[k], bonds[in_frame]) for k in chosen)
    if of == "system" or molecules == 1:
        return ScanSubject(frames, bonds[in_frame], lengths[in_frame])
    in_first = owner[bonds[:, 0]] == 0
    single = tuple(_one_molecule(frame, owner[: len(frame)], bonds[in_frame]) for frame in frames)
    return ScanSubject(single, bonds[in_first], lengths[in_first])


def _consists_of(frame: Frame, molecule_numbers: IntArray) -> bool:
    """Whether a frame consists of copies of a molecule with these atomic numbers, one copy after another."""
    copies = max(len(frame) // len(molecule_numbers), 1)
    return np.array_equal(frame.numbers, np.tile(molecule_numbers, copies))


def _one_molecule(frame: Frame, owner: IntArray, bonds: IntArray) -> Frame:
    """Cut out the molecule nearest the centre of a frame, with its share of the charge and the unpaired electrons.

    Args:
        frame: A frame of equal molecules.
        owner: Index of the molecule of each atom, shape (N,).
        bonds: Bonded pairs of the frame, shape (n_bonds, 2).

    Raises:
        InputError: If charge or unpaired electrons cannot be divided among the molecules.
    """
    molecules = int(owner.max()) + 1
    if frame.charge % molecules or frame.unpaired_electrons % molecules:
        raise InputError(
            f"--of molecule: {frame.charge:+d} e and {frame.unpaired_electrons} unpaired electrons do not divide among "
            f"{molecules} molecules; use --of system"
        )
    charge, unpaired = frame.charge // molecules, frame.unpaired_electrons // molecules
    return nearest_molecules(frame, owner, bonds, 1, charge=charge, unpaired_electrons=unpaired)[0]


def _whole(frame: Frame, bonds: IntArray) -> Frame:
    """The frame with molecules that are not split by periodic boundaries."""
    return frame.with_positions(made_whole(frame.positions, bonds, frame.cell, frame.pbc))
