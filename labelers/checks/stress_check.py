"""Comparison of a labeler's stress with finite differences of its energies along a strain."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from al_engine.structures.frames import FloatArray, Frame, LabelledFrame
from labelers.checks.force_check import Energies

STEP = 2e-3
"""Smallest strain of the finite differences."""
MULTIPLES = (-2, -1, 1, 2)
"""Strains in units of the smallest strain."""
WEIGHTS = (1 / 12, -8 / 12, 8 / 12, -1 / 12)
"""Weights of the energies at `MULTIPLES` in the derivative, of fourth order in the step."""
TOLERANCE_EV_PER_ANG3 = 6.2e-4
"""Allowed disagreement along a strain of norm 1, eV/Å³: 0.1 GPa."""
RELATIVE = 0.02
"""Allowed disagreement as a fraction of the stress, in addition."""


def stress_disagreement(item: LabelledFrame, energies: Energies) -> tuple[float, float] | None:
    """The stress of a label along a random strain, and how far the finite difference of the energy is from it.

    Args:
        item: A label with a stress.
        energies: Computes energies by the method of the label.

    Returns:
        The component of the stress along a symmetric strain of norm 1, and its disagreement, both in eV/Å³; None if an
        energy is missing or the label has no stress.
    """
    if item.stress is None:
        return None
    strain = _strain(item)
    found = energies(_strained(item.frame, strain))
    if any(energy is None for energy in found):
        return None
    slope = sum(weight * float(energy) for weight, energy in zip(WEIGHTS, found, strict=True) if energy is not None)
    volume = abs(float(np.linalg.det(item.frame.cell)))
    component = float(np.sum(item.stress * strain))
    return component, slope / STEP / volume - component


def is_wrong(component: float, disagreement: float) -> bool:
    """Whether a stress is not the derivative of the energies; both in eV/Å³ (`stress_disagreement`)."""
    return abs(disagreement) > TOLERANCE_EV_PER_ANG3 + RELATIVE * abs(component)


def _strain(item: LabelledFrame) -> FloatArray:
    """A random symmetric strain of norm 1, which depends only on the frame."""
    values = np.random.default_rng(int(item.frame.content_hash()[16:32], 16)).standard_normal((3, 3))
    strain: FloatArray = values + values.T
    return strain / np.linalg.norm(strain)


def _strained(frame: Frame, strain: FloatArray) -> Sequence[Frame]:
    """The frame, with its cell, along multiples of the strain."""
    changes = [np.eye(3) + multiple * STEP * strain for multiple in MULTIPLES]
    return [replace(frame, positions=frame.positions @ change, cell=frame.cell @ change) for change in changes]
