"""Replacement trajectories: they take over the replica slot of an ended trajectory, from a sound frame of the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.structures.frames import Frame
from samplers.dynamics.limits import StopReason
from samplers.dynamics.rows import Rows
from samplers.dynamics.settings import StopRules, Surroundings
from samplers.dynamics.trajectory import Trajectory

MAX_REFILLS = 8
"""Largest number of replacements of stopped trajectories per replica slot. The slot then stays empty: the model fails
at its temperature. Replacements of saturated trajectories do not count."""
KEPT_FRAMES = 64
"""Largest number of frames in the sample of a temperature. The limit keeps memory from growing with the run."""
LEAD_STRIDES = 10
"""Strides before the end of a stopped trajectory whose frames are not used, because they may lead to the same end."""


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A frame of the sample, and the trajectory and step of the run that it is from."""

    frame: Frame
    trajectory: int
    step: int


class RefillPool:
    """A bounded uniform sample of the frames of a temperature that replacements may start from.

    The sample is drawn by Vitter's algorithm R (ACM Trans. Math. Softw. 11, 37 (1985)).

    Args:
        starts: Frames from which the run's trajectories start; they are drawn while the sample is empty.
        seed: Seed of the sample and of the choices; it differs between runs and temperatures.
    """

    def __init__(self, starts: Sequence[Frame], *, seed: Sequence[int]) -> None:
        self._starts = list(starts)
        self._rng = np.random.default_rng(seed)
        self._kept: list[_Kept] = []
        self._seen = 0

    def offer(self, frame: Frame, *, trajectory: int, step: int) -> None:
        """Offer a frame to the sample, which may keep it."""
        self._seen += 1
        kept = _Kept(frame, trajectory, step)
        if len(self._kept) < KEPT_FRAMES:
            self._kept.append(kept)
        elif (index := int(self._rng.integers(self._seen))) < KEPT_FRAMES:
            self._kept[index] = kept

    @property
    def has_frames(self) -> bool:
        """Whether the sample holds a frame."""
        return bool(self._kept)

    def forget(self, *, trajectory: int, since: int) -> None:
        """Drop the frames of a trajectory from a step on: they led to its end.

        The number of frames seen shrinks by the same share, so that later frames are not kept more often than others.
        """
        before = len(self._kept)
        self._kept = [kept for kept in self._kept if kept.trajectory != trajectory or kept.step < since]
        if before:
            self._seen = round(self._seen * len(self._kept) / before)

    def choose(self, *, excluding: Frame) -> Frame:
        """Draw a frame of the sample, or a starting frame of the run if the sample is empty.

        Args:
            excluding: The start of the trajectory that was stopped; it is drawn only if there is no other frame.
        """
        frames = [kept.frame for kept in self._kept] or self._starts
        usable = [frame for frame in frames if frame is not excluding] or frames
        return usable[int(self._rng.integers(len(usable)))]


class Refills:
    """The replacement trajectories of a run.

    Args:
        trajectories: The trajectories with which the run begins.
        stop: When trajectories are stopped for their force deviation.
        surroundings: Wall, bonds and barostat of all trajectories.
        seed: Seed of the run.
        stride_steps: Steps between two inspections of the trajectories.
    """

    def __init__(
        self,
        trajectories: Sequence[Trajectory],
        *,
        stop: StopRules,
        surroundings: Surroundings,
        seed: int,
        stride_steps: int,
    ) -> None:
        self._stop, self._surroundings = stop, surroundings
        self._seed, self._stride_steps = seed, stride_steps
        kinds = {
            trajectory.index: (trajectory.target_kelvin, trajectory.start.numbers.tobytes())
            for trajectory in trajectories
        }
        pools = {
            kind: RefillPool(
                [trajectory.start for trajectory in trajectories if kinds[trajectory.index] == kind],
                seed=[seed, len(trajectories), number],  # a trajectory's own seed has its slot in the second place
            )
            for number, kind in enumerate(dict.fromkeys(kinds.values()))
        }
        self._pool_of = {index: pools[kind] for index, kind in kinds.items()}
        self._attempts: dict[int, int] = {}
        self._failures: dict[int, int] = {}

    @property
    def has_known(self) -> bool:
        """Whether every temperature has a frame that replacements may start from, besides the starts of the run."""
        return all(pool.has_frames for pool in self._pool_of.values())

    def learn(self, rows: Rows) -> None:
        """Offer the sound, trusted and known frames among sampled frames to the pools (`StopRules`)."""
        columns = rows.columns
        names = ("replica", "step", "sound", f"deviation_{self._stop.deviation}")
        for frame, index, step, sound, deviation in zip(rows.frames, *(columns[name] for name in names), strict=True):
            if sound and deviation < min(self._stop.trusted_deviation, self._stop.known_deviation):
                self._pool_of[int(index)].offer(frame, trajectory=int(index), step=int(step))

    def starting(self, stopped: Mapping[int, Trajectory], *, step: int) -> dict[int, Trajectory]:
        """Begin a replacement for each ended trajectory whose slot has had at most `MAX_REFILLS` stopped trajectories.

        Args:
            stopped: The trajectories that were stopped or saturated, by their places in the batch.
            step: Step of the run.

        Returns:
            The replacements by their places in the batch.
        """
        for trajectory in stopped.values():
            self._pool_of[trajectory.index].forget(
                trajectory=trajectory.index, since=trajectory.stop_step - LEAD_STRIDES * self._stride_steps
            )
        new: dict[int, Trajectory] = {}
        for place, trajectory in stopped.items():
            slot = trajectory.slot
            failures = self._failures.get(slot, 0) + (trajectory.reason is not StopReason.SATURATED)
            if failures > MAX_REFILLS:
                continue
            attempt = self._attempts.get(slot, 0) + 1
            self._attempts[slot], self._failures[slot] = attempt, failures
            new[place] = Trajectory.begin(
                self._pool_of[trajectory.index].choose(excluding=trajectory.start),
                index=len(self._pool_of),
                slot=slot,
                attempt=attempt,
                step=step,
                target_kelvin=trajectory.target_kelvin,
                stop=self._stop,
                surroundings=self._surroundings,
                seed=self._seed,
            )
            self._pool_of[new[place].index] = self._pool_of[trajectory.index]
        return new
