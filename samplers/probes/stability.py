"""Stability test: long trajectories at a fixed temperature show whether, and when, a model's molecules come apart.

The test is that of arXiv:2312.09490: Langevin dynamics at 800 K, in which a model has collapsed when any bond is more
than 5 Å from its equilibrium length. A hydrogen atom that has become part of another molecule of the same formula does
not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from al_engine.protocols import Committee, Progress, silent
from al_engine.structures.bonds import Bonds
from al_engine.structures.frames import FloatArray, Frame, IntArray
from samplers.dynamics.langevin import run_langevin, whole
from samplers.dynamics.limits import StopReason
from samplers.dynamics.rows import Rows
from samplers.dynamics.settings import Integration, StopRules, Surroundings


@dataclass(frozen=True, slots=True, kw_only=True)
class StabilityConditions:
    """Conditions of the trajectories of a stability test.

    Attributes:
        kelvin: Temperature of the thermostat, K.
        integration: Length, time step and friction; its stride is the number of steps between two observations.
        stop_deviation: Force deviation (norm) in eV/Å above which a trajectory is stopped (default: never).
    """

    kelvin: float
    integration: Integration
    stop_deviation: float = np.inf


@dataclass(frozen=True, slots=True, eq=False)
class StabilityRun:
    """Observations of B trajectories at the ends of S strides; they are NaN after a trajectory has ended.

    Attributes:
        step: Step at the end of each stride, shape (S,).
        stretch_ang: Largest difference of a bond from its equilibrium length, Å, shape (S, B).
        kinetic_kelvin: Instantaneous kinetic temperature, K, shape (S, B).
        deviation: Largest force deviation (norm) over the atoms, eV/Å, shape (S, B).
        stop_reason: Why each trajectory ended, length B.
        stop_step: Step at which each trajectory ended, shape (B,).
    """

    step: IntArray
    stretch_ang: FloatArray
    kinetic_kelvin: FloatArray
    deviation: FloatArray
    stop_reason: tuple[StopReason, ...]
    stop_step: IntArray


class _Observations:
    """A sink of sampled frames that keeps only the observations of a `StabilityRun`.

    Args:
        bonds: The bonds whose lengths are observed, with their equilibrium lengths; None: no bonds.
        n_strides: Number of strides S.
        starts: Starting structures of the B trajectories.
        stride_steps: Steps of a stride.

    Attributes:
        stretch, kelvin, deviation: As `stretch_ang`, `kinetic_kelvin` and `deviation` of `StabilityRun`.
    """

    def __init__(self, bonds: Bonds | None, n_strides: int, starts: Sequence[Frame], stride_steps: int) -> None:
        self._bonds = Bonds(np.empty((0, 2), dtype=np.int64), np.empty(0)) if bonds is None else bonds
        self._shifts = [self._bonds.shifts_in(start) for start in starts]
        self._stride_steps = stride_steps
        self.stretch, self.kelvin, self.deviation = (np.full((n_strides, len(starts)), np.nan) for _ in range(3))

    def __call__(self, rows: Rows) -> None:
        columns = rows.arrays()
        for k, frame in enumerate(rows.frames):
            stride_and_replica = int(columns["step"][k]) // self._stride_steps - 1, int(columns["replica"][k])
            lengths = self._bonds.lengths_in(frame, self._shifts[stride_and_replica[1]])
            differences = np.abs(lengths - self._bonds.lengths)
            self.stretch[stride_and_replica] = differences.max(initial=0.0)
            self.kelvin[stride_and_replica] = columns["kinetic_kelvin"][k]
            self.deviation[stride_and_replica] = columns["deviation_norm"][k]


def run_stability(
    committee: Committee[torch.Tensor],
    frames: Sequence[Frame],
    *,
    conditions: StabilityConditions,
    surroundings: Surroundings,
    seed: int,
    driver: int | None = 0,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> StabilityRun:
    """Run a trajectory from each frame to its planned end, or until it breaks a limit (`samplers.dynamics.limits`).

    Args:
        committee: As in `run_langevin`.
        frames: Starting structures of the B trajectories.
        conditions: Temperature, integration and limit of the force deviation.
        surroundings: Wall, and the bonds whose lengths are observed.
        seed: Seed of velocities and noise.
        driver: The member whose forces move the atoms; None for the committee's mean.
        device: Where the committee's tensors live.
        progress: Called after each stride with the number of steps done.

    Raises:
        ValueError: As `run_langevin`.
        InputError: As `run_langevin`.
    """
    integration = conditions.integration
    frames = [whole(frame, surroundings.bonds) for frame in frames]  # as the MD starts from them
    n_strides = integration.steps // integration.stride_steps
    observations = _Observations(surroundings.bonds, n_strides, frames, integration.stride_steps)
    ends = run_langevin(
        committee,
        frames,
        temperatures_kelvin=[conditions.kelvin] * len(frames),
        integration=integration,
        stop=StopRules(stop_deviation=conditions.stop_deviation),
        surroundings=surroundings,
        seed=seed,
        driver=driver,
        device=device,
        progress=progress,
        sink=observations,
    )
    return StabilityRun(
        step=integration.stride_steps * np.arange(1, n_strides + 1),
        stretch_ang=observations.stretch,
        kinetic_kelvin=observations.kelvin,
        deviation=observations.deviation,
        stop_reason=ends.stop_reason,
        stop_step=ends.stop_step,
    )


def surviving(stop_reason: Sequence[str], stop_step: IntArray, step: IntArray) -> FloatArray:
    """Share of the trajectories that still run at each step, shape (S,).

    Args:
        stop_reason: Why each trajectory ended (`completed`: at its planned end), length B.
        stop_step: Step at which each trajectory ended, shape (B,).
        step: The steps at which the share is computed, shape (S,).
    """
    lasted = np.where(np.asarray(stop_reason) == StopReason.COMPLETED, np.iinfo(np.int64).max, stop_step)
    share: FloatArray = (lasted[None, :] > step[:, None]).mean(axis=1)
    return share
