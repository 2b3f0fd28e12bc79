"""Results of sampling: a row for every sampled frame, handed on stride by stride, and the ends of the trajectories."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeAlias

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray
from samplers.dynamics.limits import StopReason
from samplers.dynamics.trajectory import Trajectory

COLUMNS: Mapping[str, type] = {
    "replica": np.int64,
    "step": np.int64,
    "temperature_kelvin": np.float64,
    "kinetic_kelvin": np.float64,
    "energy": np.float64,
    "deviation_norm": np.float64,
    "deviation_component": np.float64,
    "worst_atom": np.int64,
    "net_force_deviation": np.float64,
    "worst_molecule": np.int64,
    "sound": np.bool_,
}
"""Names and types of the columns of a sampled frame; `Sampled` describes them."""


@dataclass(slots=True, eq=False)
class Rows:
    """Sampled frames in order of step, then trajectory, and the columns of `COLUMNS` with an entry for every frame."""

    frames: list[Frame] = field(default_factory=list)
    columns: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def __len__(self) -> int:
        return len(self.frames)

    def add(self, frame: Frame, **values: float) -> None:
        """Add a frame and its value of every column."""
        self.frames.append(frame)
        for name, column in self.columns.items():
            column.append(values[name])

    def extend(self, other: "Rows") -> None:
        """Add all rows of another object at the end."""
        self.frames += other.frames
        for name, values in other.columns.items():
            self.columns[name].extend(values)

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns as arrays of shape (S,)."""
        return {name: np.array(self.columns[name], dtype=dtype) for name, dtype in COLUMNS.items()}


Sink: TypeAlias = Callable[[Rows], None]
"""A function that is called with the rows of each stride, which the sampler does not keep."""


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """The ends of the R trajectories: the first trajectories of all replica slots, then the replacements.

    Attributes:
        final: Last sound structure of each trajectory, or its start if it has none, length R.
        slot: Replica slot of each trajectory, shape (R,).
        start_step: Step of the run at which each trajectory started, shape (R,).
        stop_reason: Why each trajectory ended, length R.
        stop_step: Step of the run at which each trajectory ended, shape (R,).
    """

    final: tuple[Frame, ...]
    slot: IntArray
    start_step: IntArray
    stop_reason: tuple[StopReason, ...]
    stop_step: IntArray

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory]) -> Self:
        """The ends of trajectories in order of their index."""
        return cls(
            final=tuple(trajectory.last for trajectory in trajectories),
            slot=np.array([trajectory.slot for trajectory in trajectories], dtype=np.int64),
            start_step=np.array([trajectory.start_step for trajectory in trajectories], dtype=np.int64),
            stop_reason=tuple(trajectory.reason for trajectory in trajectories),
            stop_step=np.array([trajectory.stop_step for trajectory in trajectories], dtype=np.int64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """The results of a run in memory: S sampled frames of R trajectories, in order of step, then trajectory.

    Attributes:
        frames: The sampled frames; their positions are finite.
        replica: Trajectory of each frame, shape (S,).
        step: Step of each frame, from 1, shape (S,).
        temperature_kelvin: Thermostat temperature of each frame's trajectory, shape (S,).
        kinetic_kelvin: Instantaneous kinetic temperature, shape (S,).
        energy: Potential energy by the driver (a member or the mean) without the wall, eV, shape (S,).
        deviation_norm: Largest force deviation (norm) over the atoms, eV/Å, shape (S,).
        deviation_component: Largest force deviation (component) over the atoms, eV/Å, shape (S,).
        worst_atom: Atom with the largest deviation (norm), shape (S,).
        net_force_deviation: Largest deviation of the net force on a bonded fragment, eV/Å, shape (S,); NaN where no
            fragments were given.
        worst_molecule: Fragment with the largest deviation of its net force, shape (S,); -1 where no fragments were
            given.
        sound: False for the frame on which a trajectory was stopped, shape (S,).
        final, slot, start_step, stop_reason, stop_step: As in `Ends`.
    """

    frames: tuple[Frame, ...]
    replica: IntArray
    step: IntArray
    temperature_kelvin: FloatArray
    kinetic_kelvin: FloatArray
    energy: FloatArray
    deviation_norm: FloatArray
    deviation_component: FloatArray
    worst_atom: IntArray
    net_force_deviation: FloatArray
    worst_molecule: IntArray
    sound: BoolArray
    final: tuple[Frame, ...]
    slot: IntArray
    start_step: IntArray
    stop_reason: tuple[StopReason, ...]
    stop_step: IntArray

    @classmethod
    def of(cls, rows: Rows, ends: Ends) -> Self:
        """Combine rows and ends."""
        return cls(
            frames=tuple(rows.frames),
            **rows.arrays(),
            final=ends.final,
            slot=ends.slot,
            start_step=ends.start_step,
            stop_reason=ends.stop_reason,
            stop_step=ends.stop_step,
        )
