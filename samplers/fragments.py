"""Frames that have come apart."""

from collections.abc import Sequence

import numpy as np

from al_engine.frames import FloatArray, Frame
from samplers.explosion import Bonds
from samplers.periodic import nearest_image


def longest_bonds(frames: Sequence[Frame], bonds: Bonds) -> FloatArray:
    """How many times its equilibrium length the most stretched bond of each frame is.

    Args:
        frames: F frames of the system that the bonds are of.
        bonds: The bonds; in periodic frames they lead to the nearest image.

    Returns:
        Shape (F,); 0 where there are no bonds.
    """
    if not len(bonds.pairs):
        return np.zeros(len(frames))
    i, j = bonds.pairs.T
    stretch = np.empty(len(frames))
    for index, frame in enumerate(frames):
        vectors = nearest_image(frame.positions[i] - frame.positions[j], frame.cell, frame.pbc)
        stretch[index] = (np.linalg.norm(vectors, axis=1) / bonds.lengths).max()
    return stretch
