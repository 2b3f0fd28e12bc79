"""GFN2-xTB data of a liquid: clusters, larger clusters, periodic boxes, pairs of molecules.

Geometries come from the engine's own samplers: MMFF94 Langevin MD of periodic boxes at the liquid's density. Training
clusters are cut from a box while it cools from 900 to 280 K. Test frames come from other boxes, packed with other seeds
and held at 300, 500, 700 and 900 K. A cluster consists of the molecules nearest a random point of the box, so a
molecule may be inside a cluster and at the surface of another; clusters of ions are completed to be neutral. Labels are
computed by tblite, periodic for periodic frames.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ablation.liquids import Liquid, Sizes
from ablation.pairs import Conformers, pair_curves
from al_engine.config import LabelsConfig, SystemConfig
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_labelled, write_labelled
from al_engine.files.part_file import open_part, part_key, write_part
from al_engine.protocols import Progress
from al_engine.seeds import derived_rng, derived_seed
from al_engine.structures.bonds import BONDED, fragment_of_atom, made_whole
from al_engine.structures.clusters import nearest_molecules
from al_engine.structures.frames import FloatArray, Frame, IntArray, LabelledFrame
from labelers.backends.registry import level_of_theory
from labelers.pool.pool import LabelPool
from samplers.building.bonds_by_distance import bonds_from_radii
from samplers.building.clusters import fragment_electrons
from samplers.building.system import System, boxed, build_system
from samplers.classical.anneal import ClassicalFrames, anneal, constant_temperature_frames

HOT_KELVIN, COLD_KELVIN = 900.0, 280.0
TEST_KELVIN = (300.0, 500.0, 700.0, 900.0)
TIMESTEP_FS = 1.0
PERIODIC_SIDES_ANG = (25.0, 35.0, 50.0)
LABELS = LabelsConfig(backend="tblite")
DESCRIPTION = (
    "Geometries: MMFF94 Langevin MD (the engine's `samplers`) at {density:g} g/cm³. Training clusters: the {molecules} "
    "molecules nearest a random point of a periodic box of {box_molecules}, {cuts} from each frame of an anneal from "
    "900 to 280 K in {anneal_ps:g} ps{mixed}. Test sets: other boxes, {test_ps:g} ps at each temperature. Curves: "
    "rigid conformers from a box at 300 K. Labels: GFN2-xTB by tblite (`labelers`)."
)
"""Description of the data for the report, with attributes of `Sizes`, `density` and `mixed` in braces."""
MIXED = "; {small} of the clusters have {small_molecules} molecules, and {pairs} pairs have random separations"
PAIR_SHIFTS_ANG = (-0.8, 9.0)
"""Smallest and largest separation of training pairs beyond contact, Å."""
RECIPE = 2
"""Version of this module's data; raise it whenever the module makes other data from the same sizes and seed."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """Labelled frames of whole molecules.

    Attributes:
        frames: The F frames.
        columns: Values of each frame by name, shape (F,): `temperature_kelvin`; for curves `curve` and `shift_ang`.
        molecule_atoms: Atoms of a molecule; atoms are in order of the molecules. 0: molecules differ, and are found by
            their bonds.
    """

    frames: tuple[LabelledFrame, ...]
    columns: Mapping[str, FloatArray]
    molecule_atoms: int

    def molecule_of_atom(self, index: int) -> IntArray:
        """The molecule of each atom of a frame, shape (N,)."""
        frame = self.frames[index].frame
        if self.molecule_atoms:
            return np.arange(len(frame)) // self.molecule_atoms
        bonds = bonds_from_radii(frame.numbers, frame.positions, frame.cell, frame.pbc, factor=BONDED)
        return fragment_of_atom(len(frame), bonds)


@dataclass(frozen=True, slots=True, eq=False)
class _Unlabelled:
    frames: Sequence[Frame]
    columns: Mapping[str, FloatArray]


def load_data(folder: Path, liquid: Liquid, *, seed: int, workers: int, progress: Progress) -> dict[str, LabelledSet]:
    """The sets `train`, `test`, `large`, `bulk` and `curves`; a set that is not in the folder is made and stored there.

    Args:
        folder: Folder of the sets, with an HDF5 file for each.
        liquid: The liquid.
        seed: Seed of conformers, packings, velocities, cuts and orientations.
        workers: Number of labelling processes.
        progress: Called with the progress of each set.

    Raises:
        InputError: If a label fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = liquid.sizes
    config = SystemConfig(smiles=liquid.smiles, molecules=1, density_g_per_cm3=liquid.density_g_per_cm3)
    molecule = build_system(config, base_dir=folder, seed=seed)
    makers: dict[str, Callable[[Progress], _Unlabelled]] = {
        "train": lambda tell: _training_clusters(molecule, sizes, seed=seed, progress=tell),
        "test": lambda tell: _test_clusters(
            molecule, sizes, count=sizes.test, size=sizes.molecules, seed=seed, progress=tell
        ),
        "large": lambda tell: _test_clusters(
            molecule, sizes, count=sizes.large, size=sizes.large_molecules, seed=seed, progress=tell
        ),
        "bulk": lambda tell: _bulk(molecule, sizes, seed=seed, progress=tell),
        "curves": lambda tell: _curves(molecule, sizes, seed=seed, progress=tell),
    }
    return {
        name: _load_or_make(
            folder / f"{name}.h5",
            make,
            inputs={"recipe": RECIPE, "liquid": asdict(liquid), "seed": seed},
            molecule_atoms=len(molecule.frame) if liquid.ions == 1 else 0,
            workers=workers,
            progress=progress,
        )
        for name, make in makers.items()
    }


