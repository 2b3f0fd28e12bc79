"""Forces against finite differences of the energies of the same method, to find labelers whose two answers disagree.

A model cannot show such a fault: it learns the forces, and the test set has the same ones. Frames are moved along
random directions, all atoms at once, so that a few energies test all forces of a frame; where a direction disagrees,
halving the atoms that move leads to the one component of a force that is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.structures.frames import FloatArray, Frame, LabelledFrame

Energies = Callable[[Sequence[Frame]], Sequence[float | None]]
"""Energies in eV of some frames, None where there is none."""

STEP_ANG = 0.005
"""Standard deviation of the smallest displacement of a Cartesian coordinate."""
MULTIPLES = (-4, -2, -1, 1, 2, 4)
"""Displacements in units of the smallest one."""
DIRECTIONS = 2
"""Random directions per frame. A fault five times the tolerance goes unseen in one of forty frames."""
CONFIRMING_STEPS = (1.0, 0.8, 1.25)
"""Factors on `STEP_ANG` with which a fault must show every time: noise does not."""
RELATIVE = 0.01
"""Share of a force by which it may be off besides the tolerance."""
UNCERTAINTIES = 4.0
"""A disagreement is a fault where it is so many times as large as the uncertainty of the finite difference."""


@dataclass(frozen=True, slots=True)
class ForceFault:
    """One component of a force that is not the derivative of the energy.

    Attributes:
        atom: Index of the atom in its frame.
        axis: 0, 1 or 2 for x, y or z.
        force_ev_per_ang: The label's force.
        difference_ev_per_ang: What finite differences of the energy give.
    """

    atom: int
    axis: int
    force_ev_per_ang: float
    difference_ev_per_ang: float


@dataclass(frozen=True, slots=True)
class ForceCheck:
    """What came of checking one frame.

    Attributes:
        worst_ev_per_ang: Largest disagreement along a direction whose components have a standard deviation of 1; NaN
            if energies failed.
        uncertainty_ev_per_ang: Uncertainty of the finite difference of that direction, from two step sizes.
        fault: The component that is wrong, or None.
    """

    worst_ev_per_ang: float
    uncertainty_ev_per_ang: float
    fault: ForceFault | None

    @property
    def done(self) -> bool:
        """Whether there were energies to compare with."""
        return bool(np.isfinite(self.worst_ev_per_ang))


def check_forces(
    labelled: Sequence[LabelledFrame], energies: Energies, *, tolerance_ev_per_ang: float
) -> list[ForceCheck]:
    """Compare the forces of labels with finite differences of their method's energies.

    Args:
        labelled: The labels.
        energies: Gives the energies of other frames by the same method.
        tolerance_ev_per_ang: Disagreement of a single component that is allowed, besides 1 % of it.

    Returns:
        One result per label. The directions depend on the frames alone.
    """
    directions = [
        np.random.default_rng(int(item.frame.content_hash()[:16], 16)).standard_normal((DIRECTIONS, len(item), 3))
        for item in labelled
    ]
    probes = [
        _Probe(item, direction) for item, several in zip(labelled, directions, strict=True) for direction in several
    ]
    found = list(zip(probes, _slopes(probes, energies), strict=True))
    checks = []
    for first in range(0, len(found), DIRECTIONS):
        probe, slope = max(
            found[first : first + DIRECTIONS], key=lambda pair: np.nan_to_num(abs(pair[1].excess), nan=-1)
        )
        fault = None
        if slope.disagrees(tolerance_ev_per_ang):
            fault = _located(probe, energies, tolerance_ev_per_ang=tolerance_ev_per_ang)
        checks.append(ForceCheck(abs(slope.excess), slope.uncertainty, fault))
    return checks


@dataclass(frozen=True, slots=True)
class _Probe:
    """A frame to be moved along a direction, shape (N, 3); the smallest displacement is `step` times that, Å."""

    labelled: LabelledFrame
    direction: FloatArray
    step: float = STEP_ANG

    def frames(self) -> list[Frame]:
        frame = self.labelled.frame
        return [frame.with_positions(frame.positions + k * self.step * self.direction) for k in MULTIPLES]

    def halves(self) -> tuple["_Probe", "_Probe"]:
        """The same direction for one half of the components that move, and for the other half."""
        moving = np.flatnonzero(self.direction)
        first, second = np.zeros(self.direction.size), np.zeros(self.direction.size)
        middle = len(moving) // 2
        first[moving[:middle]] = self.direction.ravel()[moving[:middle]]
        second[moving[middle:]] = self.direction.ravel()[moving[middle:]]
        shape = self.direction.shape
        return _Probe(self.labelled, first.reshape(shape)), _Probe(self.labelled, second.reshape(shape))


@dataclass(frozen=True, slots=True)
class _Slope:
    """Minus the derivative of the energy along a direction, by finite differences and by the forces, eV/Å."""

    difference: float
    uncertainty: float
    by_forces: float

    @property
    def excess(self) -> float:
        """What the finite difference gives beyond the forces."""
        return self.difference - self.by_forces

    def disagrees(self, tolerance: float) -> bool:
        """Whether they differ by more than a tolerance and their uncertainty; never where an energy is missing."""
        return abs(self.excess) > tolerance + UNCERTAINTIES * self.uncertainty


def _slopes(probes: Sequence[_Probe], energies: Energies) -> list[_Slope]:
    found = energies([frame for probe in probes for frame in probe.frames()])
    values = np.array([np.nan if energy is None else energy for energy in found]).reshape(len(probes), -1)
    return [_slope(probe, row) for probe, row in zip(probes, values, strict=True)]


def _slope(probe: _Probe, energies: FloatArray) -> _Slope:
    """Richardson's extrapolation of central differences at one, two and four steps: the error is of fourth order."""
    at = dict(zip(MULTIPLES, energies.tolist(), strict=True))
    central = {k: -(at[k] - at[-k]) / (2 * k * probe.step) for k in (1, 2, 4)}
    fine, coarse = ((4 * central[k] - central[2 * k]) / 3 for k in (1, 2))
    return _Slope(fine, abs(fine - coarse), float((probe.labelled.forces * probe.direction).sum()))


def _located(probe: _Probe, energies: Energies, *, tolerance_ev_per_ang: float) -> ForceFault | None:
    """The component to which a direction's disagreement leads, if it is wrong by itself; None for spread-out noise."""
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
