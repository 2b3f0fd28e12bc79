"""The initial set of a box whose labels are clusters: cut frames to label, whole boxes to start from."""

from pathlib import Path

import numpy as np
import pytest
from ase.io import write

from al_engine.config import InitialConfig, SystemConfig
from al_engine.errors import InputError
from samplers.building.clusters import cluster_of
from samplers.building.system import build_system
from samplers.initial.initial import initial_frames


@pytest.fixture(scope="module")
def box():
    return build_system(
        SystemConfig(smiles="O", molecules=9, shape="box", density_g_per_cm3=0.6), base_dir=Path(), seed=3
    )


def from_file(path, images, system, **options):
    write(path / "mine.xyz", images, format="extxyz")
    config = InitialConfig(source="file", file="mine.xyz", frames=8, test_frames=4, **options)
    return initial_frames(system, config, [300.0], base_dir=path, seed=6, cluster=cluster_of(system, 3))


def shaken(atoms, rng):
    moved = atoms.copy()
    moved.positions += 0.03 * rng.normal(size=moved.positions.shape)
    return moved


def test_boxes_of_a_file_are_cut_around_any_molecule_and_started_from(tmp_path, box, rng):
    images = [shaken(box.frame.to_atoms(), rng) for _ in range(12)]
    found = from_file(tmp_path, images, box)
    assert len(found.starts) == 8
    for start in found.starts:
        assert start.pbc.all()
        np.testing.assert_array_equal(start.numbers, box.frame.numbers)
    for frame in (*found.train, *found.test):
        assert not frame.is_periodic
        np.testing.assert_array_equal(frame.numbers, np.tile([8, 1, 1], 3))
    # Cut around different molecules of boxes that are nearly the same: the clusters are not.
    oxygens = np.array([frame.positions[::3] for frame in found.train])
    sides = np.linalg.norm(oxygens - np.roll(oxygens, 1, axis=1), axis=2)
    assert len({tuple(np.round(np.sort(side))) for side in sides}) > 1


def test_stretching_clusters_does_not_change_the_boxes(tmp_path, box, rng):
    images = [shaken(box.frame.to_atoms(), rng) for _ in range(12)]
    found = from_file(tmp_path, images, box, stretch={"share": 1.0, "shortest_factor": 1.0, "longest_factor": 2.0})
    assert found.train_stretched.all()
    for start in found.starts:
        waters = start.positions.reshape(-1, 3, 3)
        assert np.linalg.norm(waters[:, 1:] - waters[:, :1], axis=2).max() < 1.2


def test_clusters_in_a_file_are_labelled_as_they_are_but_not_started_from(tmp_path, box, rng):
    boxes = [shaken(box.frame.to_atoms(), rng) for _ in range(6)]
    clusters = [shaken(cluster_of(box, 3).frame.to_atoms(), rng) for _ in range(6)]
    found = from_file(tmp_path, [image for pair in zip(boxes, clusters, strict=True) for image in pair], box)
    assert 0 < len(found.starts) < 8
    assert all(start.pbc.all() for start in found.starts)
    assert all(len(frame) == 9 for frame in (*found.train, *found.test))
    with pytest.raises(InputError, match="MD cannot start from any"):
        from_file(tmp_path, clusters * 2, box)
