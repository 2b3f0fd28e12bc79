"""Frames from classical MD: an anneal from hot to cold, and runs at constant temperature for the test set.

A run is divided into segments. A segment depends only on its initial positions and velocities, and has its own random
numbers. A run that is interrupted, and resumed from the end of a segment, therefore gives the same frames as an
uninterrupted run, bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.errors import InputError
from al_engine.protocols import Progress, silent
from al_engine.seeds import derived_seed
from al_engine.structures.frames import FloatArray, Frame
from samplers.building.system import System
from samplers.classical.classical import open_classical_md

SEGMENT_ATOM_STEPS = 2_000_000
"""Length of a segment in atoms times steps: about half a minute on a core. A kill loses at most one segment."""
_RAMP_STEPS = 50
"""Number of steps between two settings of the thermostat's temperature."""
_COOLING_SHARE = 0.25
"""Fraction of a constant-temperature run before the first frame: half is for cooling, half for settling."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassicalFrames:
    """Frames of a classical trajectory.

    Attributes:
        frames: The S frames in order of time.
        temperature_kelvin: Temperature of the thermostat at each frame, K, shape (S,).
    """

    frames: tuple[Frame, ...]
    temperature_kelvin: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class RunState:
    """State of a run at the end of a segment, from which it can be resumed.

    Attributes:
        segments: Number of finished segments.
        positions: Positions of the atoms, Å, shape (N, 3).
        velocities: Velocities of the atoms, Å/fs, shape (N, 3).
        kept: Positions of the frames kept so far, Å, shape (K, N, 3).
    """

    segments: int
    positions: FloatArray
    velocities: FloatArray
    kept: FloatArray


Save = Callable[[RunState], None]
"""A function that is called with the state of a run at the end of each segment."""


def forget(state: RunState) -> None:
    """Do nothing with a state: the default `Save`."""
    del state


@dataclass(frozen=True, slots=True)
class _Block:
    """Steps at a constant setting of the thermostat.

    Attributes:
        steps: Number of steps.
        kelvin: Temperature of the thermostat, K.
        kept_kelvin: Temperature of the frame that is kept at the end of the block, K; None if no frame is kept.
    """

    steps: int
    kelvin: float
    kept_kelvin: float | None = None


def anneal(
    system: System,
    *,
    hot_kelvin: float,
    cold_kelvin: float,
    duration_ps: float,
    frames: int,
    timestep_fs: float,
    seed: int,
    start: RunState | None = None,
    save: Save = forget,
    progress: Progress = silent,
) -> ClassicalFrames:
    """Run MD while the thermostat cools linearly, and keep frames at equal intervals; the last is at `cold_kelvin`.

    Args:
        system: The system; the run starts from its packed structure.
        hot_kelvin: Temperature at the start, K.
        cold_kelvin: Temperature at the end, K.
        duration_ps: Length of the run, ps.
        frames: Number of frames to keep.
        timestep_fs: Time step, fs.
        seed: Seed of all velocities and noise.
        start: State from which to resume an interrupted run with the same arguments; None to start a new run.
        save: Called with the state at the end of every segment.
        progress: Called with the number of frames kept so far.

    Returns:
        The frames.

    Raises:
        InputError: If the system has no classical force field, the run has fewer steps than frames, or the trajectory
            diverges.
    """
    steps = _steps(duration_ps, timestep_fs, frames)
    ends = np.linspace(0, steps, frames + 1).round().astype(int)
    kelvins = hot_kelvin + (cold_kelvin - hot_kelvin) * ends / steps
    blocks = [
        block for k in range(frames) for block in _ramp(ends[k + 1] - ends[k], kelvins[k], kelvins[k + 1], keep=True)
    ]
    return _run(
        system, blocks, hot_kelvin, timestep_fs=timestep_fs, seed=seed, start=start, save=save, progress=progress
    )


def constant_temperature_frames(
    system: System,
    *,
    kelvin: float,
    hot_kelvin: float,
    duration_ps: float,
    frames: int,
    timestep_fs: float,
    seed: int,
    start: RunState | None = None,
    save: Save = forget,
    progress: Progress = silent,
) -> ClassicalFrames:
    """Run MD at constant temperature, and keep frames at equal intervals.

    In the first quarter of the run no frame is kept: the run starts hot, cools, and settles. The hot start lets
    flexible molecules leave the conformer in which they were built, so that two runs of the same system are
    independent. `kelvin` is the temperature of the frames, K. The run starts at `hot_kelvin` if that is higher than
    `kelvin`, else at `kelvin`. The other arguments are those of `anneal`.

    Returns:
        The frames.

    Raises:
        InputError: As `anneal`.
    """
    steps = _steps(duration_ps, timestep_fs, frames + 1)
    hottest = max(hot_kelvin, kelvin)
    cooling = max(1, int(_COOLING_SHARE * steps / 2))
    ends = np.linspace(0, max(steps - 2 * cooling, frames), frames + 1).round().astype(int)
    blocks = [*_ramp(cooling, hottest, kelvin), *_ramp(cooling, kelvin, kelvin)]
    for k in range(frames):
        blocks += _ramp(ends[k + 1] - ends[k], kelvin, kelvin, keep=True)
    return _run(system, blocks, hottest, timestep_fs=timestep_fs, seed=seed, start=start, save=save, progress=progress)


def _steps(duration_ps: float, timestep_fs: float, frames: int) -> int:
    """Number of steps of a run; raises `InputError` if it is smaller than the number of frames."""
    steps = round(1000.0 * duration_ps / timestep_fs)
    if steps < frames:
        raise InputError(
            f"initial.duration_ps: {duration_ps:g} ps are {steps} steps of {timestep_fs:g} fs, fewer than the {frames} "
            "frames to keep; raise initial.duration_ps"
        )
    return steps


def _ramp(steps: int, first: float, last: float, *, keep: bool = False) -> Iterator[_Block]:
    """Yield blocks whose temperatures follow a linear ramp from `first` to `last` (K).

    With `keep`, a frame is kept at the end of the last block.
    """
    for done in range(0, int(steps), _RAMP_STEPS):
        size = min(_RAMP_STEPS, int(steps) - done)
        kelvin = float(first + (last - first) * (done + 0.5 * size) / steps)
        yield _Block(size, kelvin, float(last) if keep and done + size == steps else None)


def _segments(blocks: Sequence[_Block], n_atoms: int) -> list[list[_Block]]:
    """Group the blocks into segments of about `SEGMENT_ATOM_STEPS` atoms times steps."""
    ends = np.cumsum([block.steps for block in blocks]) * n_atoms
    segment_of_block = (ends - 1) // SEGMENT_ATOM_STEPS
    return [
        [blocks[k] for k in np.flatnonzero(segment_of_block == segment).tolist()]
        for segment in np.unique(segment_of_block)
    ]


def _run(
    system: System,
    blocks: Sequence[_Block],
    first_kelvin: float,
    *,
    timestep_fs: float,
    seed: int,
    start: RunState | None,
    save: Save,
    progress: Progress,
) -> ClassicalFrames:
    """Run the blocks of a trajectory segment by segment, from the packed structure at `first_kelvin` or from a state.

    Raises:
        InputError: If the system has no classical force field, or the trajectory diverges.
    """
    kelvins = [block.kept_kelvin for block in blocks if block.kept_kelvin is not None]
    segments = _segments(blocks, len(system.frame))
    if start is None or start.segments < len(segments):
        md = open_classical_md(system, seed=derived_seed(seed, "velocities"), timestep_fs=timestep_fs)
        if start is None:
            progress(0, len(kelvins), "relaxing")
            md.minimise()
            md.thermalise(first_kelvin)
            start = RunState(0, md.positions, md.velocities, np.empty((0, len(system.frame), 3)))
    state = start
    kept = list(state.kept)
    progress(len(kept), len(kelvins))
    for number in range(state.segments, len(segments)):
        md.restart(state.positions, state.velocities, seed=derived_seed(seed, "segment", number))
        for block in segments[number]:
            try:
                md.advance(block.steps, block.kelvin)
            except FloatingPointError as error:
                raise InputError(
                    f"classical MD of {system.molecule.source} diverged at {block.kelvin:.0f} K ({error}); "
                    f"lower initial.timestep_fs (now {timestep_fs:g}) or initial.hot_kelvin"
                ) from error
            if block.kept_kelvin is not None:
                kept.append(md.positions)
            progress(len(kept), len(kelvins), f"{block.kelvin:.0f} K")
        state = RunState(number + 1, md.positions, md.velocities, np.array(kept).reshape(-1, len(system.frame), 3))
        save(state)
    return ClassicalFrames(
        frames=tuple(system.frame.with_positions(positions) for positions in kept),
        temperature_kelvin=np.array(kelvins),
    )
