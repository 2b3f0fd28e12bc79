"""Models of mace-torch with random weights, and their energies, forces and stresses, for parity tests.

Runs where mace-torch 0.3.16 is installed, from the root of this repository, without al-engine:

    python -m benchmarks.references.mace_torch tests/models/data/frames.h5 tests/models/data

The command writes `mace_<name>.h5` for every model in `MODELS`: the model, as `models.interop.export_mace` writes it,
and its predictions.
"""

import argparse
import os
import re
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn 0.4 with torch >= 2.6 needs it to import

import h5py
import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric

from models.interop.export_mace import export_model

ELEMENTS = [1, 6, 7, 8, 9, 11, 17]
E0_EV = {1: -10.7, 6: -48.8, 7: -70.9, 8: -102.6, 9: -125.7, 11: -4.5, 17: -122.1}
MESSAGE_GAIN = 3.0
RESIDUAL = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
PLAIN = modules.interaction_classes["RealAgnosticInteractionBlock"]

COMMON: dict[str, Any] = {
    "r_max": 4.5,
    "num_bessel": 8,
    "num_polynomial_cutoff": 5,
    "max_ell": 2,
    "num_interactions": 2,
    "hidden_irreps": o3.Irreps("8x0e+8x1o"),
    "MLP_irreps": o3.Irreps("8x0e"),
    "correlation": 3,
    "avg_num_neighbors": 5.7,
    "radial_MLP": [16, 16],
    "interaction_cls": RESIDUAL,
    "interaction_cls_first": RESIDUAL,
    "gate": torch.nn.functional.silu,
    "atomic_numbers": ELEMENTS,
    "atomic_inter_scale": 0.83,
    "atomic_inter_shift": -0.217,
}
MODELS: dict[str, dict[str, Any]] = {
    "default": {
        "r_max": 5.0,
        "max_ell": 3,
        "hidden_irreps": o3.Irreps("16x0e+16x1o"),
        "MLP_irreps": o3.Irreps("16x0e"),
        "radial_MLP": [64, 64, 64],
    },
    "plain_scalars": {  # a MACE without scale and shift
        "hidden_irreps": o3.Irreps("8x0e"),
        "correlation": 2,
        "num_bessel": 6,
        "num_polynomial_cutoff": 6,
        "radial_MLP": [16],
        "atomic_inter_scale": None,
    },
    "tensors": {
        "hidden_irreps": o3.Irreps("8x0e+8x1o+8x2e"),
        "num_interactions": 3,
        "correlation": [3, 2, 2],
        "radial_MLP": [],
        "atomic_numbers": [17, 1, 8, 9, 6, 7, 11],
    },
    "heads": {
        "heads": ["gfn2", "dft"],
        "atomic_inter_scale": [0.83, 1.21],
        "atomic_inter_shift": [-0.217, 0.341],
        "use_agnostic_product": True,
        "correlation": 2,
    },
    "one_layer": {"num_interactions": 1},
    "last_readout": {"use_last_readout_only": True, "correlation": 2},
    "plain_first": {"interaction_cls_first": PLAIN, "correlation": 2},
    "repulsion": {"pair_repulsion": True, "atomic_inter_scale": None, "correlation": 2},
    "scaled_repulsion": {"pair_repulsion": True, "num_interactions": 1, "correlation": 2},
}


def build(name: str, *, seed: int) -> Any:
    """A model of the tables above with random weights.

    With mace-torch's own initial weights messages are small and weights shrink with the number of couplings, so that
    high body orders contribute little. Here the weights of every coupling have unit size and messages are larger.
    """
    torch.manual_seed(seed)
    options = COMMON | MODELS[name]
    energies = np.array([E0_EV[z] for z in options["atomic_numbers"]])
    if "heads" in options:
        energies = np.stack([energies, 0.9 * energies])
    options |= {"num_elements": len(options["atomic_numbers"]), "atomic_energies": energies}
    if options["atomic_inter_scale"] is None:
        del options["atomic_inter_scale"], options["atomic_inter_shift"]
        model = modules.MACE(**options)
    else:
        model = modules.ScaleShiftMACE(**options)
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if "symmetric_contractions" in weight_name:
                weight.mul_(weight.shape[1])
            elif re.fullmatch(r"interactions\.\d\.linear\.weight", weight_name):
                weight.mul_(MESSAGE_GAIN)
    return model


def evaluate(model: Any, atoms: Atoms, *, head: str) -> dict[str, np.ndarray]:
    """Energy (eV), forces (eV/Å) and, with periodic boundaries, stress (eV/Å³, ASE's sign)."""
    table = AtomicNumberTable(model.atomic_numbers.tolist())
    atoms.info["head"] = head
    config = data.config_from_atoms(atoms, head_name=head)
    graph = data.AtomicData.from_config(config, z_table=table, cutoff=float(model.r_max), heads=model.heads)
    loader = torch_geometric.dataloader.DataLoader([graph], batch_size=1)
    periodic = bool(atoms.pbc.all())
    result = model(next(iter(loader)).to_dict(), compute_stress=periodic)
    names = ["energy", "forces", "stress"] if periodic else ["energy", "forces"]
    return {name: result[name].detach().squeeze(0 if name != "forces" else ()).numpy() for name in names}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("frames", type=Path)
    parser.add_argument("output", type=Path, help="folder for the files")
    parser.add_argument("--only", nargs="*", default=list(MODELS), help="names of models to write; default: all")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    with h5py.File(arguments.frames) as file:
        frames = {
            name: Atoms(group["numbers"][:], group["positions"][:], cell=group["cell"][:], pbc=group["pbc"][:])
            for name, group in file.items()
        }
    for name in arguments.only:
        model = build(name, seed=sum(name.encode()))
        head = model.heads[-1]
        with h5py.File(arguments.output / f"mace_{name}.h5", "w", track_order=False) as file:
            export_model(model, file.create_group("model"))
            file.attrs["head"] = head
            for frame, atoms in frames.items():
                group = file.create_group(f"predictions/{frame}")
                results = evaluate(model, atoms, head=head)
                for quantity, values in results.items():
                    group.create_dataset(quantity, data=values)
                rms = np.sqrt(np.mean(results["forces"] ** 2))
                stress = np.abs(results["stress"]).max() if "stress" in results else np.nan
                print(f"{name:14} {frame:8} E {results['energy']:14.6f} eV, F rms {rms:9.4f} eV/Å, stress {stress:.5f}")


if __name__ == "__main__":
    main()
