"""A look at all running trajectories with the whole committee: what is sampled, and who is stopped."""

import numpy as np

from al_engine.committee.deviation import force_deviation, net_force_deviation
from al_engine.structures.frames import IntArray
from samplers.dynamics.integrator import Batch
from samplers.dynamics.limits import StopReason
from samplers.dynamics.rows import Rows
from samplers.dynamics.trajectory import Rules


def inspect(batch: Batch, *, step: int, rules: Rules, fragment_of_atom: IntArray | None) -> tuple[Rows, list[int]]:
    """Sample every running trajectory's frame, and hold it to its limits.

    Args:
        batch: The running trajectories; how each stands is noted in it.
        step: Step of the run.
        rules: What they are held to.
        fragment_of_atom: Bonded fragment of each atom of a frame, shape (n,), or None.

    Returns:
        The sampled frames that are finite, and the places whose trajectories are stopped.
    """
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
    rows, stopped = Rows(), []
    running = (place for place in range(len(batch.trajectories)) if place not in batch.empty)
    order = sorted(running, key=lambda place: batch.trajectories[place].index)
    for place in order:
        one, here = batch.trajectories[place], batch.of(positions, place)
        norm, component = batch.of(deviation.norm, place), batch.of(deviation.component, place)
        energy, kinetic = float(energies[place]), one.kinetic_kelvin(batch.of(velocities, place))
        finite = all(np.isfinite(values).all() for values in (here, batch.of(acceleration, place), norm, energy))
        if frozen_at[place] or not (finite and np.isfinite(kinetic)):
            one.reason = StopReason.TOO_HOT if frozen_at[place] and finite else StopReason.NOT_FINITE
            one.stop_step = int(frozen_at[place]) or step
            stopped.append(place)
            continue
        frame = batch.frames[place].with_positions(here)
        disagreement = float((norm if rules.deviation == "norm" else component).max())
        one.doubtful = one.doubtful + 1 if disagreement > rules.trusted_deviation else 0
        reason = one.limits.broken_by(
            frame, deviation=disagreement, temperature_kelvin=kinetic, energy_jump=energy - one.energy
        )
        if reason is None and one.doubtful >= rules.stop_strides:
            reason = StopReason.UNTRUSTED
        net, molecule = np.nan, -1
        if fragment_of_atom is not None:
            of_molecules = net_force_deviation(
                member_forces[:, batch.edges[place] : batch.edges[place + 1]], fragment_of_atom
            )
            molecule = int(of_molecules.argmax())
            net = float(of_molecules[molecule])
        rows.add(
            frame,
            replica=one.index,
            step=step,
            temperature_kelvin=one.target_kelvin,
            kinetic_kelvin=kinetic,
            energy=energy,
            deviation_norm=float(norm.max()),
            deviation_component=float(component.max()),
            worst_atom=int(norm.argmax()),
            net_force_deviation=net,
            worst_molecule=molecule,
            sound=reason is None,
        )
        one.stop_step = step
        if reason is None:
            one.last, one.energy = frame, energy
        else:
            one.reason = reason
            stopped.append(place)
    return rows, sorted(stopped)
