"""Comparison of a labeler's forces with finite differences of its energies, to find forces that are not the gradient.

A model's test errors cannot show such a fault, because the test set has the same wrong forces as the training set. All
atoms of a frame are displaced at once along random directions, so that a few energies test all forces. If forces and
energies disagree along a direction, a bisection over the displaced components finds the wrong force component.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.structures.frames import FloatArray, Frame, LabelledFrame

Energies = Callable[[Sequence[Frame]], Sequence[float | None]]
"""A function that gives the energies of frames in eV; None for a frame without an energy."""

STEP_ANG = 0.005
"""Standard deviation of the smallest displacement of a Cartesian coordinate, Å."""
MULTIPLES = (-4, -2, -1, 1, 2, 4)
"""Displacements in units of the smallest displacement."""
DIRECTIONS = 2
"""Random directions per frame. A fault of five times the tolerance is missed in 1 of 40 frames."""
CONFIRMING_STEPS = (1.0, 0.8, 1.25)
"""Factors on `STEP_ANG`. A fault must show with each of them; noise does not."""
RELATIVE = 0.01
"""Allowed error of a force component as a fraction of the component, in addition to the tolerance."""
UNCERTAINTIES = 4.0
"""Allowed disagreement in units of the finite difference's uncertainty, in addition to the tolerance."""


@dataclass(frozen=True, slots=True)
class ForceFault:
    """A force component that is not the derivative of the energy.

    Attributes:
        atom: Index of the atom in its frame.
        axis: 0, 1 or 2 for x, y or z.
        force_ev_per_ang: The component in the label, eV/Å.
        difference_ev_per_ang: The component from finite differences of the energy, eV/Å.
    """

    atom: int
    axis: int
    force_ev_per_ang: float
    difference_ev_per_ang: float


@dataclass(frozen=True, slots=True)
class ForceCheck:
    """Result of the check of a frame.

    Attributes:
        worst_ev_per_ang: Largest disagreement along a random direction, eV/Å; NaN if energies are missing. Components
            of a direction have a standard deviation of 1.
        uncertainty_ev_per_ang: Uncertainty of the finite difference along that direction, from two step sizes, eV/Å.
        fault: The wrong force component, or None.
    """

    worst_ev_per_ang: float
    uncertainty_ev_per_ang: float
    fault: ForceFault | None

    @property
    def done(self) -> bool:
        """Whether the frame could be checked: a direction had all its energies."""
        return bool(np.isfinite(self.worst_ev_per_ang))


def check_forces(
    labelled: Sequence[LabelledFrame], energies: Energies, *, tolerance_ev_per_ang: float
) -> list[ForceCheck]:
    """Compare the forces of labels with finite differences of the energies of the same method.

    Args:
        labelled: The labels.
        energies: Function that computes energies by the method of the labels.
        tolerance_ev_per_ang: Allowed disagreement of a force component, in addition to 1 % of the component, eV/Å.

    Returns:
        The result of each label. The random directions depend only on the frames.
    """
    directions = [
        np.random.default_rng(int(item.frame.content_hash()[:16], 16)).standard_normal((DIRECTIONS, len(item), 3))
        for item in labelled
    ]
    probes = [
        _Probe(item, direction) for item, of_item in zip(labelled, directions, strict=True) for direction in of_item
    ]
    pairs = list(zip(probes, _slopes(probes, energies), strict=True))
    checks = []
    for first in range(0, len(pairs), DIRECTIONS):
        probe, slope = max(
            pairs[first : first + DIRECTIONS], key=lambda pair: np.nan_to_num(abs(pair[1].excess), nan=-1)
        )
        fault = None
        if slope.disagrees(tolerance_ev_per_ang):
            fault = _located_fault(probe, energies, tolerance_ev_per_ang=tolerance_ev_per_ang)
        checks.append(ForceCheck(abs(slope.excess), slope.uncertainty, fault))
    return checks


