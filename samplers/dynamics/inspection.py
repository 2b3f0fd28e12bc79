"""Inspection of all running trajectories by the whole committee: frames are sampled, bad trajectories are stopped."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from al_engine.committee.deviation import ForceDeviation, force_deviation, net_force_deviation
from al_engine.structures.frames import FloatArray, Frame, IntArray
from samplers.dynamics.integrator import Batch
from samplers.dynamics.limits import StopReason
from samplers.dynamics.rows import Rows
from samplers.dynamics.settings import StopRules
from samplers.dynamics.trajectory import Trajectory


def inspect(
    batch: Batch, *, step: int, stop: StopRules, fragment_of_atom: IntArray | None, may_saturate: bool = False
) -> tuple[Rows, list[int]]:
    """Sample the frame of every running trajectory, and stop each trajectory that breaks a limit.

    Args:
        batch: The running trajectories; each `Trajectory` is updated with its last sound frame, step and stop reason.
        step: Step of the run.
        stop: When a trajectory is stopped for its force deviation.
        fragment_of_atom: Bonded fragment of each atom of a frame, shape (n,), or None.
        may_saturate: Whether trajectories may end as `StopReason.SATURATED`: there is a frame for their replacements.

    Returns:
        The finite sampled frames in order of the trajectories' indices, and the places in the batch, ascending, whose
        trajectories have ended.
    """
    snapshot = _Snapshot.of(batch)
    rows, stopped = Rows(), []
    running = (place for place in range(len(batch.trajectories)) if place not in batch.empty)
    for place in sorted(running, key=lambda place: batch.trajectories[place].index):
        trajectory, state = batch.trajectories[place], snapshot.at(batch, place)
        reason = state.numerical_fault
        if reason is None:
            frame = batch.frames[place].with_positions(state.positions)
            reason = _broken_limit(trajectory, frame, state, stop)
            net_force, fragment = _net_force(state.member_forces, fragment_of_atom)
            rows.add(
                frame,
                replica=trajectory.index,
                step=step,
                temperature_kelvin=trajectory.target_kelvin,
                kinetic_kelvin=state.kinetic_kelvin,
                energy=state.energy,
                deviation_norm=float(state.deviation.norm.max()),
                deviation_component=float(state.deviation.component.max()),
                worst_atom=int(state.deviation.norm.argmax()),
                net_force_deviation=net_force,
                worst_molecule=fragment,
                sound=reason is None,
            )
            if reason is None and may_saturate and trajectory.unknown >= stop.saturated_strides > 0:
                reason = StopReason.SATURATED
            if reason in (None, StopReason.SATURATED):
                trajectory.last, trajectory.energy = frame, state.energy
        trajectory.stop_step = state.frozen_at or step
        if reason is not None:
            trajectory.reason = reason
            stopped.append(place)
    return rows, sorted(stopped)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """The state of a trajectory at a step of the run.

    Attributes:
        positions: Positions in Å, shape (n, 3).
        member_forces: Forces of the M members in eV/Å, shape (M, n, 3).
        deviation: Force deviations of the n atoms.
        energy: Potential energy without the wall, eV.
        kinetic_kelvin: Kinetic temperature, K.
        finite: Whether positions, acceleration, force deviations and energy are all finite.
        frozen_at: Step of the run at which the integrator froze the trajectory; 0 where it did not.
    """

    positions: FloatArray
    member_forces: FloatArray
    deviation: ForceDeviation
    energy: float
    kinetic_kelvin: float
    finite: bool
    frozen_at: int

    @property
    def numerical_fault(self) -> StopReason | None:
        """Why there is no frame to sample: the trajectory was frozen, or has a value that is not finite."""
        if self.frozen_at and self.finite:
            return StopReason.TOO_HOT
        return None if self.finite and np.isfinite(self.kinetic_kelvin) else StopReason.NOT_FINITE


@dataclass(frozen=True, slots=True, eq=False)
class _Snapshot:
    """The whole batch at a step of the run, copied to the CPU: T atoms in B places, with the units of `Batch`."""

    positions: FloatArray
    velocities: FloatArray
    acceleration: FloatArray
    energies: FloatArray
    member_forces: FloatArray
    frozen_at: IntArray
    deviation: ForceDeviation

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Evaluate the whole committee, and copy the batch's state from its device."""
        positions, velocities, acceleration, energies, member_forces, frozen_at = (
            tensor.cpu().numpy()
            for tensor in (
                batch.positions,
                batch.velocities,
                batch.acceleration,
                batch.energies,
                batch.forces.member_forces(batch.positions),
                batch.frozen_at,
            )
        )
        deviation = force_deviation(member_forces)
        return cls(positions, velocities, acceleration, energies, member_forces, frozen_at, deviation)

    def at(self, batch: Batch, place: int) -> _State:
        """The state of the trajectory in a place of the batch."""
        positions, acceleration = batch.values_at(place, self.positions), batch.values_at(place, self.acceleration)
        norm = batch.values_at(place, self.deviation.norm)
        component = batch.values_at(place, self.deviation.component)
        energy = float(self.energies[place])
        return _State(
            positions=positions,
            member_forces=self.member_forces[:, batch.edges[place] : batch.edges[place + 1]],
            deviation=ForceDeviation(norm=norm, component=component),
            energy=energy,
            kinetic_kelvin=batch.trajectories[place].kinetic_kelvin(batch.values_at(place, self.velocities)),
            finite=all(bool(np.isfinite(values).all()) for values in (positions, acceleration, norm, energy)),
            frozen_at=int(self.frozen_at[place]),
        )


def _broken_limit(trajectory: Trajectory, frame: Frame, state: _State, stop: StopRules) -> StopReason | None:
    """Find the limit that the frame breaks, and count the trajectory's successive frames above the limits."""
    per_atom = state.deviation.norm if stop.deviation == "norm" else state.deviation.component
    deviation = float(per_atom.max())
    trajectory.doubtful = trajectory.doubtful + 1 if deviation > stop.trusted_deviation else 0
    unknown = stop.known_deviation < deviation <= stop.trusted_deviation
    trajectory.unknown = trajectory.unknown + 1 if unknown else 0
    reason = trajectory.limits.broken_by(
        frame,
        deviation=deviation,
        temperature_kelvin=state.kinetic_kelvin,
        energy_jump=state.energy - trajectory.energy,
    )
    if reason is None and trajectory.doubtful >= stop.stop_strides:
        return StopReason.UNTRUSTED
    return reason


def _net_force(member_forces: FloatArray, fragment_of_atom: IntArray | None) -> tuple[float, int]:
    """Largest deviation of a fragment's net force in eV/Å, and the fragment; NaN and -1 without fragments."""
    if fragment_of_atom is None:
        return np.nan, -1
    of_fragments = net_force_deviation(member_forces, fragment_of_atom)
    fragment = int(of_fragments.argmax())
    return float(of_fragments[fragment]), fragment
