"""Committee-driven Langevin MD: many trajectories in one batch, watched, and their sampled frames handed on.

One member of the committee, or its mean, moves the atoms; the whole committee is asked on a stride.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from al_engine.protocols import Committee, Progress, silent
from al_engine.structures.bonds import Bonds, made_whole
from al_engine.structures.frames import FloatArray, Frame, IntArray
from samplers.dynamics.barostat import Barostat
from samplers.dynamics.inspection import inspect
from samplers.dynamics.integrator import Batch
from samplers.dynamics.replacement import Refills
from samplers.dynamics.rows import Ends, Rows, Sampled, Sink
from samplers.dynamics.trajectory import Rules, Trajectory
from samplers.dynamics.walls import SphericalWall


def run_langevin(
    committee: Committee[torch.Tensor],
    frames: Sequence[Frame],
    *,
    temperatures_kelvin: Sequence[float] | FloatArray,
    steps: int,
    timestep_fs: float,
    friction_per_ps: float,
    stride_steps: int,
    stop_deviation: float,
    seed: int,
    trusted_deviation: float = np.inf,
    deviation: Literal["norm", "component"] = "norm",
    stop_strides: int = 1,
    refill: bool = False,
    driver: int | None = 0,
    wall: SphericalWall | None = None,
    bonds: Bonds | None = None,
    fragment_of_atom: IntArray | None = None,
    barostat: Barostat | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
    sink: Sink | None = None,
) -> Sampled:
    """Run one Langevin trajectory from each frame, all in one batch, and sample them at a stride.

    A trajectory that leaves what is trusted (`StopReason`) is stopped at the sampled frame that shows it, at once if it
    is not finite; the others go on as if it had never been there. Every trajectory has its own stream of random
    numbers.

    Args:
        committee: Gives forces as float64 torch tensors on `device`; the forces on a frame sum to zero.
        frames: Starting structures of the B replicas; sizes may differ.
        temperatures_kelvin: Thermostat temperature of each replica, shape (B,).
        steps: MD steps of each replica.
        timestep_fs: Time step, fs.
        friction_per_ps: Langevin friction, 1/ps; 0 conserves energy.
        stride_steps: Steps between two sampled frames; the first is sampled at this step.
        stop_deviation: Force deviation in eV/Å above which a trajectory is stopped.
        seed: Seed of velocities, noise and refills.
        trusted_deviation: Force deviation in eV/Å above which a frame is not trusted.
        deviation: Which deviation is meant.
        stop_strides: A trajectory not trusted at so many strides in a row is stopped.
        refill: Whether another trajectory starts in the place of a stopped one, from a sound and trusted frame of this
            run at the same temperature, or one of `frames` if there is none; at most `MAX_REFILLS` times in a place.
        driver: The member whose forces move the atoms; None for the committee's mean.
        wall: Spherical wall around each non-periodic cluster, or None.
        bonds: Bonds (the same in every frame) that must not break, or None.
        fragment_of_atom: Bonded fragment of each atom (the same in every frame), whose net forces are compared, shape
            (n,), or None.
        barostat: Barostat of periodic frames, or None: their cells stay as they are.
        device: Where the committee's tensors live.
        progress: Told the steps done after each stride.
        sink: Is given the sampled frames of each stride, of which nothing is kept then; None: they are returned.

    Returns:
        The sampled frames, none if a sink took them, and the end of each trajectory.

    Raises:
        ValueError: If the number of temperatures is not the number of frames, there are no frames, a wall is put around
            periodic frames, or a barostat is given and not all frames are periodic in all directions.
        InputError: If the device's memory is too small for one replica.
    """
    _refuse_nonsense(frames, temperatures_kelvin, wall=wall, barostat=barostat)
    rules = Rules(stop_deviation, trusted_deviation, stop_strides, wall, bonds, barostat, deviation)
    trajectories = [
        Trajectory.begin(
            _whole(frame, bonds),
            index=slot,
            slot=slot,
            attempt=0,
            step=0,
            target_kelvin=float(kelvin),
            rules=rules,
            seed=seed,
        )
        for slot, (frame, kelvin) in enumerate(zip(frames, temperatures_kelvin, strict=True))
    ]
    batch = Batch(committee, trajectories, member=driver, wall=wall, device=device)
    refills = Refills(trajectories, rules=rules, seed=seed, stride_steps=stride_steps) if refill else None
    kept, running = Rows(), len(frames)
    take = kept.extend if sink is None else sink
    for done in range(stride_steps, steps + 1, stride_steps):
        _advance(
            batch,
            done - stride_steps,
            done,
            timestep_fs=timestep_fs,
            friction_per_fs=friction_per_ps * 1e-3,
            barostat=barostat,
        )
        rows, stopped = inspect(batch, step=done, rules=rules, fragment_of_atom=fragment_of_atom)
        take(rows)
        starting: dict[int, Trajectory] = {}
        if refills is not None:
            refills.learn(rows)
            if done + stride_steps <= steps:
                starting = refills.starting({place: batch.trajectories[place] for place in stopped}, step=done)
                trajectories += starting.values()
        left_empty = set(stopped) - set(starting)
        running -= len(left_empty)
        progress(done, steps, f"{running} of {len(frames)} replicas")
        if not running:
            break
        if starting:
            batch.put(starting)
        if left_empty:
            batch.vacate(left_empty, step=done)
    return Sampled.of(kept, Ends.of(trajectories))


def _whole(frame: Frame, bonds: Bonds | None) -> Frame:
    """A frame whose molecules are in one piece, as bond lengths and moves of whole molecules need it."""
    if bonds is None or not frame.is_periodic:
        return frame
    return frame.with_positions(made_whole(frame.positions, bonds.pairs, frame.cell, frame.pbc))


def _advance(
    batch: Batch,
    first: int,
    last: int,
    *,
    timestep_fs: float,
    friction_per_fs: float,
    barostat: Barostat | None,
) -> None:
    """Integrate from one step of the run to another, with the barostat's moves in between."""
    done = first
    while done < last:
        move = last if barostat is None else (done // barostat.interval_steps + 1) * barostat.interval_steps
        until = min(move, last)
        batch.advance(until - done, timestep_fs=timestep_fs, friction_per_fs=friction_per_fs, after=done)
        done = until
        if barostat is not None and done == move:
            batch.change_volumes()


def _refuse_nonsense(
    frames: Sequence[Frame],
    temperatures_kelvin: Sequence[float] | FloatArray,
    *,
    wall: SphericalWall | None,
    barostat: Barostat | None,
) -> None:
    if not frames or len(temperatures_kelvin) != len(frames):
        raise ValueError(f"{len(frames)} frames and {len(temperatures_kelvin)} temperatures: one each, at least one")
    if wall is not None and any(frame.is_periodic for frame in frames):
        raise ValueError("a spherical wall is for clusters, not for periodic frames")
    if barostat is not None and not all(frame.pbc.all() for frame in frames):
        raise ValueError("a barostat is for frames that are periodic in all directions")
