"""Settings of a run of Langevin dynamics: integration, rules that stop trajectories, and surroundings of the atoms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from al_engine.structures.bonds import Bonds
from al_engine.structures.frames import Frame, IntArray
from samplers.dynamics.barostat import Barostat
from samplers.dynamics.walls import SphericalWall


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """How long and how finely trajectories are integrated, and how often they are sampled.

    Attributes:
        steps: MD steps of each trajectory.
        stride_steps: Steps between two sampled frames; the first frame is sampled at this step. Steps beyond the last
            whole stride are not run.
        timestep_fs: Time step, fs.
        friction_per_ps: Langevin friction, 1/ps; 0 conserves the energy.
    """

    steps: int
    stride_steps: int
    timestep_fs: float
    friction_per_ps: float

    @property
    def friction_per_fs(self) -> float:
        """Langevin friction, 1/fs."""
        return self.friction_per_ps * 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRules:
    """When a trajectory is ended because the committee disagrees on its frames.

    Limits on the physics of a frame (`samplers.dynamics.limits`) hold in every run.

    Attributes:
        stop_deviation: Force deviation in eV/Å above which a trajectory is stopped at once.
        trusted_deviation: Force deviation in eV/Å above which a frame is not trusted.
        stop_strides: Number of successive sampled frames above `trusted_deviation` at which a trajectory is stopped.
        known_deviation: Force deviation in eV/Å above which a trusted frame is a candidate.
        saturated_strides: Number of successive candidates at which a trajectory ends as `StopReason.SATURATED`, and
            another trajectory starts from a frame below `known_deviation`; 0: no trajectory does.
        deviation: `norm` or `component`: the force deviation that all limits refer to.
    """

    stop_deviation: float
    trusted_deviation: float = np.inf
    stop_strides: int = 1
    known_deviation: float = np.inf
    saturated_strides: int = 0
    deviation: Literal["norm", "component"] = "norm"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surroundings:
    """Wall, bonds, barostat and fragments, shared by all trajectories of a run. The default is a vacuum.

    Attributes:
        wall: Spherical wall around each cluster, or None. Periodic frames take none.
        bonds: Bonds, the same in every frame, that must not break, or None.
        barostat: Barostat of periodic frames, or None: cells stay as they are.
        fragment_of_atom: Bonded fragment of each atom, the same in every frame, counted from 0 without gaps, shape
            (n,); with it, deviations of the fragments' net forces are sampled. None: they are not.
    """

    wall: SphericalWall | None = None
    bonds: Bonds | None = None
    barostat: Barostat | None = None
    fragment_of_atom: IntArray | None = None

    def refuse_unfit(self, frames: Sequence[Frame]) -> None:
        """Refuse frames that the wall or the barostat does not support.

        Raises:
            ValueError: If a wall is put around periodic frames, or a barostat is given and a frame is not periodic in
                all directions.
        """
        if self.wall is not None and any(frame.is_periodic for frame in frames):
            raise ValueError("a spherical wall is for clusters, not for periodic frames")
        if self.barostat is not None and not all(frame.pbc.all() for frame in frames):
            raise ValueError("a barostat is for frames that are periodic in all directions")
