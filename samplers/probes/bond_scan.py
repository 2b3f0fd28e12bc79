"""A bond stretched step by step, everything else as it was: frames on which a model can be held against labels."""

from collections.abc import Sequence

import numpy as np

from al_engine.structures.frames import FloatArray, Frame
from samplers.initial.stretch import collides, stretched_bond
from samplers.probes.bond_kinds import BondKind


def bond_scan(
    frame: Frame, kind: BondKind, equilibrium_ang: float, factors: Sequence[float] | FloatArray
) -> list[Frame | None]:
    """The frame with one bond at multiples of its equilibrium length, its smaller side moved rigidly.

    Args:
        frame: The frame; its molecules are whole.
        kind: The bond.
        equilibrium_ang: Its equilibrium length, Å.
        factors: The lengths wanted, in units of it.

    Returns:
        One frame per factor; None where the side that moves would come to lie on other atoms (`collides`).
    """
    first, second = kind.pair.tolist()
    length = float(np.linalg.norm(frame.positions[first] - frame.positions[second]))
    scanned: list[Frame | None] = []
    for factor in factors:
        moved = stretched_bond(frame, kind.pair, kind.moving, float(factor) * equilibrium_ang / length)
        scanned.append(None if collides(frame, moved, kind.pair, kind.moving) else moved)
    return scanned
