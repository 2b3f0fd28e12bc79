"""Physical symmetries of the model, to rounding in double precision."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from al_engine.structures.frames import Frame


def moved(frame, matrix, shift=0.0):
    return Frame(
        numbers=frame.numbers, positions=frame.positions @ matrix.T + shift, cell=frame.cell @ matrix.T, pbc=frame.pbc
    )


@pytest.mark.parametrize("reflect", [False, True])
def test_rotation_reflection_and_translation(model, reflect, evaluate, random_cluster):
    frame = random_cluster()
    matrix = Rotation.random(rng=np.random.default_rng(1)).as_matrix() * (-1 if reflect else 1)
    energy, forces = evaluate(model, frame)
    energy_moved, forces_moved = evaluate(model, moved(frame, matrix, shift=[3.0, -8.0, 20.0]))
    assert abs(energy - energy_moved) < 1e-10
    assert np.abs(forces @ matrix.T - forces_moved).max() < 1e-10
    assert np.abs(forces).max() > 1e-2  # the promise is not empty


def test_permutation(model, evaluate, random_cluster):
    frame = random_cluster()
    order = np.random.default_rng(2).permutation(len(frame))
    energy, forces = evaluate(model, frame)
    energy_permuted, forces_permuted = evaluate(
        model, Frame(numbers=frame.numbers[order], positions=frame.positions[order])
    )
    assert abs(energy - energy_permuted) < 1e-10
    assert np.abs(forces[order] - forces_permuted).max() < 1e-10


def test_no_net_force_and_no_net_torque(model, evaluate, random_cluster):
    frame = random_cluster()
    _, forces = evaluate(model, frame)
    assert np.abs(forces.sum(0)).max() < 1e-10
    assert np.abs(np.cross(frame.positions, forces).sum(0)).max() < 1e-10


def test_two_far_copies_have_twice_the_energy(model, evaluate, random_cluster):
    frame = random_cluster()
    both = Frame(
        numbers=np.tile(frame.numbers, 2),
        positions=np.concatenate([frame.positions, frame.positions + np.array([100.0, 0, 0])]),
    )
    energy, forces = evaluate(model, frame)
    energy_both, forces_both = evaluate(model, both)
    assert abs(2 * energy - energy_both) < 1e-10
    assert np.abs(np.tile(forces, (2, 1)) - forces_both).max() < 1e-10


@pytest.mark.parametrize(("number", "expected"), [(1, -11.0), (6, -52.0), (8, -107.0)])
def test_isolated_atom_has_its_reference_energy(model, number, expected, evaluate):
    energy, forces = evaluate(model, Frame(numbers=[number], positions=[[1.0, 2.0, 3.0]]))
    assert energy == expected
    assert np.abs(forces).max() == 0.0


def test_long_path_off_is_the_short_path_alone(evaluate, random_cluster, tiny_config, tiny_model):
    """With fusion of energies the towers have separate weights: with a zero long tower the model is MACE."""
    both, short = tiny_model(tiny_config("energy")), tiny_model(tiny_config("mace"))
    both.towers[0].load_state_dict(short.towers[0].state_dict())
    for parameter in both.towers[1].readouts.parameters():
        parameter.data.zero_()
    frame = random_cluster()
    energy_both, forces_both = evaluate(both.freeze(), frame)
    energy, forces = evaluate(short, frame)
    assert abs(energy - energy_both) < 1e-10
    assert np.abs(forces - forces_both).max() < 1e-10


def test_long_path_reaches_beyond_the_short_cutoff(evaluate, tiny_config, tiny_model):
    frame = Frame(numbers=[1, 8], positions=[[0, 0, 0], [0, 0, 4.0]])
    assert np.abs(evaluate(tiny_model(tiny_config("mace")), frame)[1]).max() == 0.0
    assert np.abs(evaluate(tiny_model(tiny_config("message")), frame)[1]).max() > 1e-4


def test_float32_follows_float64(evaluate, random_cluster, tiny_config, tiny_model):
    frame = random_cluster()
    exact = evaluate(tiny_model(tiny_config()), frame)
    single = evaluate(tiny_model(tiny_config(dtype="float32")), frame)
    assert abs(exact[0] - single[0]) < 1e-4
    assert np.abs(exact[1] - single[1]).max() < 1e-4 * max(1.0, np.abs(exact[1]).max())
    assert torch.get_default_dtype() == torch.float32  # nothing global was changed