@dataclass(frozen=True, slots=True)
class _Probe:
    """A label whose atoms are displaced along a direction, shape (N, 3), by multiples of `step` (Å)."""

    labelled: LabelledFrame
    direction: FloatArray
    step: float = STEP_ANG

    def frames(self) -> list[Frame]:
        frame = self.labelled.frame
        return [frame.with_positions(frame.positions + k * self.step * self.direction) for k in MULTIPLES]

    def halves(self) -> tuple["_Probe", "_Probe"]:
        """Split the probe: each part displaces half of the components, along the same direction."""
        moving = np.flatnonzero(self.direction)
        first, second = np.zeros(self.direction.size), np.zeros(self.direction.size)
        middle = len(moving) // 2
        first[moving[:middle]] = self.direction.ravel()[moving[:middle]]
        second[moving[middle:]] = self.direction.ravel()[moving[middle:]]
        shape = self.direction.shape
        return _Probe(self.labelled, first.reshape(shape)), _Probe(self.labelled, second.reshape(shape))


@dataclass(frozen=True, slots=True)
class _Slope:
    """Minus the derivative of the energy along a direction, eV/Å.

    Attributes:
        difference: From finite differences of the energy.
        uncertainty: Uncertainty of `difference`.
        by_forces: From the forces of the label.
    """

    difference: float
    uncertainty: float
    by_forces: float

    @property
    def excess(self) -> float:
        """Value from finite differences minus value from forces, eV/Å."""
        return self.difference - self.by_forces

    def disagrees(self, tolerance: float) -> bool:
        """Whether the two values differ by more than the tolerance and uncertainty; False if an energy is missing."""
        return abs(self.excess) > tolerance + UNCERTAINTIES * self.uncertainty


def _slopes(probes: Sequence[_Probe], energies: Energies) -> list[_Slope]:
    """The slope of each probe; NaN if one of its energies is missing."""
    found = energies([frame for probe in probes for frame in probe.frames()])
    values = np.array([np.nan if energy is None else energy for energy in found]).reshape(len(probes), -1)
    return [_slope(probe, row) for probe, row in zip(probes, values, strict=True)]


def _slope(probe: _Probe, energies: FloatArray) -> _Slope:
    """The slope by Richardson extrapolation of central differences at 1, 2 and 4 steps, with an error of fourth order.

    The uncertainty is the difference of the extrapolations from 1 and 2 steps and from 2 and 4 steps.

    Args:
        probe: The probe.
        energies: Energies in eV of the displaced frames in the order of `MULTIPLES`, shape (6,).
    """
    energy_at = dict(zip(MULTIPLES, energies.tolist(), strict=True))
    central = {k: -(energy_at[k] - energy_at[-k]) / (2 * k * probe.step) for k in (1, 2, 4)}
    fine, coarse = ((4 * central[k] - central[2 * k]) / 3 for k in (1, 2))
    return _Slope(fine, abs(fine - coarse), float((probe.labelled.forces * probe.direction).sum()))


def _located_fault(probe: _Probe, energies: Energies, *, tolerance_ev_per_ang: float) -> ForceFault | None:
    """Find the wrong force component behind a direction's disagreement by bisection.

    Returns:
        The component; None if an energy is missing, or if displacing only this component does not show the disagreement
        with every step. The latter happens if noise is spread over many components.
    """
    while np.count_nonzero(probe.direction) > 1:
        halves = probe.halves()
        excess = [abs(slope.excess) for slope in _slopes(halves, energies)]
        if not np.isfinite(excess).all():
            return None
        probe = halves[int(np.argmax(excess))]
    unit = np.where(probe.direction != 0.0, 1.0, 0.0)
    slopes = _slopes([_Probe(probe.labelled, unit, factor * STEP_ANG) for factor in CONFIRMING_STEPS], energies)
    if not all(slope.disagrees(tolerance_ev_per_ang + RELATIVE * abs(slope.by_forces)) for slope in slopes):
        return None
    atom, axis = divmod(int(np.flatnonzero(unit)[0]), 3)
    return ForceFault(atom, axis, slopes[0].by_forces, slopes[0].difference)