def periodic_shift(test: LabelledSet, bulk: LabelledSet) -> dict[str, Any]:
    """Energy of a single molecule in a periodic cubic cell, minus its energy in vacuum, from labels.

    The difference vanishes for large cells. How fast it vanishes shows whether periodic and open labels are comparable.

    Args:
        test: Set whose first molecule is used.
        bulk: Periodic boxes.

    Returns:
        `shift_ev`: the difference by the side of the cell in Å. `extrapolated_mev_per_atom`: the difference in the
        smallest cell, extrapolated as 1 / volume to the volume per molecule in the boxes. Empty for ionic liquids.
    """
    if not test.molecule_atoms:
        return {}
    frame, atoms = test.frames[0].frame, test.molecule_atoms
    isolated = Frame(numbers=frame.numbers[:atoms], positions=frame.positions[:atoms])
    cells = [replace(isolated, cell=side * np.eye(3), pbc=np.ones(3, dtype=bool)) for side in PERIODIC_SIDES_ANG]
    with LabelPool(LABELS, periodic=True, workers=1) as pool:
        outcomes = pool.label([isolated, *cells], time_limit_s=LABELS.time_limit_s)
    energies = np.array([outcome.labelled.energy if outcome.labelled else np.nan for outcome in outcomes])
    shifts = energies[1:] - energies[0]
    box = bulk.frames[0].frame
    volume = abs(np.linalg.det(box.cell)) * atoms / len(box)
    extrapolated = 1000.0 * shifts[0] * PERIODIC_SIDES_ANG[0] ** 3 / volume / atoms
    return {
        "shift_ev": dict(zip(PERIODIC_SIDES_ANG, shifts.tolist(), strict=True)),
        "extrapolated_mev_per_atom": float(extrapolated),
    }


