"""Models of nequip with random weights, and their energies, forces and stresses, for parity tests.

Runs where nequip 0.19 and h5py are installed, from the root of this repository, without al-engine:

    python -m benchmarks.references.nequip_models tests/models/data/frames.h5 tests/models/data

The command writes `nequip_<name>.h5` for every model in `MODELS`: the model, as `models.interop.export_nequip` writes
it, and its predictions.
"""

import argparse
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ase import Atoms
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import (
    ChemicalSpeciesToAtomTypeMapper,
    NeighborListTransform,
)
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state

from models.interop.export_nequip import export_model

SHIFTS_EV = {"H": -10.7, "C": -48.8, "N": -70.9, "O": -102.6, "F": -125.7, "Na": -4.5, "Cl": -122.1}
COMMON: dict[str, Any] = {
    "model_dtype": "float64",
    "r_max": 4.5,
    "num_layers": 3,
    "l_max": 2,
    "parity": False,
    "num_features": 8,
    "radial_mlp_depth": 1,
    "radial_mlp_width": 16,
    "polynomial_cutoff_p": 6,
    "avg_num_neighbors": 5.7,
    "per_type_energy_scales": 3.1,
    "per_type_energy_shifts": SHIFTS_EV,
}
MODELS: dict[str, dict[str, Any]] = {
    "default": {"num_layers": 4, "l_max": 1, "num_features": 16, "radial_mlp_width": 32},
    "tensors": {"radial_mlp_depth": 2, "num_bessels": 6, "polynomial_cutoff_p": 5},
    "octupoles": {"l_max": 3, "num_layers": 2, "per_type_energy_scales": None},
    "one_layer": {"num_layers": 1},
    "parity": {"parity": True, "num_features": 4},  # not natural parity: cannot be converted
}


def build(name: str, *, seed: int) -> Any:
    """A model of the tables above with random weights; elements are not in ascending order."""
    options = COMMON | MODELS[name]
    return NequIPGNNModel(seed=seed, type_names=sorted(SHIFTS_EV), **options).eval()


def evaluate(model: Any, atoms: Atoms, *, transforms: list[Any]) -> dict[str, np.ndarray]:
    """Energy (eV), forces (eV/Å) and, with periodic boundaries, stress (eV/Å³, ASE's sign)."""
    data = from_ase(atoms)
    for transform in transforms:
        data = transform(data)
    result = model(AtomicDataDict.to_(data, "cpu"))
    values = {
        "energy": result[AtomicDataDict.TOTAL_ENERGY_KEY].squeeze(),
        "forces": result[AtomicDataDict.FORCE_KEY],
    }
    if atoms.pbc.all():
        values["stress"] = result[AtomicDataDict.STRESS_KEY].squeeze(0)
    return {key: value.detach().numpy() for key, value in values.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("output", type=Path, help="folder for the files")
    parser.add_argument("--only", nargs="*", default=list(MODELS), help="names of models to write; default: all")
    arguments = parser.parse_args()
    set_global_state()
    torch.set_num_threads(1)
    with h5py.File(arguments.frames) as file:
        frames = {
            name: Atoms(group["numbers"][:], group["positions"][:], cell=group["cell"][:], pbc=group["pbc"][:])
            for name, group in file.items()
        }
    for name in arguments.only:
        model = build(name, seed=sum(name.encode()))
        transforms = [
            ChemicalSpeciesToAtomTypeMapper(model_type_names=sorted(SHIFTS_EV)),
            NeighborListTransform(r_max=(COMMON | MODELS[name])["r_max"]),
        ]
        with h5py.File(arguments.output / f"nequip_{name}.h5", "w") as file:
            export_model(model, file.create_group("model"))
            for frame, atoms in frames.items():
                group = file.create_group(f"predictions/{frame}")
                results = evaluate(model, atoms, transforms=transforms)
                for quantity, values in results.items():
                    group.create_dataset(quantity, data=values)
                rms = np.sqrt(np.mean(results["forces"] ** 2))
                stress = np.abs(results["stress"]).max() if "stress" in results else np.nan
                print(f"{name:10} {frame:8} E {results['energy']:14.6f} eV, F rms {rms:9.4f} eV/Å, stress {stress:.5f}")


if __name__ == "__main__":
    main()
