"""The check of a campaign's claim: the wall of its MD by ASE, and the shares it reports."""

import numpy as np
import pytest
from ase import Atoms

from claim import Wall, summary


def test_the_walls_force_is_minus_the_gradient_of_its_energy():
    """U = k/2 sum max(0, |r - R_com| - R)², differentiated for one atom so heavy that the centre does not follow."""
    atoms = Atoms("UH", positions=[[0.0, 0.0, 0.0], [3.0, 1.0, -2.0]], masses=[1e12, 1.0])
    wall = Wall(2.0, 0.5)

    def energy(position):
        return 0.25 * max(0.0, float(np.linalg.norm(position)) - 2.0) ** 2

    forces = np.zeros((2, 3))
    wall.adjust_forces(atoms, forces)
    for axis in range(3):
        step = 1e-5 * np.eye(3)[axis]
        slope = (energy(atoms.positions[1] + step) - energy(atoms.positions[1] - step)) / 2e-5
        assert forces[1, axis] == pytest.approx(-slope, rel=1e-5)
    assert not forces[0].any()


def test_only_accurate_frames_are_held_to_the_claim():
    deviation = np.array([50.0, 50.0, 50.0, 50.0, 150.0])
    error = np.array([10.0, 40.0, 60.0, 120.0, 500.0])
    found = summary(deviation, error, lower=100.0, bound=60.0)
    assert (found["frames"], found["accurate"], found["bad"]) == (5, 4, 1)
    assert found["within_bound"] == 0.75
    assert found["largest_error_mev_per_ang"] == 120.0
