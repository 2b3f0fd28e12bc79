"""Farthest points: sets whose answer is known, against a brute-force search, and the guarantee of the greedy choice."""

import itertools

import numpy as np
import pytest

from al_engine.selection import diversity
from al_engine.selection.diversity import farthest_points, standardised

NOTHING = np.empty((0, 1))


def test_on_a_line():
    """Reference at 0: 10 is farthest; then 5 (5 from both) before 2 and 9; then 2 (2 from 0) before 9 (1 from 10)."""
    points = np.array([[2.0], [10.0], [5.0], [9.0]])
    assert farthest_points(points, np.zeros((1, 1)), 4).tolist() == [1, 2, 0, 3]


def test_corners_of_a_square_around_its_centre():
    corners = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    crowd = np.random.default_rng(0).normal(scale=0.05, size=(50, 2))
    picks = farthest_points(np.concatenate([crowd, corners]), np.zeros((1, 2)), 4)
    assert set(picks.tolist()) == {50, 51, 52, 53}


def test_the_reference_is_stayed_away_from():
    """The same points, another reference: what was picked first is there already."""
    points = np.array([[0.0], [10.0], [4.0]])
    assert farthest_points(points, np.array([[0.5]]), 1).tolist() == [1]
    assert farthest_points(points, np.array([[0.5], [9.5]]), 1).tolist() == [2]


@pytest.mark.parametrize("seed", range(5))
def test_every_pick_is_the_farthest_there_is(seed, monkeypatch):
    """Against distances computed one by one, in blocks much smaller than the sets."""
    monkeypatch.setattr(diversity, "BLOCK", 7)
    rng = np.random.default_rng(seed)
    points, reference = rng.normal(size=(40, 5)), rng.normal(size=(23, 5))
    kinds, reference_kinds = rng.integers(0, 3, 40), rng.integers(0, 2, 23)  # the reference has nothing of kind 2
    picks = farthest_points(points, reference, 15, kinds=kinds, reference_kinds=reference_kinds)
    there, theirs = [*reference], [*reference_kinds]
    for pick in picks:
        nearest = [
            min((np.linalg.norm(p - r) for r, other in zip(there, theirs, strict=True) if other == k), default=np.inf)
            for p, k in zip(points, kinds, strict=True)
        ]
        assert nearest[pick] == pytest.approx(max(nearest), rel=1e-9)
        there.append(points[pick])
        theirs.append(kinds[pick])
    assert len({*picks.tolist()}) == 15


@pytest.mark.parametrize("seed", range(3))
def test_the_radius_is_within_twice_the_best(seed):
    """Gonzalez' guarantee: every point lies within twice the smallest radius that any choice of so many could give."""
    points = np.random.default_rng(seed).uniform(size=(12, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    picks = farthest_points(points, np.empty((0, 2)), 4)
    best = min(distances[:, list(four)].min(axis=1).max() for four in itertools.combinations(range(12), 4))
    assert distances[:, picks].min(axis=1).max() <= 2 * best


def test_fewer_picks_are_the_first_ones():
    points = np.random.default_rng(1).normal(size=(60, 3))
    picks = farthest_points(points, points[:2] + 0.1, 60)
    assert sorted(picks.tolist()) == list(range(60))
    for count in (0, 1, 7, 59):
        np.testing.assert_array_equal(farthest_points(points, points[:2] + 0.1, count), picks[:count])
    assert len(farthest_points(points, points[:2], 100)) == 60


def test_points_that_coincide_are_picked_once_each():
    points = np.array([[1.0], [1.0], [0.0], [0.0]])
    assert farthest_points(points, np.zeros((1, 1)), 4).tolist() == [0, 1, 2, 3]
    assert farthest_points(NOTHING, NOTHING, 3).tolist() == []


def test_units_of_features_do_not_matter_once_standardised():
    rng = np.random.default_rng(2)
    points, reference = rng.normal(size=(80, 4)), rng.normal(size=(50, 4))
    kinds = {"kinds": rng.integers(0, 2, 80), "reference_kinds": rng.integers(0, 2, 50)}
    units, shift = np.array([1.0, 5.0, 40.0, 0.3]), np.array([3.0, 0.0, -7.0, 1.0])
    plain = standardised(points, reference, **kinds)
    scaled = standardised(points * units + shift, reference * units + shift, **kinds)
    for here, there in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(here, there, atol=1e-12)
    for kind in (0, 1):
        of_kind = plain[1][kinds["reference_kinds"] == kind]
        np.testing.assert_allclose(of_kind.mean(axis=0), 0.0, atol=1e-14)
        np.testing.assert_allclose(of_kind.std(axis=0), 1.0, rtol=1e-12)


def test_a_feature_that_hardly_varies_is_not_blown_up():
    reference = np.column_stack([np.linspace(0, 1, 11), np.linspace(0, 1e-9, 11), np.full(11, 5.0)])
    zeros = np.zeros(11, dtype=int)
    points, scaled = standardised(reference, reference, kinds=zeros, reference_kinds=zeros)
    assert scaled[:, 0].std() == pytest.approx(1.0)
    assert scaled[:, 1].std() < 1e-5
    assert np.abs(scaled[:, 2]).max() < 1e-9
    np.testing.assert_array_equal(points, scaled)


def test_a_kind_the_reference_lacks_is_measured_by_the_points():
    points = np.array([[2.0], [4.0], [100.0], [300.0]])
    scaled, reference = standardised(
        points, np.array([[0.0], [2.0]]), kinds=np.array([0, 0, 1, 1]), reference_kinds=np.array([0, 0])
    )
    np.testing.assert_allclose(scaled[:, 0], [1.0, 3.0, -1.0, 1.0])
    np.testing.assert_allclose(reference[:, 0], [-1.0, 1.0])
