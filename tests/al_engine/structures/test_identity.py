"""Duplicates: every copy is found wherever rounding falls, nothing else is."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from al_engine.structures.frames import Frame
from al_engine.structures.identity import TOLERANCE_ANG, duplicates, same_structure

NUMBERS = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])
CELL = np.array([[9.0, 0.0, 0.0], [1.0, 8.0, 0.0], [0.5, -1.0, 10.0]])


def cluster(seed, numbers=NUMBERS):
    return Frame(numbers=numbers, positions=np.random.default_rng(seed).uniform(0.0, 4.0, (len(numbers), 3)))


def box(seed):
    rng = np.random.default_rng(seed)
    return Frame(numbers=NUMBERS, positions=rng.uniform(0, 1, (9, 3)) @ CELL, cell=CELL, pbc=[True] * 3)


def copied(frame, seed, *, noise=0.0, mirror=False):
    """Turned, shifted, renumbered; wrapped if periodic."""
    rng = np.random.default_rng(seed)
    matrix = Rotation.random(rng=rng).as_matrix() * (-1 if mirror else 1)
    order = rng.permutation(len(frame))
    cell = frame.cell @ matrix.T
    positions = frame.positions[order] @ matrix.T + rng.uniform(-9, 9, 3) + rng.uniform(-noise, noise, (len(frame), 3))
    positions += np.where(frame.pbc, rng.integers(-2, 3, (len(frame), 3)), 0) @ cell
    return Frame(
        numbers=frame.numbers[order],
        positions=positions,
        cell=cell,
        pbc=frame.pbc,
        charge=frame.charge,
        unpaired_electrons=frame.unpaired_electrons,
    )


@pytest.mark.parametrize("make", [cluster, box])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_a_planted_copy_is_caught(make, mirror, seed):
    """Among other structures; each coordinate is off by a quarter of the tolerance, so that no two numbers agree."""
    others = [make(k) for k in range(100, 130)]
    copy = copied(others[7], seed, noise=TOLERANCE_ANG / 4, mirror=mirror)
    np.testing.assert_array_equal(duplicates([make(1), copy, make(2)], others), [False, True, False])
    np.testing.assert_array_equal(duplicates([*others, copy], []), [False] * 30 + [True])


def test_a_copy_in_a_file_of_three_decimals_is_caught():
    for seed in range(50):
        frame = copied(cluster(seed), seed)
        assert same_structure(frame, frame.with_positions(np.round(frame.positions, 3)))


@pytest.mark.parametrize("make", [cluster, box])
def test_one_atom_moved_makes_another_structure(make):
    frame, moved = make(0), make(0).positions.copy()
    moved[4, 1] += 0.01
    assert not same_structure(frame, frame.with_positions(moved))
    assert duplicates([frame.with_positions(moved)], [frame]).tolist() == [False]


@pytest.mark.parametrize(
    "changes", [{"charge": 1}, {"unpaired_electrons": 2}, {"cell": CELL, "pbc": [True] * 3}, {"numbers": NUMBERS[::-1]}]
)
def test_what_else_makes_another_structure(changes):
    frame = cluster(0)
    other = Frame(**({"numbers": frame.numbers, "positions": frame.positions} | changes))
    assert not same_structure(frame, other)
    assert duplicates([other], [frame]).tolist() == [False]


def test_exchanged_elements_make_another_structure():
    """The same atoms at the same places, two of them exchanged: the distances are the same, their elements are not."""
    frame = cluster(0)
    positions = frame.positions.copy()
    positions[[0, 2]] = positions[[2, 0]]
    assert not same_structure(frame, frame.with_positions(positions))
    positions = frame.positions.copy()
    positions[[0, 1]] = positions[[1, 0]]
    assert same_structure(frame, frame.with_positions(positions))


def test_cells_of_another_shape_make_another_structure():
    frame = box(0)
    wider = Frame(numbers=frame.numbers, positions=frame.positions, cell=CELL + np.diag([0.1, 0, 0]), pbc=[True] * 3)
    assert not same_structure(frame, wider)


def test_crystals_of_one_atom_are_told_apart_by_their_cell():
    cubes = [Frame(numbers=[18], positions=[[0, 0, 0]], cell=np.eye(3) * a, pbc=[True] * 3) for a in (5.2, 5.3, 5.2)]
    assert duplicates(cubes, []).tolist() == [False, False, True]


def test_distances_at_the_cut_off_do_not_matter():
    """Two atoms 6 Å apart, give or take: within the cut-off or beyond it, the structure is the same."""
    frames = [
        Frame(numbers=[2, 2], positions=[[0, 0, 0], [d, 0, 0]], cell=np.eye(3) * 30, pbc=[True] * 3)
        for d in (5.9995, 6.0005)
    ]
    assert same_structure(*frames)
    assert duplicates(frames, []).tolist() == [False, True]


def test_a_chain_of_small_steps_is_not_one_structure():
    """Each is a copy of the one before; every other one is beyond the tolerance from the last that was kept."""
    step = 0.6 * TOLERANCE_ANG
    chain = [Frame(numbers=[1, 1], positions=[[0, 0, 0], [0.74 + k * step, 0, 0]]) for k in range(6)]
    assert duplicates(chain, []).tolist() == [False, True] * 3


def test_two_structures_of_equal_distances_are_not_told_apart():
    """What the docstring owns up to: four points on a line, homometric but not congruent (Bloom's pair)."""
    one, other = ([0.0, 1.0, 4.0, 10.0, 12.0, 17.0], [0.0, 1.0, 8.0, 11.0, 13.0, 17.0])
    frames = [Frame(numbers=[2] * 6, positions=np.column_stack([x, np.zeros(6), np.zeros(6)])) for x in (one, other)]
    assert same_structure(*frames)


def test_nothing_and_single_atoms():
    assert duplicates([], [cluster(0)]).tolist() == []
    atoms = [Frame(numbers=[2], positions=[[x, 0.0, 0.0]]) for x in (0.0, 5.0)]
    assert duplicates(atoms, []).tolist() == [False, True]
