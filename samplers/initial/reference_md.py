"""Initial frames from MD by the reference method itself, for systems that no classical force field describes.

The trajectories of the training set have temperatures from hot to cold; those of the test set have the sampling
temperatures. All run as a single batch, each from its own packing. Of a molecule on its own, trajectories of the test
set start from other conformers. The sampler of the committee-driven MD integrates them with the reference method as a
committee of a single member.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from al_engine.config import InitialConfig
from al_engine.errors import InputError
from al_engine.protocols import Progress, Reference, silent
from al_engine.seeds import derived_seed
from al_engine.structures.frames import FloatArray, Frame
from samplers.building.system import System, independent_start, repacked, unpaired_of_copy
from samplers.classical.anneal import RunState, Save, forget
from samplers.classical.anneal_checkpoint import AnnealCheckpoint
from samplers.dynamics.langevin import run_langevin
from samplers.dynamics.rows import Rows
from samplers.dynamics.settings import Integration, StopRules, Surroundings
from samplers.dynamics.walls import SphericalWall, extent
from samplers.initial.reference_geometry import relaxed_molecule
from samplers.initial.reference_plan import SETTLING_STRIDES, Plan, plan

ROUND_STRIDES = 4
"""Strides of a round. The state is saved at the end of each round, so a kill costs at most a round."""
FRICTION_PER_PS = 10.0
"""Langevin friction, 1/ps."""
_WALL_MARGIN_ANG = 2.0
"""Distance of the wall from the outermost atom of all packings, Å."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceFrames:
    """Frames of the training set and of the test set, and the thermostat's temperature of each frame in K."""

    train: tuple[Frame, ...]
    train_kelvin: FloatArray
    test: tuple[Frame, ...]
    test_kelvin: FloatArray


def reference_frames(
    system: System,
    config: InitialConfig,
    temperatures_kelvin: Sequence[float],
    *,
    reference: Reference,
    seed: int,
    checkpoint: AnnealCheckpoint | None = None,
    progress: Progress = silent,
) -> ReferenceFrames:
    """Run the MD.

    Args:
        system: The packed system; its molecules are at rest by the reference method.
        config: The `initial` section.
        temperatures_kelvin: Temperatures over which the test set is spread, K.
        reference: The reference method.
        seed: Seed of packings, conformers, velocities and noise.
        checkpoint: Stores the state of the run, for the atoms of all replica slots together; None: no state is stored.
        progress: Called with the number of frames sampled so far and the number of all frames.

    Raises:
        InputError: If trajectories end early and leave fewer sound frames than the config asks for.
    """
    planned = plan(config, temperatures_kelvin)
    frames = _starts(system, planned, reference=reference, seed=seed, checkpoint=checkpoint)
    wall = None
    if not system.frame.is_periodic:
        wall = SphericalWall(max(extent(frame) for frame in frames) + _WALL_MARGIN_ANG)
    state = None if checkpoint is None else checkpoint.state("reference")
    if state is None:
        state = _state(0, frames, np.empty((0, len(frames) * len(system.frame), 3)))
    save: Save = forget if checkpoint is None else checkpoint.saver("reference")
    committee = _CommitteeOfOne(reference)
    while len(state.kept) < planned.strides:
        strides = min(ROUND_STRIDES, planned.strides - len(state.kept))
        rows = Rows()
        sampled = run_langevin(
            committee,
            _split(state.positions, system.frame),
            temperatures_kelvin=planned.kelvins,
            integration=Integration(
                steps=strides * config.reference_stride_steps,
                stride_steps=config.reference_stride_steps,
                timestep_fs=config.timestep_fs,
                friction_per_ps=FRICTION_PER_PS,
            ),
            stop=StopRules(stop_deviation=np.inf),
            surroundings=Surroundings(wall=wall, bonds=system.bonds),
            seed=derived_seed(seed, "reference round", state.segments),
            refill=True,
            sink=rows.extend,
            progress=_counting(
                progress, strides_before=len(state.kept), strides=planned.strides, replicas=len(frames), config=config
            ),
        )
        kept = _grid(
            rows,
            sampled.slot,
            strides=strides,
            stride_steps=config.reference_stride_steps,
            planned=planned,
            n_atoms=len(system.frame),
        )
        last = {int(slot): frame for slot, frame in zip(sampled.slot, sampled.final, strict=True)}
        state = _state(
            state.segments + 1, [last[slot] for slot in range(len(last))], np.concatenate([state.kept, kept])
        )
        save(state)
    return _chosen(state.kept[SETTLING_STRIDES:], planned, system.frame, config)


def _starts(
    system: System, planned: Plan, *, reference: Reference, seed: int, checkpoint: AnnealCheckpoint | None
) -> list[Frame]:
    """The frame from which each trajectory starts, from the checkpoint if it has them."""
    stored = None if checkpoint is None else checkpoint.state("starts")
    if stored is not None:
        return _split(stored.positions, system.frame)
    frames = []
    for k in range(len(planned.kelvins)):
        own = derived_seed(seed, "reference packing", k)
        is_train = k < len(planned.train_kelvin)
        frames.append(
            repacked(system, seed=own).frame if is_train else _test_start(system, reference=reference, seed=own)
        )
    if checkpoint is not None:
        checkpoint.saver("starts")(_state(0, frames, np.empty((0, len(frames) * len(system.frame), 3))))
    return frames


