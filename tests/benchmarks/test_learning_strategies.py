"""The frames that each strategy selects from a pool."""

import numpy as np
import pytest

from al_engine.selection.window import Window
from al_engine.structures.frames import Frame
from learning.strategies import STRATEGIES, Unlabelled, choose, window_indices

WINDOW = Window(100.0, 300.0)


def frame(x):
    return Frame(numbers=[1, 8], positions=[[0.0, 0.0, 0.0], [x, 0.0, 0.0]])


def describe(frames):
    """The distance of the two atoms as the only feature of both."""
    return [np.full((2, 1), item.positions[1, 0]) for item in frames]


def chosen(strategy, distances, deviations, *, count, known=(1.0, 1.1), rng=None):
    available = Unlabelled(
        [frame(x) for x in distances], 1e-3 * np.asarray(deviations), np.zeros(len(distances), dtype=np.int64)
    )
    return choose(
        strategy,
        available,
        [frame(x) for x in known],
        count=count,
        window=WINDOW,
        describe=describe,
        rng=rng or np.random.default_rng(0),
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_as_many_as_asked_each_once_in_order(strategy, rng):
    taken = chosen(strategy, rng.uniform(1, 2, 40), rng.uniform(0, 600, 40), count=15).chosen
    assert len(taken) == 15
    assert np.all(np.diff(taken) > 0)


def test_the_window_is_drawn_from_alone_while_it_holds_enough():
    deviation = np.array([50.0, 100.0, 200.0, 300.0, 301.0])
    for seed in range(10):
        choice = chosen("window", np.ones(5), deviation, count=2, rng=np.random.default_rng(seed))
        assert set(choice.chosen) <= {1, 2, 3}
        assert choice.in_window == 3


def test_a_window_that_holds_too_few_is_opened_downwards_then_upwards():
    deviation = 1e-3 * np.array([20.0, 90.0, 150.0, 400.0, 900.0])
    found = {count: window_indices(deviation, WINDOW, count=count) for count in (1, 2, 3, 4, 9)}
    assert [found[count][0].tolist() for count in found] == [[2], [1, 2], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert {inside for _, inside in found.values()} == {1}


def test_farthest_points_are_the_outliers_wherever_the_committee_agrees():
    distances = [1.03, 1.05, 3.0, 1.09, 0.2]
    deviations = [200.0, 200.0, 10.0, 200.0, 2000.0]
    assert chosen("farthest", distances, deviations, count=2).chosen.tolist() == [2, 4]
    assert chosen("window + farthest", distances, deviations, count=2).chosen.tolist() == [0, 1]


def test_the_committees_strategies_ask_for_deviations():
    with pytest.raises(ValueError, match="needs deviations"):
        choose(
            "window",
            Unlabelled([frame(1.0)]),
            [frame(1.1)],
            count=1,
            window=WINDOW,
            describe=describe,
            rng=np.random.default_rng(0),
        )
