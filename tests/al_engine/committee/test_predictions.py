"""Errors: by hand, per atom, in meV."""

import numpy as np
import pytest

from al_engine.committee.predictions import Errors, accuracy
from al_engine.structures.frames import Frame, LabelledFrame


def test_errors_by_hand():
    errors = Errors.of([[3.0, -4.0], [0.0, 5.0]])
    assert (errors.values, errors.mae, errors.largest) == (4, 3.0, 5.0)
    assert errors.rmse == pytest.approx(np.sqrt(50 / 4))
    with pytest.raises(ValueError, match="no differences"):
        Errors.of([])


def test_frames_of_different_sizes():
    """An energy counts once per frame and per atom of it, a force component once, whichever frame it is of."""
    rng, sizes = np.random.default_rng(1), (2, 5)
    labelled = [
        LabelledFrame(Frame(np.ones(n, dtype=int), rng.normal(size=(n, 3))), rng.normal(), rng.normal(size=(n, 3)))
        for n in sizes
    ]
    energies = np.array([labelled[0].energy + 0.004, labelled[1].energy - 0.030])
    shifts = (0.001, -0.003)
    forces = [item.forces + shift for item, shift in zip(labelled, shifts, strict=True)]
    found = accuracy(energies, forces, labelled)
    assert found.frames == 2
    assert found.energy_mev_per_atom.mae == pytest.approx((2.0 + 6.0) / 2)
    assert found.energy_mev_per_atom.rmse == pytest.approx(np.sqrt((4.0 + 36.0) / 2))
    assert found.forces_mev_per_ang.values == 21
    assert found.forces_mev_per_ang.mae == pytest.approx((6 * 1.0 + 15 * 3.0) / 21)
    assert found.forces_mev_per_ang.largest == pytest.approx(3.0)
