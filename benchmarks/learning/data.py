"""Pools of labelled frames to choose from, and test sets: molecular dynamics by GFN2-xTB itself.

Every temperature has trajectories of its own from the built conformer, settled and then sampled; those of the test set
have other velocities and noise. So a pool holds what the molecule does at 300 to 900 K, no artefacts of a model, and
every frame has its label. Each temperature is a part in the folder, made once.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from al_engine.config import LabelsConfig, SystemConfig
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_labelled, write_labelled
from al_engine.files.part_file import open_part, part_key, write_part
from al_engine.seeds import derived_seed
from al_engine.structures.frames import FloatArray, Frame, IntArray, LabelledFrame, dataset_digest
from jobs import log
from labelers.backends.protocol import Labeler, LabelError
from labelers.backends.registry import create_labeler, level_of_theory
from samplers.building.system import build_system
from samplers.dynamics.langevin import run_langevin
from samplers.dynamics.limits import StopReason
from samplers.dynamics.settings import Integration, StopRules, Surroundings
from systems import ETHANOL, NC3F9

KELVINS = (300.0, 500.0, 700.0, 900.0)
FRICTION_PER_PS = 10.0
LABELS = LabelsConfig(backend="tblite")
RECIPE = 1
"""To be raised whenever this module makes other data from the same sizes and seed."""


@dataclass(frozen=True, slots=True)
class Molecule:
    """What is learned.

    Attributes:
        name: As in the tables.
        smiles: One molecule of it.
        timestep_fs: Of its dynamics.
    """

    name: str
    smiles: str
    timestep_fs: float


MOLECULES = {
    molecule.name: molecule for molecule in (Molecule("ethanol", ETHANOL, 0.5), Molecule("N(CF3)3", NC3F9, 1.0))
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much data at each temperature.

    Attributes:
        pool: Frames to choose from.
        test: Frames of the test set.
        replicas: Trajectories they are from.
        settle_fs: What is thrown away of each trajectory.
        pool_stride_fs: Time between two frames of the pool.
        test_stride_fs: Time between two frames of the test set.
    """

    pool: int = 400
    test: int = 50
    replicas: int = 4
    settle_fs: float = 500.0
    pool_stride_fs: float = 20.0
    test_stride_fs: float = 100.0


QUICK = Sizes(pool=12, test=4, replicas=2, settle_fs=20.0, pool_stride_fs=10.0, test_stride_fs=10.0)


@dataclass(frozen=True, slots=True, eq=False)
class FrameSet:
    """Labelled frames of all temperatures.

    Attributes:
        frames: The F frames.
        kelvin: Temperature each was sampled at, shape (F,).
        digest: SHA-256 of them.
    """

    frames: tuple[LabelledFrame, ...]
    kelvin: FloatArray
    digest: str


class ReferenceForces:
    """A labeler as what drives molecular dynamics: an `al_engine.protocols.Committee` of one."""

    n_members = 1

    def __init__(self, labeler: Labeler) -> None:
        self._labeler = labeler

    def bind(self, frames: Sequence[Frame]) -> "BoundReference":
        """Bind to the atoms of frames."""
        return BoundReference(self._labeler, frames)


