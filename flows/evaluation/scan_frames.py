"""Which frames bonds are stretched in: test frames of the lowest temperature, whole, or one molecule of each."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from al_engine.errors import InputError
from al_engine.frame_io import read_frames
from al_engine.frames import FloatArray, Frame, IntArray
from al_engine.ledger import Ledger
from al_engine.parts import open_part
from flows import names
from samplers.crop import nearest_molecules
from samplers.periodic import made_whole

Of = Literal["system", "molecule"]


@dataclass(frozen=True, slots=True, eq=False)
class ScanSubject:
    """Frames of one set of atoms, whose molecules are whole.

    Attributes:
        frames: The frames.
        bonds: Bonded pairs, shape (n_bonds, 2).
        lengths: Their equilibrium lengths in Å, shape (n_bonds,).
    """

    frames: tuple[Frame, ...]
    bonds: IntArray
    lengths: FloatArray


def scan_subject(ledger: Ledger, *, of: Of, count: int) -> ScanSubject:
    """The first test frames of the lowest temperature, as the campaign labels them, or one molecule of each.

    Args:
        ledger: The campaign.
        of: `system`: the frame, or the cluster that is cut from it where the campaign labels those; `molecule`: the
            molecule nearest its centre.
        count: How many frames, at most.

    Raises:
        InputError: If there is no frame of the system's own atoms, or charge and unpaired electrons do not divide.
    """
    config = ledger.config
    with open_part(ledger.part_path(names.INITIAL_FRAMES)) as root:
        system = read_frames(root["system"])[0]
        test, kelvins = read_frames(root["test"]), root["test/temperature_kelvin"][()]
        bonds, lengths, owner = (root[name][()] for name in ("bonds", "bond_lengths", "molecule_of_atom"))
    own = [k for k, frame in enumerate(test) if np.array_equal(frame.numbers, system.numbers)]
    chosen = sorted(own, key=lambda k: np.nan_to_num(kelvins[k]))[:count]
    if not chosen:
        raise InputError(f"{ledger.directory}: no test frame has the atoms of the system, whose bonds are known")
    molecules = 1 if of == "molecule" else config.selection.cut_molecules or config.system.molecules
    if molecules == config.system.molecules:
        frames = tuple(_whole(test[k], bonds) for k in chosen)
        return ScanSubject(frames, bonds, lengths)
    share = molecules / config.system.molecules
    charge, unpaired = system.charge * share, system.unpaired_electrons * share
    if not (charge.is_integer() and unpaired.is_integer()):
        raise InputError(
            f"--of molecule: {system.charge:+d} e and {system.unpaired_electrons} unpaired electrons of the system do "
            "not divide among its molecules; use --of system"
        )
    cut = [
        nearest_molecules(test[k], owner, bonds, molecules, charge=int(charge), unpaired_electrons=int(unpaired))[0]
        for k in chosen
    ]
    first = np.isin(bonds[:, 0], np.flatnonzero(owner < molecules))  # all copies have the same bonds
    return ScanSubject(tuple(cut), bonds[first], lengths[first])


def _whole(frame: Frame, bonds: IntArray) -> Frame:
    return frame.with_positions(made_whole(frame.positions, bonds, frame.cell, frame.pbc))
