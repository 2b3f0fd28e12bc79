"""Pairs of molecules along their separation."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from ablation.pairs import CONTACT_ANG, SHIFTS_ANG, Conformers, contact_separation, pair_curves, turned


def test_two_atoms_touch_at_the_contact_distance():
    assert contact_separation(np.zeros((1, 3)), np.zeros((1, 3))) == pytest.approx(CONTACT_ANG)


def test_atoms_that_pass_at_a_distance_touch_later():
    """An atom 2.1 Å off the line: sqrt(2.9² - 2.1²) = 2 Å."""
    assert contact_separation(np.zeros((1, 3)), np.array([[0.0, 2.1, 0.0]])) == pytest.approx(2.0)


def test_bodies_that_pass_each_other_never_touch():
    assert contact_separation(np.zeros((1, 3)), np.array([[0.0, 0.0, 5.0]])) == 0.0


def test_molecules_of_a_curve_are_rigid_touch_at_zero_and_part_along_x(rng):
    numbers, conformers = np.array([9] * 7), 3.0 * rng.normal(size=(4, 7, 3))
    first, second = Conformers(numbers, conformers[::2]), Conformers(numbers, conformers[1::2])
    frames, curve, shift = pair_curves(first, second, rng=rng)
    assert len(frames) == 2 * len(SHIFTS_ANG)
    assert curve.tolist() == sorted(curve.tolist())
    for frame, k, s in zip(frames, curve.astype(int), shift, strict=True):
        first, second = frame.positions[:7], frame.positions[7:]
        assert pdist(first) == pytest.approx(pdist(conformers[2 * k]))
        assert pdist(second) == pytest.approx(pdist(conformers[2 * k + 1]))
        closest = cdist(first, second).min()
        assert closest == pytest.approx(CONTACT_ANG) if s == 0 else (s < 0 or closest > CONTACT_ANG)
        at_contact = frames[k * len(SHIFTS_ANG) + SHIFTS_ANG.index(0.0)].positions
        assert frame.positions - at_contact == pytest.approx(np.array([[0, 0, 0]] * 7 + [[s, 0, 0]] * 7))


def test_turning_is_a_rotation_not_a_reflection(rng):
    frame = np.eye(3)
    for _ in range(20):
        found = turned(frame, rng)
        assert found @ found.T == pytest.approx(np.eye(3))
        assert np.linalg.det(found) == pytest.approx(1.0)


def test_turning_favours_no_direction(rng):
    mean = np.mean([turned(np.array([[1.0, 0.0, 0.0]]), rng)[0] for _ in range(4000)], axis=0)
    assert abs(mean).max() < 0.05
