"""Errors, label equivalents, and a labeler that drives dynamics."""

import numpy as np
import pytest
import torch

from al_engine.structures.frames import Frame, LabelledFrame
from learning.curves import errors
from learning.data import ReferenceForces
from learning.report import labels_needed
from samplers.dynamics.langevin import run_langevin
from samplers.dynamics.settings import Integration, StopRules


def test_errors_of_known_differences():
    item = LabelledFrame(Frame(numbers=[1, 1], positions=np.eye(3)[:2]), 1.0, np.zeros((2, 3)))
    found = errors(np.array([1.2, 0.9]), [np.full((2, 3), 0.1), np.array([[3.0, 0, 4.0], [0, 0, 0]])], [item, item])
    assert found["energy_mev_per_atom"] == pytest.approx(1000 * (0.1 + 0.05) / 2)
    assert found["force_mev_per_ang"] == pytest.approx(1000 * (6 * 0.1 + 7.0) / 12)
    assert found["force_max_mev_per_ang"] == pytest.approx(5000.0)
    # of four lengths the 95th percentile lies 0.85 of the way from the third to the last
    assert found["force_p95_mev_per_ang"] == pytest.approx(1000 * (0.15 * 0.1 * 3**0.5 + 0.85 * 5.0))


def test_labels_needed_on_a_power_law():
    labels = np.array([50, 100, 150, 200])
    power_law = 300.0 / np.sqrt(labels)
    assert labels_needed(labels, power_law, 300.0 / np.sqrt(120)) == pytest.approx(120)
    assert labels_needed(labels, power_law, power_law[0] + 1.0) == 50
    assert labels_needed(labels, power_law, power_law[-1] - 0.1) is None


class Spring:
    """Two atoms on a spring: a labeler with known forces."""

    length, constant = 1.5, 20.0

    def label(self, frame):
        vector = frame.positions[1] - frame.positions[0]
        distance = np.linalg.norm(vector)
        force = self.constant * (distance - self.length) * vector / distance
        return 0.5 * self.constant * (distance - self.length) ** 2, np.array([force, -force])


def test_a_labeler_gives_each_frame_of_a_batch_its_own_forces():
    frames = [Frame(numbers=[8, 1], positions=[[0, 0, 0], [x, 0, 0]]) for x in (1.2, 1.9)]
    positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames]))
    energies, forces = ReferenceForces(Spring()).bind(frames).energy_and_forces(positions, 0)
    assert energies.tolist() == pytest.approx([0.9, 1.6])
    assert forces[:, 0].tolist() == pytest.approx([-6.0, 6.0, 8.0, -8.0])


def test_dynamics_by_a_labeler_conserve_its_energy():
    start = Frame(numbers=[8, 8], positions=[[0, 0, 0], [1.6, 0, 0]])
    sampled = run_langevin(
        ReferenceForces(Spring()),
        [start],
        temperatures_kelvin=[300.0],
        integration=Integration(steps=200, stride_steps=10, timestep_fs=0.5, friction_per_ps=0.0),
        stop=StopRules(stop_deviation=np.inf),
        seed=1,
    )
    kinetic = 0.5 * 3 * 8.617333262e-5 * sampled.kinetic_kelvin  # 3N - 3 degrees of freedom
    total = sampled.energy + kinetic
    squared_frequency = 2 * Spring.constant / 15.999 * 9.648533212e-3  # 1/fs²
    assert np.ptp(total) < 0.25 * squared_frequency * 0.5**2 * np.ptp(sampled.energy)  # velocity Verlet's own ripple
