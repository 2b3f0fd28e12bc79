"""Nearest images and whole molecules in cells of any shape, against ASE and by brute force."""

import itertools

import numpy as np
import pytest
from ase.cell import Cell
from ase.geometry import find_mic

from al_engine.structures.periodic import cell_heights, nearest_image, shortest_image

SKEWED = np.array([[5.0, 0.0, 0.0], [6.5, 3.0, 0.0], [-2.0, 7.0, 4.0]])
PERIODICITIES = [p for p in itertools.product([True, False], repeat=3) if any(p)]


def random_cell(rng):
    """Three vectors of random lengths, sheared by up to twice their length."""
    return np.diag(rng.uniform(3, 9, 3)) @ (np.eye(3) + np.tril(rng.uniform(-2, 2, (3, 3)), -1))


def test_shortest_image_is_ases_in_skewed_cells(rng):
    for _ in range(30):
        cell = random_cell(rng)
        vectors = rng.uniform(-3, 3, (40, 3)) @ cell
        found = shortest_image(vectors, cell, np.ones(3, bool))
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), find_mic(vectors, cell)[1], atol=1e-9)


@pytest.mark.parametrize("pbc", PERIODICITIES)
def test_shortest_image_is_the_shortest_of_all(rng, pbc):
    """By brute force: ASE's is not, where the axis that is not periodic is skewed."""
    cell = random_cell(rng)
    vectors = rng.uniform(-3, 3, (50, 3)) @ cell
    found = shortest_image(vectors, cell, np.array(pbc))
    images = np.array(list(itertools.product(*(range(-20, 21) if periodic else [0] for periodic in pbc)))) @ cell
    shortest = [np.linalg.norm(vector + images, axis=1).min() for vector in vectors]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), shortest, atol=1e-9)
    shifts = (found - vectors) @ np.linalg.inv(cell)
    np.testing.assert_allclose(shifts, np.round(shifts) * pbc, atol=1e-9)


def test_rounding_is_not_enough_in_a_skewed_cell(rng):
    """Else `shortest_image` would be for nothing; and what `nearest_image` promises of short vectors holds."""
    vectors = rng.uniform(-1, 1, (500, 3)) @ SKEWED
    rounded, shortest = (f(vectors, SKEWED, np.ones(3, bool)) for f in (nearest_image, shortest_image))
    longer = np.linalg.norm(rounded, axis=1) > np.linalg.norm(shortest, axis=1) + 1e-9
    assert longer.mean() > 0.2
    half = 0.5 * cell_heights(SKEWED, np.ones(3, bool)).min()
    assert np.linalg.norm(shortest[longer], axis=1).min() >= half


def test_slabs_without_a_third_vector():
    cell = np.diag([4.0, 5.0, 0.0])
    pbc = np.array([True, True, False])
    np.testing.assert_allclose(cell_heights(cell, pbc), [4.0, 5.0])
    for image in (nearest_image, shortest_image):
        np.testing.assert_allclose(image(np.array([[3.5, -4.0, 30.0]]), cell, pbc), [[-0.5, 1.0, 30.0]])


def test_heights_are_volume_over_area(rng):
    cell = random_cell(rng)
    a, b, c = cell
    areas = [np.linalg.norm(np.cross(*pair)) for pair in ((b, c), (c, a), (a, b))]
    np.testing.assert_allclose(cell_heights(cell, np.ones(3, bool)), Cell(cell).volume / np.array(areas))
