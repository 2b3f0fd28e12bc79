"""Structures of the benchmarks: C12F27N (perfluorotributylamine) from its SMILES string, determined by the seed.

Rigid conformers (RDKit) are packed by Packmol at 1.88 g/cm³. `bulk_520` is a periodic box of 13 molecules.
`cluster_120` are the three molecules nearest the centre of this box, with open boundaries. Larger boxes are copies of
`bulk_520` side by side, so that atoms have the same neighbours at every size. `train_0`, `train_1`, ... are clusters of
three molecules around other points of the box. Benchmarks of molecular dynamics and learning also use smaller
molecules.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from al_engine.config import SystemConfig
from al_engine.seeds import derived_seed
from al_engine.structures.clusters import nearest_molecules
from al_engine.structures.frames import FloatArray, Frame
from contestants.structures import Structure
from samplers.building.system import System, boxed, build_system

C12F27N = "FC(F)(F)C(F)(F)C(F)(F)C(F)(F)N(C(F)(F)C(F)(F)C(F)(F)C(F)(F)F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)F"
NC3F9 = "FC(F)(F)N(C(F)(F)F)C(F)(F)F"
"""Perfluorotrimethylamine, N(CF3)3."""
ETHANOL = "CCO"
DENSITY_G_PER_CM3 = 1.88
BOX_MOLECULES, CLUSTER_MOLECULES = 13, 3
TRAINING_CLUSTERS = 5


def benchmark_structures(*, copies: Sequence[int] = (), seed: int = 0) -> Mapping[str, Structure]:
    """The structures by name.

    Args:
        copies: Numbers of copies of `bulk_520` in additional boxes, powers of two; the boxes are named `bulk_<atoms>`.
        seed: Seed of conformer, packing, and of the random targets to train on.
    """
    config = SystemConfig(smiles=C12F27N, molecules=1, density_g_per_cm3=DENSITY_G_PER_CM3)
    box = boxed(build_system(config, base_dir=Path(), seed=seed), BOX_MOLECULES, seed=seed)
    frames = {"cluster_120": _cluster(box, 0.5 * box.frame.cell.sum(0)), "bulk_520": box.frame}
    frames |= {f"bulk_{count * len(box.frame)}": repeated(box.frame, count) for count in copies}
    for k in range(TRAINING_CLUSTERS):
        centre = box.frame.positions[box.molecules.copy_of_atom == k].mean(0)
        frames[f"train_{k}"] = _cluster(box, centre)
    return {name: _structure(frame, seed=derived_seed(seed, name)) for name, frame in frames.items()}


def small_cluster(smiles: str, count: int, *, seed: int = 0) -> Structure:
    """Conformers of a molecule packed to a cluster by Packmol, with random targets to train on."""
    system = build_system(SystemConfig(smiles=smiles, molecules=count), base_dir=Path(), seed=seed)
    return _structure(system.frame, seed=derived_seed(seed, smiles))


def repeated(frame: Frame, count: int) -> Frame:
    """A periodic frame of `count` copies, a power of two; the axes are doubled one after another.

    Raises:
        ValueError: If `count` is not a power of two.
    """
    if count < 1 or count & (count - 1):
        raise ValueError(f"a box is repeated a power of two times, not {count}")
    positions, cell = frame.positions, np.array(frame.cell)
    doublings = count.bit_length() - 1
    for k in range(doublings):
        axis = k % 3
        positions = np.concatenate([positions, positions + cell[axis]])
        cell[axis] *= 2.0
    return Frame(numbers=np.tile(frame.numbers, count), positions=positions, cell=cell, pbc=frame.pbc)


def _cluster(box: System, centre: FloatArray) -> Frame:
    cluster, _ = nearest_molecules(
        box.frame, box.molecules.copy_of_atom, box.bonds.pairs, CLUSTER_MOLECULES, centre=centre
    )
    return cluster


def _structure(frame: Frame, *, seed: int) -> Structure:
    rng = np.random.default_rng(seed)
    return Structure(
        numbers=frame.numbers,
        positions=frame.positions,
        cell=frame.cell,
        pbc=frame.pbc,
        energy=np.array(rng.normal()),
        forces=rng.normal(size=(len(frame), 3)),
    )
