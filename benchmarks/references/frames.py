"""Structures of the parity tests with models of other packages.

Runs where al-engine is installed:

    python -m benchmarks.references.frames tests/models/data/frames.h5
"""

import argparse
from pathlib import Path

import h5py
import numpy as np
from ase.build import bulk

from al_engine.structures.frames import Frame
from samplers.building.molecules import molecule_from_smiles
from samplers.building.packing import pack_box, pack_cluster

PERFLUOROTRIBUTYLAMINE = "N(" + ")(".join(["C(F)(F)C(F)(F)C(F)(F)C(F)(F)F"] * 2) + ")C(F)(F)C(F)(F)C(F)(F)C(F)(F)F"
SHEAR = np.array([[1.0, 0.0, 0.0], [0.12, 1.02, 0.0], [-0.07, 0.05, 0.97]])
RATTLE_ANG = 0.05
SQUEEZE = 0.75  # bonds become shorter than the sum of covalent radii, where nuclei repel each other


def reference_frames() -> dict[str, Frame]:
    """Molecules, also squeezed, a cluster of 120 atoms, periodic boxes smaller than the cut-off, a single atom."""
    rng = np.random.default_rng(0)

    def rattled(numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray | None = None) -> Frame:
        moved = positions + rng.normal(0.0, RATTLE_ANG, positions.shape)
        if cell is None:
            return Frame(numbers=numbers, positions=moved)
        return Frame(numbers=numbers, positions=moved, cell=cell, pbc=np.ones(3, dtype=bool))

    ethanol, glycine, water, pftba = (
        molecule_from_smiles(smiles, seed=0) for smiles in ("CCO", "NCC(=O)O", "O", PERFLUOROTRIBUTYLAMINE)
    )
    box, cell = pack_box(water, 6, density_g_per_cm3=1.0, seed=0)
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    return {
        "ethanol": rattled(ethanol.numbers, ethanol.positions),
        "glycine": rattled(glycine.numbers, glycine.positions),
        "cluster": rattled(np.tile(pftba.numbers, 3), pack_cluster(pftba, 3, seed=0)),
        "water": rattled(np.tile(water.numbers, 6), box @ SHEAR, cell @ SHEAR),
        "salt": rattled(salt.numbers, salt.positions, salt.cell.array),
        "squeezed": rattled(glycine.numbers, SQUEEZE * glycine.positions),
        "atom": Frame(numbers=np.array([7]), positions=np.zeros((1, 3))),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path)
    with h5py.File(parser.parse_args().output, "w") as file:
        for name, frame in reference_frames().items():
            group = file.create_group(name)
            for field in ("numbers", "positions", "cell", "pbc"):
                group.create_dataset(field, data=getattr(frame, field))


if __name__ == "__main__":
    main()
