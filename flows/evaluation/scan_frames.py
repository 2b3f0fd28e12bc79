"""The frames whose bonds are stretched: test frames of the lowest temperature, or a single molecule of each frame."""

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
    """Find the first test frames of the lowest temperature, as the campaign labels them, or a molecule of each frame.

    Args:
        ledger: The campaign.
        system_name: Name of the system; empty in a campaign of one system.
        of: `system`: the frame; `molecule`: the molecule nearest its centre.
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
    molecule = system.numbers[owner == 0]
    copies = [len(frame) // len(molecule) for frame in test]
    usable = [k for k, frame in enumerate(test) if np.array_equal(frame.numbers, np.tile(molecule, max(copies[k], 1)))]
    usable.sort(key=lambda k: np.nan_to_num(kelvins[k]))
    chosen = [k for k in usable if copies[k] == copies[usable[0]] <= owner.max() + 1][:count]
    if not chosen:
        raise InputError(
            f"{ledger.directory}: no test frame consists of the system's molecules, so its bonds are unknown"
        )

    def of_first(molecules: int) -> IntArray:
        """Indices of the bonds of the first molecules; all copies have the same bonds."""
        indices: IntArray = np.flatnonzero(owner[bonds[:, 0]] < molecules)
        return indices

    of_frame = of_first(copies[chosen[0]])
    frames = tuple(_whole(test[k], bonds[of_frame]) for k in chosen)
    if of == "system" or copies[chosen[0]] == 1:
        return ScanSubject(frames, bonds[of_frame], lengths[of_frame])
    of_molecule = of_first(1)
    single = tuple(_one_molecule(frame, owner[: len(frame)], bonds[of_frame]) for frame in frames)
    return ScanSubject(single, bonds[of_molecule], lengths[of_molecule])


def _one_molecule(frame: Frame, owner: IntArray, bonds: IntArray) -> Frame:
    molecules = int(owner.max()) + 1
    if frame.charge % molecules or frame.unpaired_electrons % molecules:
        raise InputError(
            f"--of molecule: {frame.charge:+d} e and {frame.unpaired_electrons} unpaired electrons do not divide among "
            f"{molecules} molecules; use --of system"
        )
    charge, unpaired = frame.charge // molecules, frame.unpaired_electrons // molecules
    return nearest_molecules(frame, owner, bonds, 1, charge=charge, unpaired_electrons=unpaired)[0]


def _whole(frame: Frame, bonds: IntArray) -> Frame:
    return frame.with_positions(made_whole(frame.positions, bonds, frame.cell, frame.pbc))
