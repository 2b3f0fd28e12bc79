"""Frames from classical MD: an anneal from hot to cold, and runs at one temperature for the test set."""

from dataclasses import dataclass

import numpy as np

from al_engine.errors import InputError
from al_engine.frames import FloatArray, Frame
from al_engine.protocols import Progress, silent
from samplers.classical import ClassicalMD, open_classical_md
from samplers.system import System

_RAMP_STEPS = 50  # steps between two settings of the thermostat
_COOLING_SHARE = 0.25  # of a constant-temperature run: from hot to its temperature, and settling there


@dataclass(frozen=True, slots=True, eq=False)
class ClassicalFrames:
    """Frames of a classical trajectory in order of time, and the thermostat's temperature (K, shape (S,)) at each."""

    frames: tuple[Frame, ...]
    temperature_kelvin: FloatArray


def anneal(
    system: System,
    *,
    hot_kelvin: float,
    cold_kelvin: float,
    duration_ps: float,
    frames: int,
    timestep_fs: float,
    seed: int,
    progress: Progress = silent,
) -> ClassicalFrames:
    """Cool linearly from hot to cold and keep frames evenly spaced in time; the last one is at `cold_kelvin`.

    Raises:
        InputError: If the system has no classical force field, the anneal is shorter than its frames, or blows up.
    """
    steps = _steps(duration_ps, timestep_fs, frames)
    md = _started(system, kelvin=hot_kelvin, seed=seed, timestep_fs=timestep_fs)
    ends = np.linspace(0, steps, frames + 1).round().astype(int)
    kelvins = hot_kelvin + (cold_kelvin - hot_kelvin) * ends / steps
    kept = []
    for k in range(frames):
        _ramp(md, ends[k + 1] - ends[k], kelvins[k], kelvins[k + 1], system=system, timestep_fs=timestep_fs)
        kept.append(system.frame.with_positions(md.positions))
        progress(k + 1, frames, f"{kelvins[k + 1]:.0f} K")
    return ClassicalFrames(frames=tuple(kept), temperature_kelvin=kelvins[1:])


def constant_temperature_frames(
    system: System,
    *,
    kelvin: float,
    hot_kelvin: float,
    duration_ps: float,
    frames: int,
    timestep_fs: float,
    seed: int,
    progress: Progress = silent,
) -> ClassicalFrames:
    """Frames evenly spaced over a run at one temperature, after a quarter of the time to cool from hot and settle.

    Starting hot lets flexible molecules leave the conformer they were built in, so that the run is independent of
    another one of the same system.

    Raises:
        InputError: As `anneal`.
    """
    steps = _steps(duration_ps, timestep_fs, frames + 1)
    md = _started(system, kelvin=max(hot_kelvin, kelvin), seed=seed, timestep_fs=timestep_fs)
    cooling = max(1, int(_COOLING_SHARE * steps / 2))
    _ramp(md, cooling, max(hot_kelvin, kelvin), kelvin, system=system, timestep_fs=timestep_fs)
    _ramp(md, cooling, kelvin, kelvin, system=system, timestep_fs=timestep_fs)
    ends = np.linspace(0, max(steps - 2 * cooling, frames), frames + 1).round().astype(int)
    kept = []
    for k in range(frames):
        _ramp(md, ends[k + 1] - ends[k], kelvin, kelvin, system=system, timestep_fs=timestep_fs)
        kept.append(system.frame.with_positions(md.positions))
        progress(k + 1, frames, f"{kelvin:.0f} K")
    return ClassicalFrames(frames=tuple(kept), temperature_kelvin=np.full(frames, float(kelvin)))


def _steps(duration_ps: float, timestep_fs: float, frames: int) -> int:
    steps = round(1000.0 * duration_ps / timestep_fs)
    if steps < frames:
        raise InputError(
            f"initial.duration_ps: {duration_ps:g} ps are {steps} steps of {timestep_fs:g} fs, fewer than the {frames} "
            "frames wanted; make it longer"
        )
    return steps


def _started(system: System, *, kelvin: float, seed: int, timestep_fs: float) -> ClassicalMD:
    md = open_classical_md(system, seed=seed, timestep_fs=timestep_fs)
    md.minimise()
    md.thermalise(kelvin)
    return md


def _ramp(md: ClassicalMD, steps: int, start: float, end: float, *, system: System, timestep_fs: float) -> None:
    """Advance while the thermostat goes linearly from start to end, K."""
    done = 0
    while done < steps:
        block = min(_RAMP_STEPS, steps - done)
        kelvin = start + (end - start) * (done + 0.5 * block) / steps
        try:
            md.advance(int(block), float(kelvin))
        except FloatingPointError as error:
            raise InputError(
                f"classical MD of {system.molecule.source} blew up at {kelvin:.0f} K ({error}); "
                f"lower initial.timestep_fs (now {timestep_fs:g}) or initial.hot_kelvin"
            ) from error
        done += block
