"""Structures and trajectories from files, checked before anything is computed with them."""

from pathlib import Path
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.frames import Frame

FARTHEST_ANG = 1e5
"""A frame reaches no farther: neighbour searches fail at extents that no system has."""
XYZ = (".xyz", ".extxyz")
LONGEST_COUNT = 18
"""Digits of a number of atoms."""


def read_frames(path: Path) -> list[Frame]:
    """All frames of a file in any format ASE reads; charge and unpaired_electrons from each frame's `info`, else 0.

    Raises:
        InputError: Naming the file (and frame), if it is missing, empty, unreadable, or has atoms on top of nothing:
            positions that are not finite, or no atoms.
    """
    images = _images(path)
    if not images:
        raise InputError(f"{path} holds no structure")
    return [
        _frame(atoms, f"{path}, frame {index}" if len(images) > 1 else str(path)) for index, atoms in enumerate(images)
    ]


def _images(path: Path) -> list[Any]:
    import ase.io

    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path} is not a file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    if path.suffix in XYZ:
        _refuse_claims(path)
    try:
        images: list[Any] = ase.io.read(path, index=":")
    except Exception as error:  # ASE's readers raise whatever their parser stumbles over
        reason = str(error).strip().splitlines()
        detail = f": {reason[0]}" if reason else ""
        raise InputError(f"{path}: ASE can't read it ({type(error).__name__}{detail})") from error
    return images


def _refuse_claims(path: Path) -> None:
    """Refuse an XYZ file that says it has more atoms than bytes: ASE would look for them all, one by one."""
    size = path.stat().st_size
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if text.isdecimal() and (len(text) > LONGEST_COUNT or int(text) > size):
                raise InputError(f"{path}, line {number}: {text[:LONGEST_COUNT]} atoms cannot be in {size} bytes")


def _frame(atoms: Any, where: str) -> Frame:
    if len(atoms) == 0:
        raise InputError(f"{where} has no atoms")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise InputError(f"{where} has positions or a cell that are not finite numbers")
    farthest = np.abs(atoms.positions).max()
    if farthest > FARTHEST_ANG:
        raise InputError(f"{where} has atoms {farthest:.3g} Å from the origin; are they in Å?")
    if atoms.pbc.any() and atoms.cell.rank < 3:  # noqa: PLR2004 -- three dimensions
        raise InputError(f"{where} is periodic but has no full cell")
    try:
        return Frame.from_atoms(atoms)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: charge and unpaired_electrons must be whole numbers ({error})") from error
