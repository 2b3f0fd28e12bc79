"""Limits that every sampled frame of a trajectory is checked against, and the reasons why trajectories end."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from al_engine.structures.bonds import Bonds
from al_engine.structures.frames import Frame, IntArray
from al_engine.structures.neighbours import closest_distance
from al_engine.units import BOLTZMANN_EV_PER_KELVIN
from samplers.dynamics.walls import SphericalWall, extent

CLOSEST_ATOMS_ANG = 0.3
"""Smallest distance of two atoms that a sound frame may have, Å."""
LONGEST_STRETCH_ANG = 5.0
"""Elongation of a bond that counts as collapse in arXiv:2312.09490, Å."""
HOTTEST_FACTOR, HOTTEST_OFFSET_KELVIN = 5.0, 1000.0
"""Terms of `hottest_kelvin`: a factor on the thermostat's temperature, and an offset in K."""
NEVER_HOTTER = 1e-12
"""Probability that a sampled frame in equilibrium is hotter than the other term of `hottest_kelvin`."""
ESCAPE_MARGIN_ANG = 5.0
"""Distance outside the wall, or outside the initial extent, at which an atom has escaped, Å."""
JUMP_DEVIATIONS = 10.0
"""Number of standard deviations in the first term of `largest_energy_jump`."""
JUMP_CHEMISTRY_EV = 5.0
"""The third term of `largest_energy_jump`, the energy of a bond that is made or broken, eV."""


class StopReason(StrEnum):
    """Why a trajectory ended."""

    COMPLETED = "completed"
    NOT_FINITE = "not_finite"
    """A NaN or infinity in positions, energy or forces."""
    TOO_CLOSE = "too_close"
    """Two atoms closer than 0.3 Å."""
    BOND_BROKEN = "bond_broken"
    """A bond 5 Å longer than at equilibrium, unless hydrogen atoms have changed places (`Bonds.have_broken`)."""
    ESCAPED = "escaped"
    """An atom far outside the wall, or outside the cluster's initial extent where there is no wall."""
    TOO_HOT = "too_hot"
    """Kinetic temperature above `hottest_kelvin`."""
    DEVIATION = "deviation"
    """Force deviation above the limit."""
    UNTRUSTED = "untrusted"
    """Force deviation above the window of the selection in several successive sampled frames."""
    SATURATED = "saturated"
    """Several successive sampled frames were candidates: the frames are sound, but similar to each other."""
    ENERGY_JUMP = "energy_jump"
    """Change of the potential energy between two sampled frames above `largest_energy_jump`."""


def hottest_kelvin(target_kelvin: float, degrees_of_freedom: int) -> float:
    """Largest kinetic temperature that physics explains, K.

    It is 5 T + 1000 K. In a molecule of a few atoms, the kinetic temperature of a sound frame may be higher than that:
    with f degrees of freedom, f times the ratio of kinetic temperature and T has the chi-squared distribution with f
    degrees of freedom. The limit is at least the temperature that this distribution exceeds with a probability of
    `NEVER_HOTTER`.

    Args:
        target_kelvin: Temperature T of the thermostat, K.
        degrees_of_freedom: Number of degrees of freedom f.
    """
    from scipy.special import gammainccinv  # the import takes a third of a second

    quantile = 2.0 * float(gammainccinv(0.5 * degrees_of_freedom, NEVER_HOTTER)) / degrees_of_freedom
    return max(HOTTEST_FACTOR * target_kelvin + HOTTEST_OFFSET_KELVIN, quantile * target_kelvin)