def _test_start(system: System, *, reference: Reference, seed: int) -> Frame:
    """The frame from which a trajectory of the test set starts: a conformer is relaxed by the reference method."""
    start = independent_start(system, seed=seed)
    if start is system or system.n_molecules > 1:
        return start.frame
    conformer = replace(system.molecule, positions=start.frame.positions)
    try:
        positions = relaxed_molecule(conformer, unpaired_of_copy(system), reference).positions
    except InputError:  # the method fails on this conformer
        return system.frame
    return system.frame.with_positions(positions - positions.mean(axis=0))


def _counting(
    progress: Progress, *, strides_before: int, strides: int, replicas: int, config: InitialConfig
) -> Progress:
    """Report the progress of a round as frames of the whole run."""

    def report(done: int, total: int, note: str = "") -> None:
        del total  # counts only the steps of this round
        progress((strides_before + done // config.reference_stride_steps) * replicas, strides * replicas, note)

    return report


def _state(rounds: int, frames: Sequence[Frame], kept: FloatArray) -> RunState:
    """The state after a number of rounds; velocities are zero, because each round draws new ones."""
    positions = np.concatenate([frame.positions for frame in frames])
    return RunState(rounds, positions, np.zeros_like(positions), kept)


def _split(positions: FloatArray, frame: Frame) -> list[Frame]:
    """Frames of R equal systems from their concatenated positions in Å, shape (R N, 3)."""
    return [frame.with_positions(of_system) for of_system in positions.reshape(-1, len(frame), 3)]


def _grid(rows: Rows, slots: np.ndarray, *, strides: int, stride_steps: int, planned: Plan, n_atoms: int) -> FloatArray:
    """Positions in Å of the sound frames, shape (strides, R N, 3) for R replica slots; NaN without a sound frame.

    `slots` is the replica slot of each trajectory, an integer array; a replacement trajectory fills the rows of its
    slot.
    """
    grid = np.full((strides, len(planned.kelvins), n_atoms, 3), np.nan)
    arrays = rows.arrays()
    for frame, replica, step, sound in zip(
        rows.frames, arrays["replica"], arrays["step"], arrays["sound"], strict=True
    ):
        if sound:
            grid[step // stride_steps - 1, slots[replica]] = frame.positions
    return grid.reshape(strides, -1, 3)


def _chosen(kept: FloatArray, planned: Plan, frame: Frame, config: InitialConfig) -> ReferenceFrames:
    """Choose the wanted number of frames, spread evenly over all sound frames in order of trajectory, then time.

    In this order, each trajectory and so each temperature gives its share, whatever the numbers are.
    """
    grid = kept.reshape(len(kept), len(planned.kelvins), len(frame), 3)
    sets = []
    for replicas, wanted, name in (
        (range(len(planned.train_kelvin)), config.frames, "initial.frames"),
        (range(len(planned.train_kelvin), len(planned.kelvins)), config.test_frames, "initial.test_frames"),
    ):
        found = [
            (frame.with_positions(grid[stride, replica]), planned.kelvins[replica])
            for replica in replicas
            for stride in range(len(grid))
            if np.isfinite(grid[stride, replica]).all()
        ]
        if len(found) < wanted:
            raise InputError(
                f"MD by the reference method gave {len(found)} sound frames, {name} asks for {wanted}: trajectories "
                "ended early because molecules came apart or labels failed; lower initial.hot_kelvin, or bring your "
                "own frames (initial.source: file)"
            )
        indices = np.floor(np.arange(wanted) * len(found) / wanted).astype(int)
        sets.append([found[index] for index in indices])
    train, test = sets
    return ReferenceFrames(
        train=tuple(sound for sound, _ in train),
        train_kelvin=np.array([kelvin for _, kelvin in train]),
        test=tuple(sound for sound, _ in test),
        test_kelvin=np.array([kelvin for _, kelvin in test]),
    )


class _CommitteeOfOne:
    """The reference method as a committee (`al_engine.protocols.Committee`) of a single member."""

    n_members = 1

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def bind(self, frames: Sequence[Frame]) -> "_Bound":
        return _Bound(self._reference, frames)


class _Bound:
    """The reference method bound to frames; forces are NaN where it fails, so that the trajectory is stopped.

    The sampler asks for the deviation at positions whose forces it has just asked for. The last labels are therefore
    kept with their positions, and not computed twice.
    """

    def __init__(self, reference: Reference, frames: Sequence[Frame]) -> None:
        self._reference, self._frames = reference, list(frames)
        self._ends = np.cumsum([0, *(len(frame) for frame in frames)])
        self._last: tuple[bytes, torch.Tensor, torch.Tensor] | None = None

    def energy_and_forces(self, positions: torch.Tensor, member: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        del member
        values = positions.numpy()
        content = values.tobytes()
        if self._last is None or self._last[0] != content:
            parts = [values[self._ends[k] : self._ends[k + 1]] for k in range(len(self._frames))]
            found = self._reference(
                [frame.with_positions(part) for frame, part in zip(self._frames, parts, strict=True)]
            )
            energies = [np.nan if label is None else label[0] for label in found]
            forces = [
                np.full(part.shape, np.nan) if label is None else label[1]
                for label, part in zip(found, parts, strict=True)
            ]
            self._last = content, torch.tensor(energies, dtype=torch.float64), torch.from_numpy(np.concatenate(forces))
        return self._last[1].clone(), self._last[2].clone()

    def member_forces(self, positions: torch.Tensor) -> torch.Tensor:
        return self.energy_and_forces(positions, 0)[1][None]
