"""Pools of labelled frames to select from, and test sets: molecular dynamics by GFN2-xTB itself.

At every temperature trajectories start from the built conformer and are equilibrated before frames are sampled. The
trajectories of the test set have other velocities and noise. A pool therefore represents the molecule at 300 to 900 K,
without artefacts of a model, and every frame has a label. Each temperature is a part in the folder, made only once.
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
"""Version of this module's data; raise it whenever the module makes other data from the same sizes and seed."""


@dataclass(frozen=True, slots=True)
class Molecule:
    """A molecule.

    Attributes:
        name: Name in the tables.
        smiles: SMILES string of the molecule.
        timestep_fs: Time step of its dynamics.
    """

    name: str
    smiles: str
    timestep_fs: float


MOLECULES = {
    molecule.name: molecule for molecule in (Molecule("ethanol", ETHANOL, 0.5), Molecule("N(CF3)3", NC3F9, 1.0))
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the sets at each temperature.

    Attributes:
        pool: Number of frames of the pool.
        test: Number of frames of the test set.
        replicas: Number of trajectories of each set.
        settle_fs: Length of the equilibration at the start of each trajectory, which is not sampled.
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
        kelvin: Temperature of each frame in K, shape (F,).
        digest: SHA-256 of the frames.
    """

    frames: tuple[LabelledFrame, ...]
    kelvin: FloatArray
    digest: str


class ReferenceForces:
    """A labeler that drives molecular dynamics, as an `al_engine.protocols.Committee` with a single member."""

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
        """Energies (B,) in eV and forces (T, 3) in eV/Å at positions (T, 3) in Å; `member` is ignored.

        Raises:
            InputError: If the labeler fails.
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
    """The folder of the sets, and the inputs that determine them.

    Attributes:
        folder: Folder of the parts.
        sizes: Sizes of the sets.
        seed: Seed of conformers, velocities and noise.
    """

    folder: Path
    sizes: Sizes
    seed: int

    def path(self, molecule: Molecule, kind: str, kelvin: float) -> Path:
        """The part of a set at a temperature."""
        return self.folder / f"{molecule.name}-{kind}-{kelvin:g}K.h5"

    def key(self, molecule: Molecule, kind: str, kelvin: float) -> str:
        """Key of the inputs that determine the content of the part."""
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
        """Whether the part exists and was made from these inputs."""
        path = self.path(molecule, kind, kelvin)
        if not path.is_file():
            return False
        with open_part(path) as root:
            return bool(root.attrs["key"] == self.key(molecule, kind, kelvin))

    def load(self, molecule: Molecule, kind: str) -> FrameSet:
        """The set `pool` or `test` of a molecule, all temperatures.

        Raises:
            InputError: If the set has not been made.
        """
        frames: list[LabelledFrame] = []
        kelvins: list[float] = []
        for kelvin in KELVINS:
            path = self.path(molecule, kind, kelvin)
            if not self.has(molecule, kind, kelvin):
                raise InputError(
                    f"{path} does not exist or was made from other inputs; run the command without --report"
                )
            with open_part(path) as root:
                found = read_labelled(root["labelled"])
            frames += found
            kelvins += [kelvin] * len(found)
        return FrameSet(tuple(frames), np.array(kelvins), dataset_digest(frames))


def make_temperature(source: DataSource, molecule: Molecule, kind: str, kelvin: float) -> None:
    """Sample and label a temperature of the set `pool` or `test`, unless the part exists.

    Raises:
        InputError: If a trajectory is stopped early, or a label fails.
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
