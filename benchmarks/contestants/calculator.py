"""Times the calls of the ASE calculator: `python calculator.py COMMITTEE STRUCTURE CALLS`.

The engine on PYTHONPATH may be of any version, so this program uses only its function `load_committee`. It prints the
median time of a call in ms. The atoms move a little between two calls, as in molecular dynamics.
"""

import statistics
import sys
import time

import numpy as np
from ase.io import read

from models import load_committee

WARM_UP_S, WARM_UP_CALLS = 5.0, 110
"""Small structures are traced after a hundred calls; large ones are warm after a few."""
STEP_ANG = 0.005


def main() -> None:
    """Time the calls."""
    committee, structure, calls = sys.argv[1:]
    atoms = read(structure)
    atoms.calc = load_committee(committee, device="cpu")
    start = atoms.positions.copy()
    rng = np.random.default_rng(0)

    def call() -> float:
        atoms.positions = start + rng.normal(scale=STEP_ANG, size=start.shape)
        begin = time.perf_counter()
        atoms.get_forces()
        return 1e3 * (time.perf_counter() - begin)

    begin = time.perf_counter()
    for done in range(WARM_UP_CALLS):
        if done > 1 and time.perf_counter() - begin > WARM_UP_S:
            break
        call()
    print(statistics.median(call() for _ in range(int(calls))))


if __name__ == "__main__":
    main()
