"""Langevin MD of many replicas in one batch, driven by one member of a committee and watched by all of them.

The integrator is BAOAB (Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34): half kick, half drift, exact
Ornstein-Uhlenbeck step, half drift, half kick. Without friction it is velocity Verlet. The centre of mass of every
replica stays where it starts: initial velocities and noise are drawn without it, committee forces sum to zero, and the
wall hangs on the centre of mass. So a replica has 3N - 3 degrees of freedom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from al_engine.deviation import force_deviation
from al_engine.frames import FloatArray, Frame, IntArray
from al_engine.protocols import Committee, Progress, silent
from samplers.elements import BOLTZMANN_EV_PER_KELVIN, EV_IN_AMU_ANG2_PER_FS2, atomic_masses
from samplers.explosion import Bonds, Limits, StopReason
from samplers.walls import SphericalWall, centre_of_mass

_NOISE_STEPS = 64  # steps of noise drawn at a time: bounds memory, spreads the cost of the draw


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """What a batch of trajectories gave: S sampled frames of B replicas, in order of step, then replica.

    Attributes:
        frames: The sampled frames; their positions are finite.
        replica: Replica of each frame, shape (S,).
        step: Step of each frame, from 1, shape (S,).
        temperature_kelvin: Thermostat temperature of each frame's replica, shape (S,).
        kinetic_kelvin: Instantaneous kinetic temperature, shape (S,).
        energy: Potential energy by the driving member, eV, shape (S,); without the wall.
        deviation_norm: Largest force deviation (norm) over the atoms, eV/Å, shape (S,).
        deviation_component: Largest force deviation (component) over the atoms, eV/Å, shape (S,).
        worst_atom: Atom with the largest deviation (norm), shape (S,).
        sound: False for the frame on which a replica was stopped, shape (S,).
        final: Last sound structure of each replica (its start if there is none), length B.
        stop_reason: Why each replica ended, length B.
        stop_step: Step at which each replica ended, shape (B,).
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
    sound: np.ndarray
    final: tuple[Frame, ...]
    stop_reason: tuple[StopReason, ...]
    stop_step: IntArray


@dataclass(slots=True)
class _Replica:
    """One trajectory's own, wherever it stands in the batch: a stopped one leaves the others' numbers unchanged."""

    index: int
    frame: Frame  # last sound structure
    masses: FloatArray  # (n,) amu
    centre: FloatArray  # (3,) Å, centre of mass at the start
    target_kelvin: float
    limits: Limits
    rng: np.random.Generator
    reason: StopReason = StopReason.COMPLETED
    stop_step: int = 0

    def thermal_velocities(self, count: int, *, scale: float = 1.0) -> FloatArray:
        """Maxwell-Boltzmann velocities without the centre of mass's, Å/fs, shape (count, n, 3)."""
        spread = np.sqrt(BOLTZMANN_EV_PER_KELVIN * self.target_kelvin * EV_IN_AMU_ANG2_PER_FS2 / self.masses)
        velocities: FloatArray = self.rng.standard_normal((count, len(self.masses), 3))
        velocities *= scale * spread[:, None]
        momentum = np.einsum("i,sij->sj", self.masses, velocities)
        velocities -= (momentum / self.masses.sum())[:, None, :]
        return velocities

    def kinetic_kelvin(self, velocities: FloatArray) -> float:
        """Kinetic temperature in K of velocities in Å/fs, shape (n, 3)."""
        twice_kinetic = float(np.einsum("i,ij,ij->", self.masses, velocities, velocities)) / EV_IN_AMU_ANG2_PER_FS2
        return twice_kinetic / (max(3 * len(self.masses) - 3, 1) * BOLTZMANN_EV_PER_KELVIN)