class BoundReference:
    """A labeler bound to T atoms in B frames; implements `al_engine.protocols.BoundCommittee` with torch tensors."""

    def __init__(self, labeler: Labeler, frames: Sequence[Frame]) -> None:
        self._labeler, self._frames = labeler, frames
        self._edges = np.cumsum([len(frame) for frame in frames])[:-1]

    def energy_and_forces(self, positions: torch.Tensor, member: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies (B,) in eV and forces (T, 3) in eV/Å at positions (T, 3) in Å; there is one member.

        Raises:
            InputError: If there is no label.
        """
        del member
        parts = np.split(positions.numpy(), self._edges)
        try:
            labels = [
                self._labeler.label(frame.with_positions(x)) for frame, x in zip(self._frames, parts, strict=True)
            ]
        except LabelError as error:
            raise InputError(
                f"GFN2-xTB failed during its dynamics ({error.message}); try another --data-seed"
            ) from error
        energies, forces = zip(*labels, strict=True)
        return torch.tensor(energies, dtype=torch.float64), torch.from_numpy(np.concatenate(forces))

    def member_forces(self, positions: torch.Tensor) -> torch.Tensor:
        """Forces in eV/Å, shape (1, T, 3), at positions (T, 3) in Å."""
        return self.energy_and_forces(positions, 0)[1][None]


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where sets are kept, and what they are.

    Attributes:
        folder: Where the parts are.
        sizes: How much of everything.
        seed: Seed of conformers, velocities and noise.
    """

    folder: Path
    sizes: Sizes
    seed: int

    def path(self, molecule: Molecule, kind: str, kelvin: float) -> Path:
        """The part of one temperature."""
        return self.folder / f"{molecule.name}-{kind}-{kelvin:g}K.h5"

    def key(self, molecule: Molecule, kind: str, kelvin: float) -> str:
        """Names all that decides its content."""
        inputs = {
            "recipe": RECIPE,
            "molecule": asdict(molecule),
            "sizes": asdict(self.sizes),
            "kelvin": kelvin,
            "seed": self.seed,
            "level": level_of_theory(LABELS).to_dict(),
        }
        return part_key(kind, inputs, [])

    def has(self, molecule: Molecule, kind: str, kelvin: float) -> bool:
        """Whether the part is there as it should be."""
        path = self.path(molecule, kind, kelvin)
        if not path.is_file():
            return False
        with open_part(path) as root:
            return bool(root.attrs["key"] == self.key(molecule, kind, kelvin))

    def load(self, molecule: Molecule, kind: str) -> FrameSet:
        """The set `pool` or `test` of a molecule, all temperatures.

        Raises:
            InputError: If it has not been made.
        """
        frames: list[LabelledFrame] = []
        kelvins: list[float] = []
        for kelvin in KELVINS:
            path = self.path(molecule, kind, kelvin)
            if not self.has(molecule, kind, kelvin):
                raise InputError(f"{path} is not there, or was made with other sizes; run the command without --report")
            with open_part(path) as root:
                found = read_labelled(root["labelled"])
            frames += found
            kelvins += [kelvin] * len(found)
        return FrameSet(tuple(frames), np.array(kelvins), dataset_digest(frames))


def make_temperature(source: DataSource, molecule: Molecule, kind: str, kelvin: float) -> None:
    """Sample and label one temperature of the set `pool` or `test`, unless it is there.

    Raises:
        InputError: If a trajectory does not hold together, or there is no label.
    """
    if source.has(molecule, kind, kelvin):
        return
    path, sizes = source.path(molecule, kind, kelvin), source.sizes
    labeler = create_labeler(LABELS)
    seed = derived_seed(source.seed, "conformer")
    system = build_system(SystemConfig(smiles=molecule.smiles), base_dir=source.folder, seed=seed)
    count = getattr(sizes, kind)
    stride = round(getattr(sizes, f"{kind}_stride_fs") / molecule.timestep_fs)
    settling = -(-round(sizes.settle_fs / molecule.timestep_fs) // stride)
    strides = settling + -(-count // sizes.replicas)
    log(f"{path.stem}: {strides * stride} steps of {sizes.replicas} trajectories")
    sampled = run_langevin(
        ReferenceForces(labeler),
        [system.frame] * sizes.replicas,
        temperatures_kelvin=[kelvin] * sizes.replicas,
        integration=Integration(
            steps=strides * stride,
            stride_steps=stride,
            timestep_fs=molecule.timestep_fs,
            friction_per_ps=FRICTION_PER_PS,
        ),
        stop=StopRules(stop_deviation=np.inf),
        surroundings=Surroundings(bonds=system.bonds),
        seed=derived_seed(source.seed, kind, round(kelvin)),
    )
    if any(reason is not StopReason.COMPLETED for reason in sampled.stop_reason):
        raise InputError(f"{path.stem}: a trajectory was stopped ({sampled.stop_reason}); try another --data-seed")
    frames = [sampled.frames[k] for k in np.flatnonzero(sampled.step > settling * stride)[:count]]
    labelled = [LabelledFrame(frame, *labeler.label(frame)) for frame in frames]
    with write_part(path, kind=path.stem, key=source.key(molecule, kind, kelvin)) as root:
        write_labelled(root.create_group("labelled"), labelled)


def rows_by_temperature(kelvin: FloatArray) -> dict[float, IntArray]:
    """Indices of the frames of each temperature, shape (F,)."""
    return {value: np.flatnonzero(kelvin == value) for value in np.unique(kelvin).tolist()}
