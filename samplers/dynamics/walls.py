"""The spherical wall that keeps a cluster's molecules together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import FloatArray, Frame


@dataclass(frozen=True, slots=True)
class SphericalWall:
    """A flat-bottomed harmonic wall, U = k/2 sum_i max(0, |r_i - R_com| - radius)², about the centre of mass.

    Attributes:
        radius_ang: Radius within which no atom feels the wall, Å.
        force_constant: k in eV/Å².
    """

    radius_ang: float
    force_constant: float = 0.5


def centre_of_mass(frame: Frame) -> FloatArray:
    """Centre of mass in Å, shape (3,)."""
    centre: FloatArray = np.average(frame.positions, axis=0, weights=atomic_masses(frame.numbers))
    return centre


def extent(frame: Frame) -> float:
    """Distance of the outermost atom from the centre of mass, Å."""
    return float(np.linalg.norm(frame.positions - centre_of_mass(frame), axis=1).max())


def wall_radius(frames: Sequence[Frame], *, margin_ang: float = 1.5) -> float:
    """Radius in Å of a wall that no atom of the frames feels: the largest extent of the frames plus a margin."""
    return max(extent(frame) for frame in frames) + margin_ang