def _load_or_make(
    path: Path,
    make: Callable[[Progress], _Unlabelled],
    *,
    inputs: Mapping[str, object],
    molecule_atoms: int,
    workers: int,
    progress: Progress,
) -> LabelledSet:
    level = level_of_theory(LABELS, periodic=True)
    key = part_key(path.stem, {**inputs, "level": level.to_dict()}, [])
    if path.is_file():
        with open_part(path) as root:
            if root.attrs["key"] == key:
                columns = {name: root["columns"][name][()] for name in root["columns"]}
                return LabelledSet(tuple(read_labelled(root["labelled"])), columns, molecule_atoms)

    def tell(done: int, total: int, note: str = "") -> None:
        progress(done, total, f"{path.stem}: {note}")

    made = make(tell)
    with LabelPool(LABELS, periodic=True, workers=workers) as pool:
        outcomes = pool.label(
            made.frames,
            time_limit_s=LABELS.time_limit_s,
            progress=lambda done, total, note="": tell(done, total, f"labels {note}"),
        )
    labelled = [outcome.labelled for outcome in outcomes if outcome.labelled is not None]
    if len(labelled) < len(outcomes):
        failed = next(outcome for outcome in outcomes if outcome.labelled is None)
        raise InputError(
            f"{len(outcomes) - len(labelled)} of {len(outcomes)} labels of {path.stem} failed, the first with "
            f"'{failed.message}'; try another --data-seed"
        )
    with write_part(path, kind=path.stem, key=key) as root:
        write_labelled(root.create_group("labelled"), labelled)
        group = root.create_group("columns")
        for name, column in made.columns.items():
            group[name] = column
    return LabelledSet(tuple(labelled), made.columns, molecule_atoms)


