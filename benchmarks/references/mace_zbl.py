"""Pair energies of mace-torch's ZBL repulsion and their slopes, for the test of `models.layers.repulsion`.

Runs where mace-torch 0.3.16 is installed, from the root of this repository, without al-engine:

    python -m benchmarks.references.mace_zbl tests/models/data/mace_zbl.h5
"""

import argparse
import importlib.metadata
import os
from pathlib import Path

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn 0.4 with torch >= 2.6 needs it to import

import h5py
import torch
from mace.modules.radial import ZBLBasis

ELEMENTS = [1, 6, 8, 9]
PAIRS = [(1, 1), (1, 6), (6, 6), (6, 9), (9, 8)]
DISTANCES_ANG = [0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.2, 1.3, 1.5, 2.0]
POWERS = [5, 6]


def energies_and_slopes(power: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies in eV and dE/dr in eV/Å of every pair at every distance, shape (pairs, distances)."""
    basis = ZBLBasis(p=power)
    r = torch.tensor(DISTANCES_ANG).repeat(len(PAIRS), 1).requires_grad_()
    rows = []
    for (first, second), lengths in zip(PAIRS, r, strict=True):
        species = torch.tensor([ELEMENTS.index(first), ELEMENTS.index(second)])
        one_hot = torch.eye(len(ELEMENTS))[species]
        both_ways = torch.tensor([[0, 1], [1, 0]])
        rows.append(
            torch.stack([basis(x.expand(2, 1), one_hot, both_ways, torch.tensor(ELEMENTS)).sum() for x in lengths])
        )
    energies = torch.stack(rows)
    (slopes,) = torch.autograd.grad(energies.sum(), r)
    return energies.detach(), slopes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path)
    torch.set_default_dtype(torch.float64)
    with h5py.File(parser.parse_args().output, "w") as file:
        file.attrs["mace_torch"] = importlib.metadata.version("mace-torch")
        for power in POWERS:
            energies, slopes = energies_and_slopes(power)
            group = file.create_group(f"power_{power}")
            group.create_dataset("numbers", data=PAIRS)
            group.create_dataset("distances", data=DISTANCES_ANG)
            group.create_dataset("energies", data=energies.numpy())
            group.create_dataset("slopes", data=slopes.numpy())


if __name__ == "__main__":
    main()
