"""The sanity gate element by element, and the order of candidates by novelty."""

import numpy as np
import pytest

from al_engine.config import SelectionConfig
from al_engine.selection.choice import gate_fates, most_novel, shared_among
from al_engine.selection.fates import Fate
from al_engine.structures.bonds import Bonds
from al_engine.structures.frames import Frame

METHANOL = np.array(
    [[-0.36, -0.01, 0.02], [0.90, 0.06, -0.11], [-0.60, 0.92, 0.50], [-0.61, -0.91, 0.62], [-0.78, -0.01, -0.98],
     [1.20, -0.74, 0.46]]
)  # fmt: skip


def methanol(seed, *, atom, shift, scale=0.01):
    """A slightly shaken methanol with one atom shifted."""
    positions = METHANOL + np.random.default_rng(seed).normal(scale=scale, size=METHANOL.shape)
    positions[atom] = METHANOL[atom] + np.array(shift)
    return Frame(numbers=[6, 8, 1, 1, 1, 1], positions=positions)


def distances_of_atoms(frames):
    """A simple descriptor: the sorted distances of every atom to all others."""
    for frame in frames:
        yield np.sort(np.linalg.norm(frame.positions[:, None] - frame.positions[None], axis=-1), axis=1)


def test_the_element_and_the_surroundings_of_the_worst_atom_decide():
    """A hydrogen atom unlike those of the data set is new; the carbon atom of the same frame is not."""
    known = [methanol(k, atom=0, shift=[0, 0, 0], scale=0.05) for k in range(100, 110)]
    usual, odd = methanol(0, atom=5, shift=[0, 0, 0]), methanol(1, atom=5, shift=[0.4, 0.0, 0.0])
    order = most_novel([usual, odd], np.array([5, 5]), known, describe=distances_of_atoms)
    assert order.tolist() == [1, 0]
    far_carbon = methanol(2, atom=0, shift=[-0.5, 0.0, 0.0])
    order = most_novel([odd, far_carbon], np.array([2, 0]), known, describe=distances_of_atoms)
    assert order.tolist() == [1, 0]


H2, CH, CC = (Frame(numbers=z, positions=[[0, 0, 0], [1, 0, 0]]) for z in ([1, 1], [6, 1], [6, 6]))


@pytest.mark.parametrize(
    ("frame", "distance", "fate"),
    [
        (H2, 0.74, Fate.OVER_CAP),  # as in the molecule
        (H2, 0.61, Fate.OVER_CAP),
        (H2, 0.59, Fate.TOO_CLOSE),  # `min_distance_ang`
        (CH, 0.40, Fate.TOO_CLOSE),
        (CH, 0.65, Fate.OVER_CAP),  # half of 0.76 + 0.31 is below `min_distance_ang`
        (CC, 0.75, Fate.TOO_CLOSE),  # half of 0.76 + 0.76
        (CC, 0.77, Fate.OVER_CAP),
        (CC, 2.99, Fate.OVER_CAP),
        (CC, 3.01, Fate.FRAGMENTED),  # 2.5 times 1.2
    ],
)
@pytest.mark.parametrize("periodic", [False, True])
def test_gate_element_by_element(frame, distance, fate, periodic):
    """One atom at the origin, one `distance` away; in a box across its boundary, where the bond is an image's."""
    spin = {"unpaired_electrons": 1} if frame is CH else {}
    cell = {"cell": np.eye(3) * 9.0, "pbc": [True] * 3} if periodic else {}
    second = distance - 9.0 if periodic else distance
    at_distance = Frame(numbers=frame.numbers, positions=[[0, 0, 0], [0, second, 0]], **spin, **cell)
    bonds = Bonds(pairs=np.array([[0, 1]]), lengths=np.array([1.2]))
    assert gate_fates([at_distance], [bonds], SelectionConfig(), gfn2=True).tolist() == [fate]


def test_gate_asks_for_electrons_that_fit():
    bonds = Bonds(pairs=np.empty((0, 2), dtype=int), lengths=np.empty(0))
    radical = Frame(numbers=[8, 1], positions=[[0, 0, 0], [0.97, 0, 0]])
    hydroxyl = Frame(numbers=[8, 1], positions=[[0, 0, 0], [0.97, 0, 0]], unpaired_electrons=1)
    config = SelectionConfig()
    assert gate_fates([radical, hydroxyl], [bonds] * 2, config, gfn2=True).tolist() == [Fate.REFUSED, Fate.OVER_CAP]
    assert gate_fates([radical], [bonds], config, gfn2=False).tolist() == [Fate.OVER_CAP]


def test_no_system_is_left_without_labels_and_the_order_decides_the_rest():
    system = np.array(["liquid"] * 10 + ["ion"] * 2)
    order = np.arange(100, 112)
    shared = shared_among(order, system, 8)
    assert sorted(shared) == sorted(order)
    assert set(shared[:8].tolist()) == {100, 101, 102, 103, 104, 105, 110, 111}  # two each, then the next in order
    assert np.array_equal(shared_among(order, np.array(["only"] * 12), 8), order)
