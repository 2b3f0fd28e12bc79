"""A committee of mace-torch models in mace-torch's own ASE calculator; runs in mace-torch's environment.

python -m programs.mace structure.traj results.npz committee-0.model committee-1.model
"""

import argparse
import os
from typing import Any

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn 0.4 with torch >= 2.6 needs it to import

import numpy as np
import torch
from ase.io import read
from mace.calculators import MACECalculator

from programs.trajectory import by_ase, deviation_of


def main() -> None:
    """Evaluate the structure, run the trajectory, and write both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("structure", help="structure with momenta, in ASE's trajectory format")
    parser.add_argument("output", help="file for the results")
    parser.add_argument("models", nargs="+", help="the members")
    options = parser.parse_args()
    torch.set_num_threads(1)
    atoms = read(options.structure)
    calculator = MACECalculator(model_paths=options.models, device="cpu", default_dtype="float32")
    calculator.calculate(atoms)
    deviation = deviation_of(np.asarray(calculator.results["forces_comm"]))
    results, (totals, times) = by_ase(atoms, calculator)
    arrays: dict[str, Any] = {**results, **times, "deviation": deviation, "totals": totals}
    np.savez(options.output, **arrays)


if __name__ == "__main__":
    main()
