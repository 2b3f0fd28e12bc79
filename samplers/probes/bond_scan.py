"""Scan of a bond: frames that differ in the length of a single bond, on which a model is compared with labels."""

from collections.abc import Sequence

import numpy as np

from al_engine.structures.frames import FloatArray, Frame
from samplers.initial.stretch import collides, stretched_bond
from samplers.probes.bond_kinds import BondKind


def bond_scan(
    frame: Frame, kind: BondKind, equilibrium_ang: float, factors: Sequence[float] | FloatArray
) -> list[Frame | None]:
    """Set a bond of a frame to multiples of its equilibrium length; the smaller side of the bond is moved rigidly.

    Args:
        frame: The frame; its molecules are whole.
        kind: The kind of the bond, whose first bond (`pair`) is set.
        equilibrium_ang: Equilibrium length of the bond, Å.
        factors: The wanted lengths in units of the equilibrium length.

    Returns:
        A frame for every factor; None where moved atoms would lie on top of other atoms (`collides`).
    """
    first, second = kind.pair.tolist()
    length = float(np.linalg.norm(frame.positions[first] - frame.positions[second]))
    scanned: list[Frame | None] = []
    for factor in factors:
        moved = stretched_bond(frame, kind.pair, kind.moving, float(factor) * equilibrium_ang / length)
        scanned.append(None if collides(frame, moved, kind.pair, kind.moving) else moved)
    return scanned
