"""Where a trajectory starts that takes the place of a stopped one: at a frame of this run that was fine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.structures.frames import Frame
from samplers.dynamics.rows import Rows
from samplers.dynamics.trajectory import Rules, Trajectory

MAX_REFILLS = 8
"""Trajectories that take a place after the first one; then it stays empty: the model is not fit for the temperature."""
KEPT_FRAMES = 64
"""Frames held at each temperature, a uniform sample of all that were fine: memory does not grow with the run."""

LEAD_STRIDES = 10
"""Last strides of a trajectory before it was stopped, from which none goes on: what ended it had begun there."""


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    frame: Frame
    trajectory: int
    step: int


class RefillPool:
    """A bounded uniform sample, by Vitter's algorithm R, of the sound and trusted frames of one temperature.

    Args:
        starts: Frames the run's trajectories start from: taken where no frame of the run will do.
        seed: Seed of the sample and of the choices, one of a run and temperature.
    """

    def __init__(self, starts: Sequence[Frame], *, seed: Sequence[int]) -> None:
        self._starts = list(starts)
        self._rng = np.random.default_rng(seed)
        self._kept: list[_Kept] = []
        self._seen = 0

    def offer(self, frame: Frame, *, trajectory: int, step: int) -> None:
        """A sound and trusted frame."""
        self._seen += 1
        kept = _Kept(frame, trajectory, step)
        if len(self._kept) < KEPT_FRAMES:
            self._kept.append(kept)
        elif (index := int(self._rng.integers(self._seen))) < KEPT_FRAMES:
            self._kept[index] = kept

    def forget(self, *, trajectory: int, since: int) -> None:
        """Frames of a trajectory from a step on: they led to its end."""
        self._kept = [kept for kept in self._kept if kept.trajectory != trajectory or kept.step < since]

    def choose(self, *, but: Frame) -> Frame:
        """A frame to go on from; where there is none, one that a trajectory of the run started from.

        Args:
            but: Where the trajectory started that was stopped: it does not start there again if there is a choice.
        """
        frames = [kept.frame for kept in self._kept] or self._starts
        usable = [frame for frame in frames if frame is not but] or frames
        return usable[int(self._rng.integers(len(usable)))]


class Refills:
    """The trajectories that take the places of stopped ones in a run.

    Args:
        trajectories: Those the run begins with.
        rules: What all are held to.
        seed: Seed of the run.
        stride_steps: Steps between two looks at the trajectories.
    """

    def __init__(self, trajectories: Sequence[Trajectory], *, rules: Rules, seed: int, stride_steps: int) -> None:
        self._rules, self._seed, self._stride_steps = rules, seed, stride_steps
        kinds = {one.index: (one.target_kelvin, one.start.numbers.tobytes()) for one in trajectories}
        pools = {
            kind: RefillPool(
                [one.start for one in trajectories if kinds[one.index] == kind],
                seed=[seed, len(trajectories), number],  # the trajectories' own have a slot in the second place
            )
            for number, kind in enumerate(dict.fromkeys(kinds.values()))
        }
        self._pool_of = {index: pools[kind] for index, kind in kinds.items()}
        self._attempts: dict[int, int] = {}

    def learn(self, rows: Rows) -> None:
        """Take note of sampled frames."""
        columns = rows.columns
        names = ("replica", "step", "sound", f"deviation_{self._rules.deviation}")
        for frame, index, step, sound, deviation in zip(rows.frames, *(columns[name] for name in names), strict=True):
            if sound and deviation < self._rules.trusted_deviation:
                self._pool_of[int(index)].offer(frame, trajectory=int(index), step=int(step))

    def starting(self, stopped: Mapping[int, Trajectory], *, step: int) -> dict[int, Trajectory]:
        """A new trajectory for each place whose one was stopped, as long as it is worth it."""
        for one in stopped.values():
            self._pool_of[one.index].forget(
                trajectory=one.index, since=one.stop_step - LEAD_STRIDES * self._stride_steps
            )
        new: dict[int, Trajectory] = {}
        for place, one in stopped.items():
            attempt = self._attempts.get(one.slot, 0) + 1
            if attempt > MAX_REFILLS:
                continue
            self._attempts[one.slot] = attempt
            new[place] = Trajectory.begin(
                self._pool_of[one.index].choose(but=one.start),
                index=len(self._pool_of),
                slot=one.slot,
                attempt=attempt,
                step=step,
                target_kelvin=one.target_kelvin,
                rules=self._rules,
                seed=self._seed,
            )
            self._pool_of[new[place].index] = self._pool_of[one.index]
        return new