def _training_clusters(molecule: System, sizes: Sizes, *, seed: int, progress: Progress) -> _Unlabelled:
    box = _boxed(molecule, sizes.box_molecules, seed=derived_seed(seed, "training box"))
    run = anneal(
        box,
        hot_kelvin=HOT_KELVIN,
        cold_kelvin=COLD_KELVIN,
        duration_ps=sizes.anneal_ps,
        frames=-(-sizes.train // sizes.cuts),
        timestep_fs=TIMESTEP_FS,
        seed=derived_seed(seed, "training anneal"),
        progress=progress,
    )
    size_of = np.full(sizes.train, sizes.molecules)
    size_of[derived_rng(seed, "small clusters").permutation(sizes.train)[: sizes.small]] = sizes.small_molecules
    clusters = _cut(box, run, sizes=size_of.tolist(), rng=derived_rng(seed, "training cuts"))
    if not sizes.pairs:
        return clusters
    first, second = _conformers(
        molecule, sizes.pairs, sizes, seed=derived_seed(seed, "training pairs"), progress=progress
    )
    rng = derived_rng(seed, "training separations")
    pairs = [
        pair_curves(_of(first, k), _of(second, k), rng=rng, shifts=[float(rng.uniform(*PAIR_SHIFTS_ANG))])[0][0]
        for k in range(sizes.pairs)
    ]
    return _joined([clusters, _Unlabelled(pairs, {"temperature_kelvin": np.full(sizes.pairs, TEST_KELVIN[0])})])


def _test_clusters(
    molecule: System, sizes: Sizes, *, count: int, size: int, seed: int, progress: Progress
) -> _Unlabelled:
    """Clusters at each test temperature; clusters of different sizes come from different boxes."""
    per_temperature = _share(count)
    parts = []
    for index, kelvin in enumerate(TEST_KELVIN if count else ()):
        box = _boxed(molecule, sizes.box_molecules, seed=derived_seed(seed, "test box", size, index))
        run = constant_temperature_frames(
            box,
            kelvin=kelvin,
            hot_kelvin=HOT_KELVIN,
            duration_ps=sizes.test_ps,
            frames=-(-per_temperature // sizes.cuts),
            timestep_fs=TIMESTEP_FS,
            seed=derived_seed(seed, "test run", size, index),
            progress=progress,
        )
        rng = derived_rng(seed, "test cuts", size, index)
        parts.append(_cut(box, run, sizes=[size] * per_temperature, rng=rng))
    return _joined(parts)


def _bulk(molecule: System, sizes: Sizes, *, seed: int, progress: Progress) -> _Unlabelled:
    """Whole periodic boxes, with the number of molecules of the larger clusters."""
    per_temperature = _share(sizes.bulk)
    parts = []
    for index, kelvin in enumerate(TEST_KELVIN if sizes.bulk else ()):
        run = constant_temperature_frames(
            _boxed(molecule, sizes.large_molecules, seed=derived_seed(seed, "bulk box", index)),
            kelvin=kelvin,
            hot_kelvin=HOT_KELVIN,
            duration_ps=sizes.test_ps,
            frames=per_temperature,
            timestep_fs=TIMESTEP_FS,
            seed=derived_seed(seed, "bulk run", index),
            progress=progress,
        )
        parts.append(_Unlabelled(run.frames, {"temperature_kelvin": run.temperature_kelvin}))
    return _joined(parts)


def _curves(molecule: System, sizes: Sizes, *, seed: int, progress: Progress) -> _Unlabelled:
    """Pairs of molecules along their separation; the conformers are from a box at 300 K."""
    first, second = _conformers(molecule, sizes.curves, sizes, seed=seed, progress=progress)
    frames, curve, shift = pair_curves(first, second, rng=derived_rng(seed, "pair orientations"))
    return _Unlabelled(frames, {"curve": curve, "shift_ang": shift})


def _conformers(
    molecule: System, count: int, sizes: Sizes, *, seed: int, progress: Progress
) -> tuple[Conformers, Conformers]:
    """`count` conformers of a molecule, and as many of another, from a box at 300 K; of a salt, cations and anions."""
    box = boxed(molecule, 2 * count, seed=derived_seed(seed, "conformer box"))
    run = constant_temperature_frames(
        box,
        kelvin=TEST_KELVIN[0],
        hot_kelvin=HOT_KELVIN,
        duration_ps=sizes.test_ps,
        frames=1,
        timestep_fs=TIMESTEP_FS,
        seed=derived_seed(seed, "conformer run"),
        progress=progress,
    )
    frame = run.frames[0]
    copies = made_whole(frame.positions, box.bonds.pairs, frame.cell, frame.pbc).reshape(2 * count, -1, 3)
    fragment = fragment_of_atom(len(molecule.molecule), molecule.molecule.bonds)
    own, other = fragment == 0, fragment == fragment.max()
    numbers = molecule.frame.numbers
    return Conformers(numbers[own], copies[::2, own]), Conformers(numbers[other], copies[1::2, other])


def _of(conformers: Conformers, index: int) -> Conformers:
    return Conformers(conformers.numbers, conformers.positions[index : index + 1])


def _boxed(molecule: System, molecules: int, *, seed: int) -> System:
    """A periodic box with a number of molecules; a pair of ions is two of them."""
    return boxed(molecule, molecules // (int(molecule.molecules.fragment_of_atom.max()) + 1), seed=seed)


def _cut(box: System, run: ClassicalFrames, *, sizes: Sequence[int], rng: np.random.Generator) -> _Unlabelled:
    """Clusters of these numbers of molecules around random points, the same number from every frame of a run."""
    sources = np.arange(len(sizes)) * len(run.frames) // len(sizes)
    electrons = fragment_electrons(box, largest_charge=0)
    clusters = [
        nearest_molecules(
            run.frames[source],
            box.molecules.fragment_of_atom,
            box.bonds.pairs,
            size,
            electrons=electrons,
            centre=rng.uniform(size=3) @ run.frames[source].cell,
        )[0]
        for source, size in zip(sources, sizes, strict=True)
    ]
    return _Unlabelled(clusters, {"temperature_kelvin": run.temperature_kelvin[sources]})


def _joined(parts: Sequence[_Unlabelled]) -> _Unlabelled:
    columns = np.concatenate([part.columns["temperature_kelvin"] for part in parts]) if parts else np.zeros(0)
    return _Unlabelled([frame for part in parts for frame in part.frames], {"temperature_kelvin": columns})


def _share(count: int) -> int:
    share, remainder = divmod(count, len(TEST_KELVIN))
    if remainder:
        raise ValueError(f"{count} frames cannot be divided evenly among {len(TEST_KELVIN)} temperatures")
    return share
