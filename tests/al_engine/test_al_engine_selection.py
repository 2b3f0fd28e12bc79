"""Selection: one fate for every frame, the window's ends, the cap, the lots."""

import numpy as np
import pytest

from al_engine.config import SelectionConfig
from al_engine.selection import CANDIDATE_FATES, Counts, Fate, count, in_window, select


def run(deviation, *, seed=0, too_close=None, refused=None, **config):
    deviation = np.asarray(deviation, dtype=float)
    nothing = np.zeros(len(deviation), dtype=bool)
    return select(
        deviation,
        too_close=nothing if too_close is None else np.asarray(too_close, dtype=bool),
        refused=nothing if refused is None else np.asarray(refused, dtype=bool),
        config=SelectionConfig(**config),
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("seed", range(50))
def test_every_frame_has_one_fate_and_the_counts_add_up(seed):
    rng = np.random.default_rng(seed)
    n, cap = int(rng.integers(0, 300)), int(rng.integers(1, 60))
    deviation = rng.choice([0.0, 0.1, 0.3, np.nan, np.inf, *rng.uniform(0.0, 0.5, size=20)], size=n)
    too_close, refused = rng.random(n) < 0.2, rng.random(n) < 0.2
    fates, chosen = run(deviation, seed=seed, too_close=too_close, refused=refused, max_labels=cap)

    window = (deviation >= 0.1) & (deviation <= 0.3)
    counts = count(fates)
    assert counts.sampled == n == counts.accurate + counts.candidate + counts.rejected
    assert counts.candidate == window.sum()
    assert counts.accurate == (deviation < 0.1).sum()
    np.testing.assert_array_equal(np.isin(fates, CANDIDATE_FATES), window)
    np.testing.assert_array_equal(chosen, np.flatnonzero(fates == Fate.LABELLED))
    eligible = window & ~too_close & ~refused
    assert len(chosen) == min(cap, eligible.sum())
    assert eligible[chosen].all()
    np.testing.assert_array_equal(fates == Fate.TOO_CLOSE, window & too_close)
    np.testing.assert_array_equal(fates == Fate.REFUSED, window & refused & ~too_close)


@pytest.mark.parametrize(("lower", "upper"), [(100.0, 300.0), (9.0, 13.0), (18.0, 26.0), (36.0, 43.0), (115.0, 359.0)])
def test_both_ends_belong_to_the_window(lower, upper):
    """Also where lower x 1e-3 is not the float nearest the decimal number."""
    low, high = lower / 1000.0, upper / 1000.0
    deviation = [np.nextafter(low, 0.0), low, high, np.nextafter(high, 1.0)]
    fates, _ = run(deviation, lower_mev_per_ang=lower, upper_mev_per_ang=upper)
    assert fates.tolist() == [Fate.ACCURATE, Fate.LABELLED, Fate.LABELLED, Fate.REJECTED]
    config = SelectionConfig(lower_mev_per_ang=lower, upper_mev_per_ang=upper)
    assert in_window(np.array(deviation), config).tolist() == [False, True, True, False]


def test_what_is_not_finite_is_rejected():
    fates, chosen = run([np.nan, np.inf, 0.2])
    assert fates.tolist() == [Fate.REJECTED, Fate.REJECTED, Fate.LABELLED]
    assert chosen.tolist() == [2]


def test_gates_come_before_labels():
    fates, chosen = run(np.full(4, 0.2), too_close=[1, 0, 1, 0], refused=[0, 1, 1, 0])
    assert fates.tolist() == [Fate.TOO_CLOSE, Fate.REFUSED, Fate.TOO_CLOSE, Fate.LABELLED]
    assert chosen.tolist() == [3]


def test_gates_do_not_touch_frames_outside_the_window():
    fates, _ = run([0.01, 0.9], too_close=[1, 1], refused=[1, 1])
    assert fates.tolist() == [Fate.ACCURATE, Fate.REJECTED]


def test_gated_frames_do_not_use_up_the_cap():
    _, chosen = run(np.full(20, 0.2), too_close=[1] * 10 + [0] * 10, max_labels=10)
    assert chosen.tolist() == list(range(10, 20))


def test_lots_are_the_seeds_and_fair():
    deviation = np.full(50, 0.2)
    fates, first = run(deviation, seed=5, max_labels=20)
    _, again = run(deviation, seed=5, max_labels=20)
    _, other = run(deviation, seed=6, max_labels=20)
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()
    assert len(set(first.tolist())) == 20
    assert (fates == Fate.OVER_CAP).sum() == 30
    drawn = np.zeros(50)
    for seed in range(2000):
        drawn[run(deviation, seed=seed, max_labels=20)[1]] += 1
    # binomial with p = 0.4: five standard deviations of 2000 draws
    np.testing.assert_allclose(drawn / 2000, 0.4, atol=5 * np.sqrt(0.4 * 0.6 / 2000))


def test_no_lot_is_drawn_below_the_cap():
    rng = np.random.default_rng(0)
    nothing = np.zeros(5, dtype=bool)
    select(np.full(5, 0.2), too_close=nothing, refused=nothing, config=SelectionConfig(max_labels=5), rng=rng)
    assert rng.random() == np.random.default_rng(0).random()


def test_shares_of_counts():
    counts = Counts(sampled=400, accurate=300, candidate=80, rejected=20)
    assert (counts.acceptance, counts.rejected_share) == (0.2, 0.05)
    empty = count(np.array([], dtype=np.int8))
    assert (empty.sampled, empty.acceptance, empty.rejected_share) == (0, 0.0, 0.0)


def test_fate_numbers_are_those_stored_in_campaigns():
    assert {fate.name: fate.value for fate in Fate} == {
        "ACCURATE": 0,
        "REJECTED": 1,
        "LABELLED": 2,
        "OVER_CAP": 3,
        "TOO_CLOSE": 4,
        "REFUSED": 5,
        "LABEL_FAILED": 6,
    }
    assert {*CANDIDATE_FATES, Fate.ACCURATE, Fate.REJECTED} == set(Fate)
