"""Langevin dynamics of many trajectories as a single flat batch of atoms.

The integrator is BAOAB (Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34): half kick, half drift, exact
Ornstein-Uhlenbeck step, half drift, half kick. Without friction it is velocity Verlet. The centre of mass of every
trajectory does not move: initial velocities and noise are drawn without net momentum, the forces of the committee sum
to zero, and the wall is centred on the centre of mass. So a trajectory has 3N - 3 degrees of freedom.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from al_engine.protocols import Committee
from al_engine.structures.frames import FloatArray, Frame
from al_engine.units import EV_IN_AMU_ANG2_PER_FS2
from samplers.dynamics.batches import SplitForces, cpu_parts
from samplers.dynamics.trajectory import Trajectory
from samplers.dynamics.wall_force import WallForce
from samplers.dynamics.walls import SphericalWall

FASTEST_ANG_PER_FS = 1.0
"""Speed along an axis at which a trajectory is frozen: a hydrogen atom of this speed has 50 eV, ten bond energies."""
_NOISE_STEPS = 64  # steps whose noise is drawn at a time: bounds the memory, spreads the overhead of a draw


class Batch:
    """The running trajectories on the committee's device, T atoms in B places.

    A place is a position in the batch. At first it is the number of a replica slot; when places are dropped, the others
    are renumbered.

    A trajectory whose velocities are not finite or reach `FASTEST_ANG_PER_FS` is frozen within the step at finite
    positions. Until the next inspection it therefore disturbs neither the numbers nor the neighbour lists of the other
    trajectories.

    Args:
        committee: Gives forces as float64 torch tensors on `device`.
        trajectories: The trajectory that starts in each place.
        member: The member whose forces move the atoms; None for the committee's mean.
        wall: Spherical wall around each cluster, or None.
        device: Where the committee's tensors live.

    Attributes:
        trajectories: The trajectory in each place, length B.
        frames: The system in each place with its present cell, length B; the positions of these frames are outdated.
        forces: The committee, bound to the frames.
        positions: Å, shape (T, 3).
        velocities: Å/fs, shape (T, 3).
        energies: Potential energies without the wall in eV, shape (B,).
        acceleration: Å/fs², shape (T, 3).
        edges: Index of the first atom of each place, and T at the end, shape (B + 1,).
        frozen_at: Step of the run at which the trajectory of a place was frozen, 0 if it was not, shape (B,).
        empty: Places without a running trajectory.
    """

    def __init__(
        self,
        committee: Committee[torch.Tensor],
        trajectories: Sequence[Trajectory],
        *,
        member: int | None,
        wall: SphericalWall | None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._device, self._member, self._wall = torch.device(device), member, wall
        self.trajectories = list(trajectories)
        self.frames: list[Frame] = [trajectory.start for trajectory in trajectories]
        sizes = [len(frame) for frame in self.frames]
        parts = cpu_parts(sizes) if self._device.type == "cpu" else None
        self.forces = SplitForces(committee, self.frames, parts=parts)
        self.positions = self._tensor(np.concatenate([frame.positions for frame in self.frames]))
        self.velocities = self._tensor(
            np.concatenate([trajectory.thermal_velocities(1)[0] for trajectory in trajectories])
        )
        self.empty: set[int] = set()
        self.frozen_at = torch.zeros(len(sizes), dtype=torch.int64, device=self._device)
        self._lay_out()
        self.accelerate()

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device)

    def _lay_out(self) -> None:
        """Compute all quantities that follow from the assignment of trajectories to places."""
        masses = [trajectory.masses for trajectory in self.trajectories]
        sizes = [len(own) for own in masses]
        self.edges = np.cumsum([0, *sizes])
        self._sizes = torch.tensor(sizes, device=self._device)
        self._owner = torch.repeat_interleave(torch.arange(len(sizes), device=self._device), self._sizes)
        self._inverse_mass = (EV_IN_AMU_ANG2_PER_FS2 / self._tensor(np.concatenate(masses)))[:, None]
        self._any_frozen = bool((self.frozen_at > 0).any())
        self._wall_force = None
        if self._wall is not None:
            centres = [trajectory.centre for trajectory in self.trajectories]
            self._wall_force = WallForce(self._wall, masses=masses, centres=centres, device=self._device)

    def accelerate(self) -> None:
        """Evaluate energies and accelerations at the positions."""
        self.energies, forces = self.forces.energy_and_forces(self.positions, self._member)
        if self._wall_force is not None:
            forces = self._wall_force.add_to(forces, self.positions)
        self.acceleration = forces * self._inverse_mass

    def advance(self, steps: int, *, timestep_fs: float, friction_per_fs: float, after: int = 0) -> None:
        """Integrate a number of steps.

        Args:
            steps: Number of steps.
            timestep_fs: Time step, fs.
            friction_per_fs: Langevin friction, 1/fs.
            after: Number of steps of the run that were done before.
        """
        half = 0.5 * timestep_fs
        decay = float(np.exp(-friction_per_fs * timestep_fs))
        scale = float(np.sqrt(-np.expm1(-2.0 * friction_per_fs * timestep_fs)))
        x, v = self.positions, self.velocities
        for begin in range(0, steps, _NOISE_STEPS):
            count = min(_NOISE_STEPS, steps - begin)
            drawn = np.concatenate(
                [trajectory.thermal_velocities(count, scale=scale) for trajectory in self.trajectories], axis=1
            )
            for step, noise in enumerate(self._tensor(drawn), start=after + begin + 1):
                v.add_(self.acceleration, alpha=half)
                self._freeze_wild(step)
                x.add_(v, alpha=half)
                if scale:
                    v.mul_(decay).add_(noise)
                    self._hold_frozen()
                x.add_(v, alpha=half)
                self.accelerate()
                v.add_(self.acceleration, alpha=half)

    def _freeze_wild(self, step: int) -> None:
        """Freeze the trajectory of every place with a velocity that is not finite or reaches `FASTEST_ANG_PER_FS`."""
        on_cpu = self._device.type == "cpu"  # on a GPU, reading a value would stall the queue of kernels
        if on_cpu and not self._any_frozen:
            fastest = float(torch.linalg.vector_norm(self.velocities, ord=torch.inf))
            if fastest < FASTEST_ANG_PER_FS:
                return
        calm = self.velocities.abs().amax(dim=1) < FASTEST_ANG_PER_FS  # False for NaN
        held = torch.segment_reduce(calm.double(), "min", lengths=self._sizes) > 0
        self.frozen_at = torch.where(held | (self.frozen_at > 0), self.frozen_at, step)
        self._any_frozen = True
        self._hold_frozen()

    def _hold_frozen(self) -> None:
        """Set the velocities of frozen trajectories to zero."""
        if self._any_frozen:
            frozen = (self.frozen_at > 0)[self._owner, None]
            self.velocities.masked_fill_(frozen, 0.0)

    # -- volumes ------------------------------------------------------------------------------------------------

    def change_volumes(self) -> None:
        """Try a move of the volume of every running trajectory that has a barostat."""
        positions, frozen_at = self.positions.cpu().numpy(), self.frozen_at.cpu().numpy()
        moves = {
            place: trajectory.volume_moves
            for place, trajectory in enumerate(self.trajectories)
            if trajectory.volume_moves is not None and not frozen_at[place]
        }
        before = {place: self.frames[place].with_positions(self.values_at(place, positions)) for place in moves}
        proposed = {place: own.propose(before[place]) for place, own in moves.items()}
        trials = {place: trial for place, trial in proposed.items() if trial is not None}
        if not trials:
            return
        energies, acceleration = self.energies, self.acceleration
        self._move(trials)
        self.accelerate()
        changes = (self.energies - energies).cpu().numpy()
        accepted = {
            place
            for place, trial in trials.items()
            if moves[place].accept(before[place], trial, energy_change=float(changes[place]))
        }
        self._move({place: before[place] for place in trials if place not in accepted})
        self._restore(energies, acceleration, excluding=accepted)

    def _move(self, frames: Mapping[int, Frame]) -> None:
        """Set positions and cells in the given places; energies and accelerations stay as they are."""
        for place, frame in frames.items():
            self.frames[place] = frame
            self.positions[self._atoms(place)] = self._tensor(frame.positions.copy())
        self.forces.rebind(frames)

    def _restore(self, energies: torch.Tensor, acceleration: torch.Tensor, *, excluding: Collection[int]) -> None:
        """Set energies and accelerations back to an earlier evaluation, bit for bit, except in the places excluded."""
        for place in range(len(self.trajectories)):
            if place not in excluding:
                atoms = self._atoms(place)
                self.energies[place], self.acceleration[atoms] = energies[place], acceleration[atoms]

    # -- trajectories and places --------------------------------------------------------------------------------

    def _atoms(self, place: int) -> slice:
        """The range of a place's atoms in arrays of shape (T, ...)."""
        return slice(int(self.edges[place]), int(self.edges[place + 1]))

    def values_at(self, place: int, values: FloatArray) -> FloatArray:
        """Select the values of a place's atoms, shape (n, ...), from the values of all atoms, shape (T, ...)."""
        selected: FloatArray = values[self._atoms(place)]
        return selected

    def put(self, starting: dict[int, Trajectory]) -> None:
        """Start trajectories in places whose former trajectories had the same number of atoms."""
        changed = {}
        for place, trajectory in starting.items():
            atoms = self._atoms(place)
            if not np.array_equal(self.frames[place].cell, trajectory.start.cell):
                changed[place] = trajectory.start
            self.trajectories[place], self.frames[place] = trajectory, trajectory.start
            self.positions[atoms] = self._tensor(trajectory.start.positions.copy())
            self.velocities[atoms] = self._tensor(trajectory.thermal_velocities(1)[0])
            self.frozen_at[place] = 0
        self.forces.rebind(changed)
        self._lay_out()
        energies, acceleration = self.energies, self.acceleration
        self.accelerate()
        self._restore(energies, acceleration, excluding=starting)

    def vacate(self, places: Collection[int], *, step: int) -> None:
        """Leave the places of stopped trajectories empty.

        The atoms in an empty place stand still and are still evaluated, so that the other trajectories of its part keep
        their neighbour lists, and thus their numbers bit for bit. A part that has only empty places is dropped.

        Args:
            places: The places.
            step: Step of the run.
        """
        self.empty |= set(places)
        for place in places:
            self.frozen_at[place] = step
        self._any_frozen = True
        self._hold_frozen()
        gone = {place for part in self.forces.parts if self.empty.issuperset(part) for place in part}
        if gone:
            self._keep([place for place in range(len(self.trajectories)) if place not in gone])

    def _keep(self, places: Sequence[int]) -> None:
        """Drop all places except the given places (ascending), which are renumbered."""
        atoms = self._tensor(np.concatenate([np.arange(self.edges[p], self.edges[p + 1]) for p in places]))
        kept = self._tensor(np.asarray(places, dtype=np.int64))
        self.positions, self.velocities = self.positions[atoms].contiguous(), self.velocities[atoms].contiguous()
        self.acceleration, self.energies = self.acceleration[atoms], self.energies[kept]
        self.frozen_at = self.frozen_at[kept]
        self.empty = {new for new, place in enumerate(places) if place in self.empty}
        self.trajectories = [self.trajectories[p] for p in places]
        self.frames = [self.frames[p] for p in places]
        self.forces.keep(places)
        self._lay_out()