def largest_energy_jump(target_kelvin: float, degrees_of_freedom: int) -> float:
    """Largest change of the potential energy between two sampled frames that physics explains, eV.

    The limit is an estimate for f harmonic degrees of freedom, whose potential energy has the canonical variance
    f (kT)² / 2. It has three terms. (1) The difference of two independent energies has the standard deviation
    sqrt(f) kT; ten standard deviations are allowed. (2) A trajectory may start from a structure up to three times
    hotter than its thermostat. Within a vibration it turns half of the excess energy, up to f kT / 2, into motion.
    (3) A bond that is made or broken changes the energy by up to 5 eV.

    Args:
        target_kelvin: Temperature of the thermostat, K.
        degrees_of_freedom: Number of degrees of freedom f.
    """
    kt = BOLTZMANN_EV_PER_KELVIN * target_kelvin
    return kt * (JUMP_DEVIATIONS * float(np.sqrt(degrees_of_freedom)) + 0.5 * degrees_of_freedom) + JUMP_CHEMISTRY_EV


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that every sound frame of a trajectory keeps.

    Attributes:
        deviation: Largest force deviation of the kind that `StopRules.deviation` names, eV/Å.
        temperature_kelvin: Largest kinetic temperature, K.
        energy_jump: Largest change of the potential energy from a sampled frame to the next, eV.
        extent_ang: Largest distance of an atom from the centre of mass, Å; infinite for periodic frames.
        bonds: Bonds that must not break, or None.
        shifts: Lattice shifts of these bonds at the start of the trajectory (`Bonds.shifts_in`), shape (n_bonds, 3).
    """

    deviation: float
    temperature_kelvin: float
    energy_jump: float
    extent_ang: float
    bonds: Bonds | None
    shifts: IntArray | None

    @classmethod
    def of_trajectory(
        cls,
        start: Frame,
        *,
        target_kelvin: float,
        stop_deviation: float,
        wall: SphericalWall | None,
        bonds: Bonds | None,
    ) -> "Limits":
        """The limits of a trajectory.

        Args:
            start: The frame from which the trajectory starts.
            target_kelvin: Temperature of the thermostat, K.
            stop_deviation: Largest force deviation, eV/Å.
            wall: Spherical wall around the cluster, or None.
            bonds: Bonds that must not break, or None.
        """
        degrees_of_freedom = max(3 * len(start) - 3, 1)
        radius = extent(start) if wall is None else max(wall.radius_ang, extent(start))
        return cls(
            deviation=stop_deviation,
            temperature_kelvin=hottest_kelvin(target_kelvin, degrees_of_freedom),
            energy_jump=largest_energy_jump(target_kelvin, degrees_of_freedom),
            extent_ang=np.inf if start.is_periodic else radius + ESCAPE_MARGIN_ANG,
            bonds=bonds,
            shifts=None if bonds is None else bonds.shifts_in(start),
        )

    def broken_by(
        self, frame: Frame, *, deviation: float, temperature_kelvin: float, energy_jump: float = 0.0
    ) -> StopReason | None:
        """The first limit that a frame breaks, or None if the frame is sound. Limits of the geometry come first.

        Args:
            frame: The frame; its positions are finite.
            deviation: Force deviation of the frame, of the kind that the limit refers to, eV/Å.
            temperature_kelvin: Kinetic temperature, K.
            energy_jump: Change of the potential energy since the last sound frame, eV; NaN if there is no such frame.
        """
        if not (np.isfinite(deviation) and np.isfinite(temperature_kelvin)):
            return StopReason.NOT_FINITE
        if (fault := self._geometry_fault(frame)) is not None:
            return fault
        if temperature_kelvin > self.temperature_kelvin:
            return StopReason.TOO_HOT
        if abs(energy_jump) > self.energy_jump:
            return StopReason.ENERGY_JUMP
        return StopReason.DEVIATION if deviation > self.deviation else None

    def _geometry_fault(self, frame: Frame) -> StopReason | None:
        """The first limit of the geometry that a frame breaks, or None."""
        if closest_distance(frame.positions, frame.cell, frame.pbc) < CLOSEST_ATOMS_ANG:
            return StopReason.TOO_CLOSE
        if self.bonds is not None and self.shifts is not None:
            stretch = self.bonds.lengths_in(frame, self.shifts) - self.bonds.lengths
            if self.bonds.have_broken(frame, stretch > LONGEST_STRETCH_ANG):
                return StopReason.BOND_BROKEN
        if self.extent_ang < np.inf and extent(frame) > self.extent_ang:
            return StopReason.ESCAPED
        return None
