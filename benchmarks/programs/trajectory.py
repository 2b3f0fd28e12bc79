"""The trajectory that every program runs, its clock, and the run in ASE; needs NumPy and ASE alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

STEPS, BLOCK, TIMESTEP_FS, KELVIN = 200, 20, 0.5, 200.0
WARM_UP = 110
"""Steps before the timed ones: small molecules are traced after a hundred."""
Stamp = tuple[float, float]
"""Wall-clock time and CPU time of the process, s."""
Times = Mapping[str, float]
"""Least time per step over all blocks of `BLOCK` steps: `wall_ms` and `cpu_ms`. Other programs on the machine, which
only lengthen a block, change it little."""
Trajectory = tuple[list[float], Times]
"""Total energies in eV, one per step, and the time per step."""


def now() -> Stamp:
    """The present stamp of this process."""
    return time.perf_counter(), time.process_time()


def times_of(stamps: Sequence[Stamp] | np.ndarray) -> Times:
    """Times per step, from a stamp before and after each block: pairs, or an array of shape (blocks + 1, 2)."""
    wall, cpu = 1000.0 * np.diff(np.asarray(stamps), axis=0).min(0) / BLOCK
    return {"wall_ms": float(wall), "cpu_ms": float(cpu)}


def timed(run: Callable[[int], Any]) -> Times:
    """Run the warm-up and then the blocks by the clock; `run` is called with a number of steps."""
    run(WARM_UP)
    stamps = [now()]
    for _ in range(STEPS // BLOCK):
        run(BLOCK)
        stamps.append(now())
    return times_of(stamps)


def by_ase(atoms: Atoms, calculator: Any) -> tuple[dict[str, Any], Trajectory]:
    """A calculator in ASE: energy, forces, stress if all axes are periodic, and the NVE trajectory."""
    atoms = atoms.copy()
    atoms.calc = calculator
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.pbc.any():
        results["stress"] = atoms.get_stress(voigt=False)
    dynamics = VelocityVerlet(atoms, TIMESTEP_FS * units.fs)
    totals: list[float] = []
    dynamics.attach(lambda: totals.append(atoms.get_total_energy()))
    return results, (totals, timed(dynamics.run))


def deviation_of(member_forces: Any) -> Any:
    """Force deviation of each atom, kind `norm`, of members' forces of shape (M, N, 3)."""
    return np.sqrt(((member_forces - member_forces.mean(0)) ** 2).mean(0).sum(1))
