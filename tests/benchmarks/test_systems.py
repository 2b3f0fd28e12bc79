import numpy as np
import pytest
from vesin import NeighborList

from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import Frame
from contestants.structures import FIELDS, read_structures, write_structures
from systems import DENSITY_G_PER_CM3, benchmark_structures, repeated


@pytest.fixture(scope="module")
def structures():
    return benchmark_structures(copies=[2])


def neighbours(item, cutoff):
    (centres,) = NeighborList(cutoff=cutoff, full_list=True).compute(
        points=item.positions, box=item.cell, periodic=item.pbc, quantities="i"
    )
    return np.bincount(centres, minlength=len(item.positions))


def test_the_box_has_the_density_and_the_molecules_it_says(structures):
    box = structures["bulk_520"]
    amu_per_ang3 = atomic_masses(box.numbers).sum() / np.linalg.det(box.cell)
    assert amu_per_ang3 * 1.66053904 == pytest.approx(DENSITY_G_PER_CM3, rel=1e-6)
    assert box.pbc.all()
    assert np.bincount(box.numbers)[[6, 7, 9]].tolist() == [12 * 13, 13, 27 * 13]


def test_clusters_are_three_whole_molecules_without_a_cell(structures):
    for name in ("cluster_120", "train_0", "train_4"):
        item = structures[name]
        assert len(item) == 120
        assert not item.pbc.any()
        assert not item.cell.any()
        assert neighbours(item, 2.0).min() >= 1  # no bond was cut


def test_training_clusters_differ(structures):
    shapes = [np.sort(np.linalg.norm(structures[f"train_{k}"].positions, axis=1)) for k in range(5)]
    assert min(np.abs(a - b).max() for k, a in enumerate(shapes) for b in shapes[:k]) > 0.1


def test_no_two_atoms_are_closer_than_a_bond(structures):
    for item in structures.values():
        assert not neighbours(item, 1.2).any()


def test_atoms_of_a_repeated_box_have_the_neighbours_they_had(structures):
    once, twice = (neighbours(structures[name], 6.0) for name in ("bulk_520", "bulk_1040"))
    assert np.array_equal(np.tile(once, 2), twice)


def test_boxes_grow_axis_by_axis():
    frame = Frame(numbers=[6], positions=[[0.5, 0.5, 0.5]], cell=np.eye(3), pbc=[True] * 3)
    assert np.array_equal(repeated(frame, 16).cell, np.diag([4.0, 2.0, 2.0]))
    assert np.linalg.det(repeated(frame, 16).cell) == pytest.approx(16)
    assert len(np.unique(repeated(frame, 16).positions, axis=0)) == 16
    with pytest.raises(ValueError, match="power of two"):
        repeated(frame, 6)


def test_structures_are_read_as_they_were_written(structures, tmp_path):
    write_structures(tmp_path / "some.npz", structures)
    found = read_structures(tmp_path / "some.npz")
    assert list(found) == list(structures)
    for name, item in structures.items():
        assert all(np.array_equal(getattr(item, field), getattr(found[name], field)) for field in FIELDS)


def test_the_same_seed_gives_the_same_structures(structures):
    again = benchmark_structures()
    assert np.array_equal(again["cluster_120"].positions, structures["cluster_120"].positions)
    assert np.array_equal(again["train_3"].forces, structures["train_3"].forces)  # whatever else is drawn
