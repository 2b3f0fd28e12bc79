"""Curves of errors along a bond: each relative to its own minimum, where there are labels."""

import numpy as np
import pytest

from al_engine.committee.bond_curves import ScanPoint, bond_curve
from al_engine.structures.frames import Frame, LabelledFrame

LENGTHS = np.array([0.9, 1.0, 1.2, 1.5])


def point(length, *, offset=0.0, energy_error=0.0, force_errors=(0.0, 0.0)):
    """A bond of two atoms, E = offset + (length - 1)², and members whose forces on one atom are off."""
    frame = Frame(np.ones(2, dtype=int), np.array([[0.0, 0, 0], [length, 0, 0]]))
    forces = np.array([[2 * (length - 1), 0, 0], [-2 * (length - 1), 0, 0]])
    members = np.stack([forces + np.array([[error, 0, 0], [0, 0, 0]]) for error in force_errors])
    labelled = LabelledFrame(frame, offset + (length - 1) ** 2, forces)
    return ScanPoint(labelled, np.full(len(force_errors), labelled.energy + energy_error), members)


def test_a_perfect_model_has_no_errors_and_the_labels_curve():
    scans = [[point(length, offset=offset) for length in LENGTHS] for offset in (-100.0, -50.0)]
    curve = bond_curve(scans)
    np.testing.assert_array_equal(curve.labelled, 2)
    for column in (curve.energy_mae, curve.force_mae, curve.deviation):
        np.testing.assert_allclose(column, 0, atol=1e-9)
    for column in (curve.reference, curve.predicted):
        np.testing.assert_allclose(column, (LENGTHS - 1) ** 2, atol=1e-12)


def test_errors_are_averages_over_frames_and_gaps_are_left_out():
    scans = [
        [point(length, energy_error=0.010, force_errors=(0.006, 0.0)) for length in LENGTHS],
        [point(length, energy_error=-0.030, force_errors=(0.012, 0.012)) for length in LENGTHS],
    ]
    scans[1][3] = None
    scans[0][0] = scans[1][0] = None
    curve = bond_curve(scans)
    np.testing.assert_array_equal(curve.labelled, [0, 2, 2, 1])
    np.testing.assert_allclose(curve.energy_mae, [np.nan, 10.0, 10.0, 5.0])  # per atom of two
    np.testing.assert_allclose(curve.force_mae, [np.nan, 1.25, 1.25, 0.5])  # of 6 components of 3 and 12 meV/Å
    np.testing.assert_allclose(curve.deviation, [np.nan, 1.5, 1.5, 3.0])
    assert curve.predicted[1] == pytest.approx(0.0)  # a constant error does not show in its curve


def test_a_curve_without_any_label_is_empty():
    curve = bond_curve([[None, None]])
    np.testing.assert_array_equal(curve.labelled, 0)
    assert np.isnan(curve.reference).all()
    assert np.isnan(curve.energy_mae).all()
