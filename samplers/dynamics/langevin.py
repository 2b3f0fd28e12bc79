"""Committee-driven Langevin MD of many trajectories in a batch.

The forces of a single member, or the mean forces of the committee, move the atoms. At the end of every stride, the
whole committee is evaluated: the frame of each trajectory is sampled, and trajectories that break a limit are stopped.
"""

from collections.abc import Callable, Sequence

import torch

from al_engine.protocols import Committee, Progress, silent
from al_engine.structures.bonds import Bonds, made_whole
from al_engine.structures.frames import FloatArray, Frame
from samplers.dynamics.barostat import Barostat
from samplers.dynamics.inspection import inspect
from samplers.dynamics.integrator import Batch
from samplers.dynamics.replacement import Refills
from samplers.dynamics.rows import Ends, Rows, Sampled, Sink
from samplers.dynamics.settings import Integration, StopRules, Surroundings
from samplers.dynamics.trajectory import Trajectory


def run_langevin(
    committee: Committee[torch.Tensor],
    frames: Sequence[Frame],
    *,
    temperatures_kelvin: Sequence[float] | FloatArray,
    integration: Integration,
    stop: StopRules,
    seed: int,
    surroundings: Surroundings | None = None,
    refill: bool = False,
    driver: int | None = 0,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
    sink: Sink | None = None,
    finished: Callable[[int], bool] | None = None,
) -> Sampled:
    """Run a Langevin trajectory from each frame, all in a single batch, and sample their frames at every stride.

    A trajectory ends at the first sampled frame that breaks a limit (`StopReason`). A trajectory whose velocities are
    too high or not finite is frozen within the step. Neither changes the other trajectories: every trajectory has its
    own random numbers.

    Args:
        committee: Gives forces as float64 torch tensors on `device`; the forces on a frame sum to zero.
        frames: Starting structures of the B replica slots; sizes may differ.
        temperatures_kelvin: Thermostat temperature of each replica slot in K, shape (B,).
        integration: Length, time step, friction and stride.
        stop: When a trajectory is stopped for its force deviation.
        seed: Seed of velocities, noise, moves of the volume, and refills.
        surroundings: Wall, bonds, barostat and fragments; None: atoms in a vacuum.
        refill: Whether another trajectory takes over the replica slot of an ended trajectory. It starts from a sound
            frame that was sampled at the same temperature and has a force deviation below the limits of `stop`. If
            there is no such frame, it starts from a frame of `frames`. A slot has at most `MAX_REFILLS` replacements of
            stopped trajectories.
        driver: The member whose forces move the atoms; None for the committee's mean.
        device: Where the committee's tensors live.
        progress: Called after each stride with the number of steps done.
        sink: Called with the sampled frames of each stride, which are then not kept; None: they are returned.
        finished: Called after each stride, after `sink`, with the number of steps done; True ends the run there. None:
            the run ends at the last step.

    Returns:
        The sampled frames (empty if there is a sink), and the end of each trajectory.

    Raises:
        ValueError: If the number of temperatures is not the number of frames, there are no frames, or the frames do not
            fit the wall or the barostat (`Surroundings.refuse_unfit`).
        InputError: If the device's memory is too small for a single frame.
    """
    if not frames or len(temperatures_kelvin) != len(frames):
        raise ValueError(
            f"got {len(frames)} frames and {len(temperatures_kelvin)} temperatures; each frame needs a temperature, "
            "and at least one frame is needed"
        )
    around = Surroundings() if surroundings is None else surroundings
    around.refuse_unfit(frames)
    trajectories = [
        Trajectory.begin(
            whole(frame, around.bonds),
            index=slot,
            slot=slot,
            attempt=0,
            step=0,
            target_kelvin=float(kelvin),
            stop=stop,
            surroundings=around,
            seed=seed,
        )
        for slot, (frame, kelvin) in enumerate(zip(frames, temperatures_kelvin, strict=True))
    ]
    batch = Batch(committee, trajectories, member=driver, wall=around.wall, device=device)
    steps, stride_steps = integration.steps, integration.stride_steps
    refills = (
        Refills(trajectories, stop=stop, surroundings=around, seed=seed, stride_steps=stride_steps) if refill else None
    )
    kept, running = Rows(), len(frames)
    take_rows = kept.extend if sink is None else sink
    for done in range(stride_steps, steps + 1, stride_steps):
        _advance(batch, done - stride_steps, done, integration=integration, barostat=around.barostat)
        rows, stopped = inspect(
            batch,
            step=done,
            stop=stop,
            fragment_of_atom=around.fragment_of_atom,
            may_saturate=refills is not None and refills.has_known,
        )
        take_rows(rows)
        ending = finished is not None and finished(done)
        starting: dict[int, Trajectory] = {}  # replacements by their places in the batch
        if refills is not None:
            refills.learn(rows)
            if done + stride_steps <= steps and not ending:
                starting = refills.starting({place: batch.trajectories[place] for place in stopped}, step=done)
                trajectories += starting.values()
        left_empty = set(stopped) - set(starting)
        running -= len(left_empty)
        progress(done, steps, f"{running} of {len(frames)} replicas")
        if not running or ending:
            break
        if starting:
            batch.put(starting)
        if left_empty:
            batch.vacate(left_empty, step=done)
    return Sampled.of(kept, Ends.of(trajectories))


def whole(frame: Frame, bonds: Bonds | None) -> Frame:
    """The frame with its molecules in one piece, as bond lengths and moves of whole molecules need it."""
    if bonds is None or not frame.is_periodic:
        return frame
    return frame.with_positions(made_whole(frame.positions, bonds.pairs, frame.cell, frame.pbc))


def _advance(batch: Batch, first: int, last: int, *, integration: Integration, barostat: Barostat | None) -> None:
    """Integrate from step `first` to step `last` of the run; the barostat changes volumes in between."""
    done = first
    while done < last:
        next_move = last if barostat is None else (done // barostat.interval_steps + 1) * barostat.interval_steps
        until = min(next_move, last)
        batch.advance(
            until - done,
            timestep_fs=integration.timestep_fs,
            friction_per_fs=integration.friction_per_fs,
            after=done,
        )
        done = until
        if barostat is not None and done == next_move:
            batch.change_volumes()
