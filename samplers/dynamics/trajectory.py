"""The state and settings of a single trajectory, independent of its place in the batch."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import FloatArray, Frame
from al_engine.units import BOLTZMANN_EV_PER_KELVIN, EV_IN_AMU_ANG2_PER_FS2
from samplers.dynamics.barostat import VolumeMoves
from samplers.dynamics.limits import Limits, StopReason
from samplers.dynamics.settings import StopRules, Surroundings
from samplers.dynamics.walls import centre_of_mass

VOLUME_STREAM = 1
"""Last number of the seed of a trajectory's volume moves, which makes their random stream differ from the noise."""


@dataclass(slots=True)
class Trajectory:
    """A trajectory, its state beside positions and velocities (which the batch holds), and its random numbers.

    Attributes:
        index: Number of the trajectory in the run.
        slot: Index of the replica slot; a replacement trajectory keeps the slot of the trajectory that it replaces.
        start_step: Step of the run at which the trajectory starts.
        start: Structure from which the trajectory starts.
        last: Last sound structure; the start until a sound structure is sampled.
        masses: Masses in amu, shape (n,).
        centre: Centre of mass in Å, shape (3,); it does not move.
        target_kelvin: Temperature of the thermostat, K.
        limits: The limits that a sound frame keeps.
        rng: The trajectory's own stream of random numbers.
        volume_moves: The trajectory's moves of the volume, or None.
        energy: Potential energy at the last sound structure, eV; NaN until a sound structure is sampled.
        doubtful: Number of successive sampled frames, up to now, that were not trusted.
        unknown: Number of successive sampled frames, up to now, that were candidates.
        reason: Why the trajectory ended.
        stop_step: Step of the run at which the trajectory ended.
    """

    index: int
    slot: int
    start_step: int
    start: Frame
    last: Frame
    masses: FloatArray
    centre: FloatArray
    target_kelvin: float
    limits: Limits
    rng: np.random.Generator
    volume_moves: VolumeMoves | None = None
    energy: float = np.nan
    doubtful: int = 0
    unknown: int = 0
    reason: StopReason = StopReason.COMPLETED
    stop_step: int = 0

    @classmethod
    def begin(
        cls,
        start: Frame,
        *,
        index: int,
        slot: int,
        attempt: int,
        step: int,
        target_kelvin: float,
        stop: StopRules,
        surroundings: Surroundings,
        seed: int,
    ) -> Self:
        """Begin a trajectory.

        Args:
            start: Structure from which the trajectory starts.
            index: Number of the trajectory in the run.
            slot: Index of the replica slot.
            attempt: Number of trajectories that had this slot before.
            step: Step of the run at which the trajectory starts.
            target_kelvin: Temperature of the thermostat, K.
            stop: When the trajectory is stopped for its force deviation.
            surroundings: Wall, bonds and barostat.
            seed: Seed of the run. The random numbers of the trajectory follow from this seed, the slot and the attempt.
        """
        masses, barostat = atomic_masses(start.numbers), surroundings.barostat
        return cls(
            index=index,
            slot=slot,
            start_step=step,
            start=start,
            last=start,
            masses=masses,
            centre=centre_of_mass(start),
            target_kelvin=target_kelvin,
            limits=Limits.of_trajectory(
                start,
                target_kelvin=target_kelvin,
                stop_deviation=stop.stop_deviation,
                wall=surroundings.wall,
                bonds=surroundings.bonds,
            ),
            rng=np.random.default_rng([seed, slot, attempt]),
            volume_moves=None
            if barostat is None
            else VolumeMoves(
                barostat, start, target_kelvin=target_kelvin, masses=masses, seed=[seed, slot, attempt, VOLUME_STREAM]
            ),
            stop_step=step,
        )

    def thermal_velocities(self, count: int, *, scale: float = 1.0) -> FloatArray:
        """Draw Maxwell-Boltzmann velocities without motion of the centre of mass.

        Args:
            count: Number of draws.
            scale: Factor on all velocities.

        Returns:
            Velocities in Å/fs, shape (count, n, 3).
        """
        spread = np.sqrt(BOLTZMANN_EV_PER_KELVIN * self.target_kelvin * EV_IN_AMU_ANG2_PER_FS2 / self.masses)
        velocities: FloatArray = self.rng.standard_normal((count, len(self.masses), 3))
        velocities *= scale * spread[:, None]
        momentum = np.einsum("i,sij->sj", self.masses, velocities)
        velocities -= (momentum / self.masses.sum())[:, None, :]
        return velocities

    def kinetic_kelvin(self, velocities: FloatArray) -> float:
        """Kinetic temperature in K of velocities in Å/fs, shape (n, 3)."""
        twice_kinetic = float(np.einsum("i,ij,ij->", self.masses, velocities, velocities)) / EV_IN_AMU_ANG2_PER_FS2
        return twice_kinetic / (max(3 * len(self.masses) - 3, 1) * BOLTZMANN_EV_PER_KELVIN)
