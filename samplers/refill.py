"""Where a trajectory starts that takes the place of a stopped one: at a frame of this run that was fine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.frames import Frame
from samplers.replicas import Rules, Trajectory
from samplers.sampled import Rows

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

    def choose(self, stopped: Trajectory, *, stride_steps: int) -> Frame:
        """A frame to go on from: any but those of the stopped trajectory that led to its end, and where it started."""
        fine_until = stopped.stop_step - LEAD_STRIDES * stride_steps
        usable = [kept.frame for kept in self._kept if kept.trajectory != stopped.index or kept.step < fine_until]
        usable = usable or [start for start in self._starts if start is not stopped.start] or self._starts
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
        self._pool_of = {one.index: self._kind(one) for one in trajectories}
        self._pools = {
            kind: RefillPool(
                [one.start for one in trajectories if self._pool_of[one.index] == kind],
                seed=[seed, len(trajectories), number],
            )
            for number, kind in enumerate(dict.fromkeys(self._pool_of.values()))
        }
        self._attempts: dict[int, int] = {}

    @staticmethod
    def _kind(one: Trajectory) -> tuple[float, bytes]:
        return one.target_kelvin, one.start.numbers.tobytes()

    def learn(self, rows: Rows) -> None:
        """Take note of sampled frames."""
        columns = rows.columns
        names = ("replica", "step", "sound", f"deviation_{self._rules.deviation}")
        for frame, index, step, sound, deviation in zip(rows.frames, *(columns[name] for name in names), strict=True):
            if sound and deviation < self._rules.trusted_deviation:
                self._pools[self._pool_of[int(index)]].offer(frame, trajectory=int(index), step=int(step))

    def starting(self, stopped: Mapping[int, Trajectory], *, step: int) -> dict[int, Trajectory]:
        """A new trajectory for each place whose one was stopped, as long as it is worth it."""
        new: dict[int, Trajectory] = {}
        for place, one in stopped.items():
            attempt = self._attempts.get(one.slot, 0) + 1
            if attempt > MAX_REFILLS:
                continue
            self._attempts[one.slot] = attempt
            kind = self._pool_of[one.index]
            new[place] = Trajectory.begin(
                self._pools[kind].choose(one, stride_steps=self._stride_steps),
                index=len(self._pool_of),
                slot=one.slot,
                attempt=attempt,
                step=step,
                target_kelvin=one.target_kelvin,
                rules=self._rules,
                seed=self._seed,
            )
            self._pool_of[new[place].index] = kind
        return new
