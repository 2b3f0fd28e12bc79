"""Selection: one fate for every frame, counts that add up, the cap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from al_engine.selection.fates import (
    ACCURATE_FATES,
    CANDIDATE_FATES,
    REJECTED_FATES,
    Counts,
    Fate,
    choose,
    count,
    count_fates,
    open_candidates,
    window_fates,
)
from al_engine.selection.window import Window

WINDOW = Window(100.0, 300.0)
DEVIATION = st.one_of(st.floats(0.0, 0.5), st.sampled_from([0.0, 0.1, 0.3, np.nan, np.inf]))


@settings(deadline=None, derandomize=True, database=None)
@given(st.data(), st.integers(0, 200))
def test_every_frame_has_one_fate_and_the_counts_add_up(data, n):
    """Whatever the deviations are, and whatever is said about the candidates afterwards."""
    deviation = data.draw(arrays(float, n, elements=DEVIATION))
    sound = data.draw(arrays(bool, n))
    fates = window_fates(deviation, np.zeros(n), sound=sound, window=WINDOW)
    window = (deviation >= 0.1) & (deviation <= 0.3) & sound
    np.testing.assert_array_equal(open_candidates(fates), np.flatnonzero(window))

    refusals = st.sampled_from([Fate.OVER_CAP, Fate.TOO_CLOSE, Fate.REFUSED, Fate.CORRELATED, Fate.DUPLICATE])
    fates[window] = data.draw(arrays(np.int8, int(window.sum()), elements=refusals.map(int)))
    left, cap = open_candidates(fates), data.draw(st.integers(1, 60))
    chosen = choose(fates, np.random.default_rng(n).permutation(left), cap)

    counts = count(fates)
    assert (
        counts.sampled == n == counts.accurate + counts.candidate + counts.rejected == sum(count_fates(fates).values())
    )
    assert counts.candidate == window.sum()
    assert counts.accurate == ((deviation < 0.1) & sound).sum()
    np.testing.assert_array_equal(np.isin(fates, CANDIDATE_FATES), window)
    np.testing.assert_array_equal(fates == Fate.UNSOUND, ~sound)
    np.testing.assert_array_equal(chosen, np.flatnonzero(fates == Fate.LABELLED))
    assert len(chosen) == min(cap, len(left))
    assert set(chosen.tolist()) <= set(left.tolist())


def test_what_is_not_finite_is_rejected():
    fates = window_fates(np.array([np.nan, np.inf, 0.2]), np.zeros(3), sound=np.ones(3, dtype=bool), window=WINDOW)
    assert fates.tolist() == [Fate.REJECTED, Fate.REJECTED, Fate.OVER_CAP]


def test_a_frame_on_which_a_trajectory_was_stopped_is_never_labelled():
    """Also where the committee agrees on it: an atom may have been thrown out of the cluster."""
    deviation = np.array([0.01, 0.2, 0.9, np.nan])
    fates = window_fates(deviation, np.zeros(4), sound=np.zeros(4, dtype=bool), window=WINDOW)
    assert fates.tolist() == [Fate.UNSOUND] * 4
    assert count(fates) == Counts(sampled=4, accurate=0, candidate=0, rejected=4)


def test_net_force_window_makes_accurate_frames_candidates_and_rejects_above():
    window = Window(100.0, 300.0, 20.0, 60.0)
    deviation = np.array([0.01, 0.01, 0.01, 0.01, 0.01, 0.2, 0.2, 0.9, 0.01])
    net_force = np.array([0.01, 0.02, 0.05, 0.06, 0.07, 0.0, 0.07, 0.05, np.nan])
    fates = window_fates(deviation, net_force, sound=np.ones(9, dtype=bool), window=window)
    candidate, accurate, rejected = Fate.OVER_CAP, Fate.ACCURATE, Fate.REJECTED
    assert fates.tolist() == [
        accurate, candidate, candidate, candidate, rejected, candidate, rejected, rejected, rejected,
    ]  # fmt: skip


def test_the_first_in_order_are_chosen():
    fates = np.full(6, Fate.OVER_CAP, dtype=np.int8)
    chosen = choose(fates, np.array([5, 0, 3, 1, 2, 4]), 3)
    assert chosen.tolist() == [0, 3, 5]
    assert fates.tolist() == [2, 3, 3, 2, 3, 2]
    assert choose(fates, np.array([1]), 10).tolist() == [1]


def test_shares_of_counts():
    counts = Counts(sampled=400, accurate=300, candidate=80, rejected=20)
    assert (counts.acceptance, counts.rejected_share) == (0.2, 0.05)
    empty = count(np.array([], dtype=np.int8))
    assert (empty.sampled, empty.acceptance, empty.rejected_share) == (0, 0.0, 0.0)


def test_fates_are_counted_by_name():
    fates = np.array([Fate.LABELLED, Fate.ACCURATE, Fate.FRAGMENTED, Fate.LABELLED])
    assert count_fates(fates) == {"accurate": 1, "labelled": 2, "fragmented": 1}


def test_fate_numbers_are_those_stored_in_campaigns():
    assert {fate.name: fate.value for fate in Fate} == {
        "ACCURATE": 0,
        "REJECTED": 1,
        "LABELLED": 2,
        "OVER_CAP": 3,
        "TOO_CLOSE": 4,
        "REFUSED": 5,
        "LABEL_FAILED": 6,
        "UNSOUND": 7,
        "CORRELATED": 8,
        "DUPLICATE": 9,
        "FRAGMENTED": 10,
        "AUDITED": 11,
    }
    assert {*CANDIDATE_FATES, *REJECTED_FATES, *ACCURATE_FATES} == set(Fate)
    assert len(CANDIDATE_FATES) + len(REJECTED_FATES) + len(ACCURATE_FATES) == len(Fate)


def test_an_audited_frame_counts_as_accurate():
    assert count(np.array([Fate.ACCURATE, Fate.AUDITED, Fate.LABELLED, Fate.REJECTED])) == Counts(4, 2, 1, 1)


@pytest.mark.parametrize("fate", Fate)
def test_every_fate_counts_once(fate):
    counts = count(np.array([fate]))
    assert counts.accurate + counts.candidate + counts.rejected == 1
