"""Thinning: spacing kept, nothing lost without a reason, trajectories apart."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from al_engine.selection.thinning import thinned


def test_by_hand():
    """5 is worth most and takes 4 and 6; of what is left 8 is worth most and takes 7; 2 takes 3."""
    time = np.arange(1, 9)
    worth = np.array([0.1, 0.5, 0.4, 0.8, 0.9, 0.85, 0.2, 0.6])
    kept = thinned(np.zeros(8, dtype=int), time, worth, separation=2)
    assert time[kept].tolist() == [2, 5, 8]


def test_of_equals_the_earliest_stays():
    assert thinned(np.zeros(5, dtype=int), np.arange(5), np.ones(5), separation=2).tolist() == [1, 0, 1, 0, 1]


@settings(deadline=None, derandomize=True, database=None)
@given(st.data(), st.integers(0, 80), st.integers(0, 12))
def test_spacing_and_reasons(data, n, separation):
    places = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), min_size=n, max_size=n, unique=True))
    trajectory, time = np.array(places, dtype=int).reshape(-1, 2).T
    worth = data.draw(arrays(float, n, elements=st.floats(0.0, 1.0)))
    kept = thinned(trajectory, time, worth, separation=separation)
    near = (trajectory[:, None] == trajectory) & (np.abs(time[:, None] - time) < separation)
    np.fill_diagonal(near, val=False)
    assert not near[np.ix_(kept, kept)].any()
    for lost in np.flatnonzero(~kept):
        assert (worth[near[lost] & kept] >= worth[lost]).any()
    if separation <= 1:
        assert kept.all()


def test_order_of_the_frames_does_not_matter():
    rng = np.random.default_rng(0)
    trajectory, time, worth = rng.integers(0, 3, 60), rng.permutation(60), rng.uniform(size=60)
    order = rng.permutation(60)
    kept = thinned(trajectory, time, worth, separation=5)
    np.testing.assert_array_equal(thinned(trajectory[order], time[order], worth[order], separation=5), kept[order])
