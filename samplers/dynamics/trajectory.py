"""Trajectories, and the places of a batch that they take: where one is stopped, another can go on in its place."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from al_engine.structures.bonds import Bonds
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import FloatArray, Frame
from al_engine.units import BOLTZMANN_EV_PER_KELVIN, EV_IN_AMU_ANG2_PER_FS2
from samplers.dynamics.barostat import Barostat, VolumeMoves
from samplers.dynamics.limits import Limits, StopReason
from samplers.dynamics.walls import SphericalWall, centre_of_mass

VOLUME_STREAM = 1
"""Last number of the seed of a trajectory's moves of the volume: another stream than that of its noise."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What every trajectory of a run is held to.

    Attributes:
        stop_deviation: Force deviation above which it is stopped, eV/Å.
        trusted_deviation: Force deviation above which a frame is not trusted, eV/Å.
        stop_strides: Strides in a row above `trusted_deviation` after which it is stopped.
        wall: Spherical wall, or None.
        bonds: Bonds that must not break, or None.
        barostat: Barostat of boxes, or None.
        deviation: Which deviation is meant.
    """

    stop_deviation: float
    trusted_deviation: float = np.inf
    stop_strides: int = 1
    wall: SphericalWall | None = None
    bonds: Bonds | None = None
    barostat: Barostat | None = None
    deviation: Literal["norm", "component"] = "norm"


@dataclass(slots=True)
class Trajectory:
    """One trajectory and what is its own, wherever it stands in a batch.

    Attributes:
        index: Number of the trajectory in the run.
        slot: The place it takes: the number of replicas stays the same when one is stopped and another takes its place.
        start_step: Step of the run at which it starts.
        start: Where it starts.
        last: Its last sound structure.
        masses: Masses in amu, shape (n,).
        centre: Centre of mass in Å, shape (3,); it does not move.
        target_kelvin: Temperature of its thermostat.
        limits: What a sound frame stays within.
        rng: Its own stream of random numbers.
        volume_moves: Its moves of the volume, or None.
        energy: Potential energy at its last sound structure, eV; NaN before there is one.
        doubtful: Strides in a row, up to now, that were not trusted.
        reason: Why it ended.
        stop_step: Step of the run at which it ended.
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
        rules: Rules,
        seed: int,
    ) -> Self:
        """A trajectory from a frame; its random numbers follow from the run's seed, its slot and the attempt in it."""
        masses, barostat = atomic_masses(start.numbers), rules.barostat
        return cls(
            index=index,
            slot=slot,
            start_step=step,
            start=start,
            last=start,
            masses=masses,
            centre=centre_of_mass(start),
            target_kelvin=target_kelvin,
            limits=Limits.of_replica(
                start,
                target_kelvin=target_kelvin,
                stop_deviation=rules.stop_deviation,
                wall=rules.wall,
                bonds=rules.bonds,
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
        """Maxwell-Boltzmann velocities without the centre of mass's, Å/fs, shape (count, n, 3)."""
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
