"""Frames of pairs of rigid molecules along their separation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.structures.frames import FloatArray, Frame, IntArray

_ALONG = np.array([1.0, 0.0, 0.0])
CONTACT_ANG = 2.9
"""Distance of the closest atoms at contact: twice the van der Waals radius of fluorine (Alvarez 2013: 1.46 Å)."""
SHIFTS_ANG = (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0)
"""Separations beyond contact; the energies of a curve are relative to the last."""


@dataclass(frozen=True, slots=True, eq=False)
class Conformers:
    """Rigid conformers of a molecule.

    Attributes:
        numbers: Atomic numbers, shape (n,).
        positions: Positions of C conformers in Å, shape (C, n, 3).
    """

    numbers: IntArray
    positions: FloatArray


def pair_curves(
    first: Conformers, second: Conformers, *, rng: np.random.Generator, shifts: Sequence[float] = SHIFTS_ANG
) -> tuple[list[Frame], FloatArray, FloatArray]:
    """Curves of C pairs of conformers, which are rotated at random and moved apart along x.

    Args:
        first: The conformers that stay.
        second: The conformers that move.
        rng: Draws the orientations.
        shifts: Separations beyond contact in Å.

    Returns:
        The F frames in order of the curves; the curve of each frame, shape (F,); its separation beyond contact in Å,
        shape (F,).
    """
    frames, curve, shift = [], [], []
    numbers = np.concatenate([first.numbers, second.numbers])
    for k in range(len(first.positions)):
        still, moved = (turned(x - x.mean(0), rng) for x in (first.positions[k], second.positions[k]))
        moved[:, 0] += contact_separation(still, moved)
        for s in shifts:
            frames.append(Frame(numbers=numbers, positions=np.concatenate([still, moved + s * _ALONG])))
            curve.append(float(k))
            shift.append(s)
    return frames, np.array(curve), np.array(shift)


def contact_separation(first: FloatArray, second: FloatArray) -> float:
    """Shift of the second body (m, 3) along x, in Å, at which it touches the first body (n, 3), coming from far away.

    This is the largest shift at which the closest pair of atoms is `CONTACT_ANG` apart. A pair of atoms at a distance y
    perpendicular to x is in contact at dx = sqrt(contact² - y²); the largest shift over all pairs is that of the
    bodies. It is 0 if the bodies pass each other without contact.
    """
    apart = first[:, None] - second[None]  # (n, m, 3)
    across = CONTACT_ANG**2 - apart[..., 1] ** 2 - apart[..., 2] ** 2
    if not (across > 0).any():
        return 0.0  # they pass each other
    return float((apart[..., 0] + np.sqrt(np.maximum(across, 0.0)))[across > 0].max())


def turned(positions: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Positions (n, 3) after a rotation drawn uniformly (a random unit quaternion)."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    result: FloatArray = positions @ rotation.T
    return result