class _WallForce:
    """Forces of a spherical wall about each replica's centre of mass, which does not move."""

    def __init__(self, wall: SphericalWall, replicas: Sequence[_Replica], device: torch.device) -> None:
        self._wall = wall
        self._lengths = torch.tensor([len(r.masses) for r in replicas], device=device)
        share = np.concatenate([r.masses / r.masses.sum() for r in replicas])[:, None]
        self._mass_share = torch.from_numpy(share).to(device)  # (T, 1)
        self._owner = torch.repeat_interleave(torch.arange(len(replicas), device=device), self._lengths)
        centres = np.repeat([r.centre for r in replicas], [len(r.masses) for r in replicas], axis=0)
        self._centre = torch.from_numpy(centres).to(device)  # (T, 3)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return torch.segment_reduce(values, "sum", lengths=self._lengths, axis=0)  # unlike index_add: deterministic

    def add_to(self, forces: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Forces (eV/Å, shape (T, 3)) with the wall's; the centre of mass takes the reaction, so they sum to zero."""
        outward = positions - self._centre
        distance = outward.norm(dim=1, keepdim=True).clamp_min(1e-9)
        push = outward * ((distance - self._wall.radius_ang).clamp_min(0.0) / distance * -self._wall.force_constant)
        return forces + push - self._mass_share * self._sum(push)[self._owner]


class _Batch:
    """The living replicas as one flat batch of T atoms on the committee's device."""

    def __init__(
        self,
        committee: Committee[torch.Tensor],
        replicas: list[_Replica],
        positions: torch.Tensor,
        velocities: torch.Tensor,
        *,
        driver: int,
        wall: SphericalWall | None,
    ) -> None:
        self.replicas = replicas
        self.positions, self.velocities = positions, velocities
        self.bound = committee.bind([r.frame for r in replicas])
        self._committee, self._driver, self._wall = committee, driver, wall
        self._wall_force = None if wall is None else _WallForce(wall, replicas, positions.device)
        masses = torch.from_numpy(np.concatenate([r.masses for r in replicas])).to(positions.device)
        self._inverse_mass = (EV_IN_AMU_ANG2_PER_FS2 / masses)[:, None]
        self.edges = np.cumsum([0, *(len(r.masses) for r in replicas)])

    def accelerate(self) -> None:
        """Evaluate the driver: energies (eV, shape (B,)) and accelerations (Å/fs², shape (T, 3))."""
        self.energies, forces = self.bound.energy_and_forces(self.positions, self._driver)
        if self._wall_force is not None:
            forces = self._wall_force.add_to(forces, self.positions)
        self.acceleration = forces * self._inverse_mass

    def advance(self, steps: int, *, timestep_fs: float, friction_per_fs: float) -> None:
        """Integrate some steps."""
        half = 0.5 * timestep_fs
        decay = float(np.exp(-friction_per_fs * timestep_fs))
        scale = float(np.sqrt(-np.expm1(-2.0 * friction_per_fs * timestep_fs)))
        x, v = self.positions, self.velocities
        for begin in range(0, steps, _NOISE_STEPS):
            count = min(_NOISE_STEPS, steps - begin)
            drawn = np.concatenate([r.thermal_velocities(count, scale=scale) for r in self.replicas], axis=1)
            for noise in torch.from_numpy(drawn).to(x.device):
                v.add_(self.acceleration, alpha=half)
                x.add_(v, alpha=half)
                if scale:
                    v.mul_(decay).add_(noise)
                x.add_(v, alpha=half)
                self.accelerate()
                v.add_(self.acceleration, alpha=half)

    def of(self, values: FloatArray, place: int) -> FloatArray:
        """The part of per-atom values, shape (T, ...), that belongs to the replica at a place."""
        part: FloatArray = values[self.edges[place] : self.edges[place + 1]]
        return part

    def kept(self, places: Sequence[int]) -> "_Batch":
        """The batch of only the replicas at some places."""
        atoms = torch.from_numpy(np.concatenate([np.arange(self.edges[p], self.edges[p + 1]) for p in places]))
        atoms = atoms.to(self.positions.device)
        fewer = _Batch(
            self._committee,
            [self.replicas[p] for p in places],
            self.positions[atoms].contiguous(),
            self.velocities[atoms].contiguous(),
            driver=self._driver,
            wall=self._wall,
        )
        fewer.acceleration = self.acceleration[atoms]
        return fewer


@dataclass(slots=True)
class _Record:
    frame: Frame
    replica: int
    step: int
    temperature_kelvin: float
    kinetic_kelvin: float
    energy: float
    deviation_norm: float
    deviation_component: float
    worst_atom: int
    sound: bool


def _inspect(batch: _Batch, step: int, records: list[_Record]) -> list[int]:
    """Evaluate the whole committee, record each replica's frame, and say which places go on."""
    positions = batch.positions.cpu().numpy()
    velocities = batch.velocities.cpu().numpy()
    energies = batch.energies.cpu().numpy()
    deviation = force_deviation(batch.bound.member_forces(batch.positions).cpu().numpy())
    going_on = []
    for place, replica in enumerate(batch.replicas):
        here, energy = batch.of(positions, place), float(energies[place])
        norm, component = batch.of(deviation.norm, place), batch.of(deviation.component, place)
        if not (np.isfinite(here).all() and np.isfinite(norm).all() and np.isfinite(energy)):
            replica.reason, replica.stop_step = StopReason.NOT_FINITE, step
            continue
        frame = replica.frame.with_positions(here)
        kinetic = replica.kinetic_kelvin(batch.of(velocities, place))
        broken = replica.limits.broken_by(frame, deviation=float(norm.max()), temperature_kelvin=kinetic)
        records.append(
            _Record(
                frame=frame,
                replica=replica.index,
                step=step,
                temperature_kelvin=replica.target_kelvin,
                kinetic_kelvin=kinetic,
                energy=energy,
                deviation_norm=float(norm.max()),
                deviation_component=float(component.max()),
                worst_atom=int(norm.argmax()),
                sound=broken is None,
            )
        )
        replica.stop_step = step
        if broken is None:
            replica.frame = frame
            going_on.append(place)
        else:
            replica.reason = broken
    return going_on


def _collected(records: Sequence[_Record], replicas: Sequence[_Replica]) -> Sampled:
    return Sampled(
        frames=tuple(r.frame for r in records),
        replica=np.array([r.replica for r in records], dtype=np.int64),
        step=np.array([r.step for r in records], dtype=np.int64),
        temperature_kelvin=np.array([r.temperature_kelvin for r in records], dtype=np.float64),
        kinetic_kelvin=np.array([r.kinetic_kelvin for r in records], dtype=np.float64),
        energy=np.array([r.energy for r in records], dtype=np.float64),
        deviation_norm=np.array([r.deviation_norm for r in records], dtype=np.float64),
        deviation_component=np.array([r.deviation_component for r in records], dtype=np.float64),
        worst_atom=np.array([r.worst_atom for r in records], dtype=np.int64),
        sound=np.array([r.sound for r in records], dtype=bool),
        final=tuple(r.frame for r in replicas),
        stop_reason=tuple(r.reason for r in replicas),
        stop_step=np.array([r.stop_step for r in replicas], dtype=np.int64),
    )


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
    driver: int = 0,
    wall: SphericalWall | None = None,
    bonds: Bonds | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Sampled:
    """Run one Langevin trajectory from each frame, all in one batch, and sample them at a stride.

    A replica that explodes (`StopReason`) is stopped at the sampled frame that shows it; the others go on as if it had
    never been there, in a smaller batch. Every replica has its own stream of random numbers.

    Args:
        committee: Gives forces as float64 torch tensors on `device`; the forces on a frame sum to zero.
        frames: Starting structures of the B replicas; sizes may differ.
        temperatures_kelvin: Thermostat temperature of each replica, shape (B,).
        steps: MD steps of each replica.
        timestep_fs: Time step, fs.
        friction_per_ps: Langevin friction, 1/ps; 0 conserves energy.
        stride_steps: Steps between two sampled frames; the first is sampled at this step.
        stop_deviation: Force deviation (norm) in eV/Å above which a replica is stopped.
        seed: Seed of velocities and noise.
        driver: The member whose forces move the atoms.
        wall: Spherical wall around each non-periodic cluster, or None.
        bonds: Bonds (the same in every frame) that must not break, or None.
        device: Where the committee's tensors live.
        progress: Told the steps done after each stride.

    Returns:
        The sampled frames and the end of each replica.

    Raises:
        ValueError: If the number of temperatures is not the number of frames, there are no frames, or a wall is put
            around periodic frames.
    """
    if not frames or len(temperatures_kelvin) != len(frames):
        raise ValueError(f"{len(frames)} frames and {len(temperatures_kelvin)} temperatures: one each, at least one")
    if wall is not None and any(frame.is_periodic for frame in frames):
        raise ValueError("a spherical wall is for clusters, not for periodic frames")
    replicas = [
        _Replica(
            index=index,
            frame=frame,
            masses=atomic_masses(frame.numbers),
            centre=centre_of_mass(frame),
            target_kelvin=float(kelvin),
            limits=Limits.of_replica(
                frame, target_kelvin=float(kelvin), stop_deviation=stop_deviation, wall=wall, bonds=bonds
            ),
            rng=np.random.default_rng([seed, index]),
        )
        for index, (frame, kelvin) in enumerate(zip(frames, temperatures_kelvin, strict=True))
    ]
    batch = _Batch(
        committee,
        replicas,
        torch.from_numpy(np.concatenate([frame.positions for frame in frames])).to(device),
        torch.from_numpy(np.concatenate([r.thermal_velocities(1)[0] for r in replicas])).to(device),
        driver=driver,
        wall=wall,
    )
    batch.accelerate()
    records: list[_Record] = []
    for done in range(stride_steps, steps + 1, stride_steps):
        batch.advance(stride_steps, timestep_fs=timestep_fs, friction_per_fs=friction_per_ps * 1e-3)
        going_on = _inspect(batch, done, records)
        progress(done, steps, f"{len(going_on)} of {len(replicas)} replicas")
        if not going_on:
            break
        if len(going_on) < len(batch.replicas):
            batch = batch.kept(going_on)
    return _collected(records, replicas)
