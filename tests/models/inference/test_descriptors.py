"""Descriptors of atoms: their symmetries, their dependence on the environment, and batches."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from al_engine.structures.frames import Frame
from models.inference import batches
from models.inference.descriptors import atom_descriptors


@pytest.mark.parametrize("reflect", [False, True])
def test_invariant_under_rotation_reflection_and_translation(model, reflect, random_cluster):
    frame = random_cluster()
    matrix = Rotation.random(rng=np.random.default_rng(1)).as_matrix() * (-1 if reflect else 1)
    moved = frame.with_positions(frame.positions @ matrix.T + [3.0, -8.0, 20.0])
    here, there = atom_descriptors(model, [frame, moved])
    assert np.abs(here - there).max() < 1e-12 * np.abs(here).max()
    assert here.std(axis=0).max() > 1e-3  # the promise is not empty


def test_permutation_permutes_the_rows(model, random_cluster):
    frame = random_cluster()
    order = np.random.default_rng(2).permutation(len(frame))
    permuted = Frame(numbers=frame.numbers[order], positions=frame.positions[order])
    here, there = atom_descriptors(model, [frame, permuted])
    np.testing.assert_allclose(here[order], there, rtol=1e-11, atol=1e-10)


def test_every_layer_of_every_tower_is_in_them(model, config):
    (rows,) = atom_descriptors(model, [Frame(numbers=[1, 8], positions=[[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])])
    channels = {"message": config.short.channels, "energy": sum(p.channels for p in (config.short, config.long) if p)}
    assert rows.shape == (2, config.layers * channels[config.fusion])


def test_an_atom_is_like_itself_and_unlike_what_moved(tiny_config, tiny_model, random_cluster):
    """An atom beyond the reach of two layers changes only its own row."""
    model = tiny_model(tiny_config("mace", layers=2))
    frame = random_cluster()
    far = 4 * model.cutoffs[-1]
    pair = np.array([[far, 0.0, 0.0], [far, 0.0, 1.0]])
    stretched = np.array([[far, 0.0, 0.0], [far, 0.0, 1.2]])
    numbers = [*frame.numbers, 8, 1]
    both = [Frame(numbers=numbers, positions=np.concatenate([frame.positions, p])) for p in (pair, stretched)]
    here, there = atom_descriptors(model, both)
    np.testing.assert_allclose(here[:-2], there[:-2], atol=1e-14)
    assert np.abs(here[-2:] - there[-2:]).max(axis=1).min() > 1e-4


def test_periodic_frames_may_be_wrapped(model):
    rng = np.random.default_rng(3)
    cell = np.array([[9.0, 0.0, 0.0], [1.0, 8.0, 0.0], [0.5, -1.0, 10.0]])
    frame = Frame(
        numbers=rng.choice([1, 6, 8], 12), positions=rng.uniform(0, 1, (12, 3)) @ cell, cell=cell, pbc=[True] * 3
    )
    wrapped = frame.with_positions(frame.positions + rng.integers(-2, 3, (12, 3)) @ cell)
    here, there = atom_descriptors(model, [frame, wrapped])
    np.testing.assert_allclose(here, there, rtol=1e-11, atol=1e-10)


def test_batches_do_not_show(model, random_cluster, monkeypatch):
    frames = [random_cluster(n_atoms, seed=n_atoms) for n_atoms in (3, 9, 5, 1)]
    together, told = list(atom_descriptors(model, frames)), []
    monkeypatch.setattr(batches, "BATCH_ATOMS", 8)
    apart = list(atom_descriptors(model, frames, progress=lambda done, total, _note="": told.append((done, total))))
    assert [len(rows) for rows in apart] == [3, 9, 5, 1]
    for here, there in zip(together, apart, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-11, atol=1e-10)
    assert told == [(1, 4), (2, 4), (4, 4)]
    assert list(atom_descriptors(model, [])) == []
