"""Comparison of a labeler's forces with finite differences of its energies, to find wrong forces.

The test errors of a model cannot show wrong forces, because the test set has the same wrong forces as the training set.
All atoms of a frame are displaced together along a random direction, so that a few energies test all forces. If forces
and energies disagree along a direction, a bisection over the displaced components finds the wrong force component.
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
"""Number of random directions per frame. A fault of five times the tolerance in one component is missed in 1 of 40
frames: along both directions, the component's displacement must be below 0.2 standard deviations, P = 0.16 each."""
CONFIRMING_STEPS = (1.0, 0.8, 1.25)
"""Factors on `STEP_ANG`. A fault must show with each of these steps, so that noise is not taken for a fault."""
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
        worst_ev_per_ang: Largest disagreement of forces and energies along a random direction, whose components have a
            standard deviation of 1, eV/Å; NaN if each direction lacks an energy. A disagreement that its uncertainty
            does not explain counts as larger than one that it explains.
        uncertainty_ev_per_ang: Uncertainty of the finite difference along this direction, eV/Å.
        fault: The wrong force component; None if no fault was found.
    """

    worst_ev_per_ang: float
    uncertainty_ev_per_ang: float
    fault: ForceFault | None

    @property
    def done(self) -> bool:
        """Whether the frame could be checked: all energies along a direction were computed."""
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
    probes = [_Probe(item, direction) for item in labelled for direction in _directions(item.frame)]
    slopes = _slopes(probes, energies)  # of all labels at once, so that they are computed in parallel
    checks = []
    for first in range(0, len(probes), DIRECTIONS):
        worst = max(range(first, first + DIRECTIONS), key=lambda k: slopes[k].rank(tolerance_ev_per_ang))
        probe, slope = probes[worst], slopes[worst]
        fault = None
        if slope.disagrees(tolerance_ev_per_ang):
            fault = _located_fault(probe, energies, tolerance_ev_per_ang=tolerance_ev_per_ang)
        checks.append(ForceCheck(abs(slope.excess), slope.uncertainty, fault))
    return checks


def _directions(frame: Frame) -> FloatArray:
    """Random directions of a frame, shape (DIRECTIONS, N, 3), seeded by its content hash."""
    rng = np.random.default_rng(int(frame.content_hash()[:16], 16))
    return rng.standard_normal((DIRECTIONS, len(frame), 3))


@dataclass(frozen=True, slots=True)
class _Probe:
    """A label whose atoms are displaced along a direction.

    Attributes:
        labelled: The label.
        direction: Displacements of the atoms in units of `step`, shape (N, 3).
        step: The smallest displacement, Å.
    """

    labelled: LabelledFrame
    direction: FloatArray
    step: float = STEP_ANG

    def frames(self) -> list[Frame]:
        """The displaced frames, in the order of `MULTIPLES`."""
        frame = self.labelled.frame
        return [frame.with_positions(frame.positions + k * self.step * self.direction) for k in MULTIPLES]

    def halves(self) -> tuple["_Probe", "_Probe"]:
        """Split the probe into two: each displaces one half of the components and leaves the other half at rest."""
        displaced = np.flatnonzero(self.direction)
        first, second = self.direction.copy(), self.direction.copy()
        middle = len(displaced) // 2
        first.flat[displaced[middle:]] = 0.0
        second.flat[displaced[:middle]] = 0.0
        return _Probe(self.labelled, first), _Probe(self.labelled, second)


@dataclass(frozen=True, slots=True)
class _Slope:
    """Minus the derivative of the energy along a direction, eV/Å.

    Attributes:
        difference: The value from finite differences of the energy.
        uncertainty: Uncertainty of `difference`.
        by_forces: The value from the forces of the label.
    """

    difference: float
    uncertainty: float
    by_forces: float

    @property
    def excess(self) -> float:
        """The value from finite differences minus the value from forces, eV/Å."""
        return self.difference - self.by_forces

    def disagrees(self, tolerance: float) -> bool:
        """Whether the values differ by more than a tolerance plus `UNCERTAINTIES` times the uncertainty.

        False if an energy is missing.
        """
        return abs(self.excess) > tolerance + UNCERTAINTIES * self.uncertainty

    def rank(self, tolerance: float) -> tuple[bool, float]:
        """Sort key of directions: disagreements first, then the larger excess; missing energies come last."""
        return self.disagrees(tolerance), -1.0 if np.isnan(self.excess) else abs(self.excess)


def _slopes(probes: Sequence[_Probe], energies: Energies) -> list[_Slope]:
    """The slope of each probe; NaN if one of its energies is missing."""
    found = energies([frame for probe in probes for frame in probe.frames()])
    values = np.array([np.nan if energy is None else energy for energy in found]).reshape(len(probes), -1)
    return [_slope(probe, row) for probe, row in zip(probes, values, strict=True)]


def _slope(probe: _Probe, energies: FloatArray) -> _Slope:
    """The slope of a probe by finite differences with Richardson extrapolation, and by the forces of the label.

    With the central differences c(h) at steps h and c(2h) at steps 2h, the extrapolation (4 c(h) - c(2h)) / 3 has an
    error of fourth order in h (Richardson, Phil. Trans. R. Soc. A 210, 307 (1911)). The uncertainty is the difference
    between this extrapolation and the extrapolation from steps twice as large.

    Args:
        probe: The probe.
        energies: Energies in eV of the displaced frames in the order of `MULTIPLES`, shape (6,).
    """
    energy_at = dict(zip(MULTIPLES, energies.tolist(), strict=True))
    central = {k: -(energy_at[k] - energy_at[-k]) / (2 * k * probe.step) for k in (1, 2, 4)}
    fine, coarse = ((4 * central[k] - central[2 * k]) / 3 for k in (1, 2))
    return _Slope(fine, abs(fine - coarse), float((probe.labelled.forces * probe.direction).sum()))


def _located_fault(probe: _Probe, energies: Energies, *, tolerance_ev_per_ang: float) -> ForceFault | None:
    """Find the wrong force component that makes forces and energies disagree along a direction, by bisection.

    Returns:
        The component; None if an energy is missing, or if a displacement of this component alone does not show the
        disagreement with each of `CONFIRMING_STEPS`, because the disagreement is noise spread over many components.
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
