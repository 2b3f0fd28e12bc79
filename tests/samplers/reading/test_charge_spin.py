"""Charge and spin of a system: values that follow from the molecule, that must be stated, and that are impossible."""

import numpy as np
import pytest

from al_engine.errors import InputError
from samplers.reading.charge_spin import resolve_charge_and_spin

WATER = np.array([8, 1, 1])
METHYL = np.array([6, 1, 1, 1])
IMIDAZOLIUM = np.array([6, 6, 7, 6, 7, 1, 1, 1, 1, 1])
OXYGEN = np.array([8, 8])


@pytest.mark.parametrize(
    ("numbers", "molecules", "given", "implied", "expected"),
    [
        (WATER, 1, (None, None), (0, 0), (0, 0)),
        (WATER, 1, (1, 1), (0, 0), (1, 1)),
        (WATER, 1, (0, 2), (0, 0), (0, 2)),
        (IMIDAZOLIUM, 1, (None, None), (1, 0), (1, 0)),
        (np.tile(IMIDAZOLIUM, 3), 3, (None, None), (1, 0), (3, 0)),
        (np.tile(IMIDAZOLIUM, 2), 2, (2, 0), (1, 0), (2, 0)),
        (METHYL, 1, (None, 1), (0, 1), (0, 1)),
        (METHYL, 1, (1, None), (0, 0), (1, 0)),
        (np.tile(METHYL, 2), 2, (None, 2), (0, 1), (0, 2)),
        (np.tile(METHYL, 2), 2, (None, 0), (0, 1), (0, 0)),
        (OXYGEN, 1, (None, 2), (0, 2), (0, 2)),
    ],
)
def test_resolved(numbers, molecules, given, implied, expected):
    found = resolve_charge_and_spin(
        numbers=numbers,
        molecules=molecules,
        charge=given[0],
        unpaired_electrons=given[1],
        molecule_charge=implied[0],
        molecule_radical_electrons=implied[1],
    )
    assert found == expected


@pytest.mark.parametrize(
    ("numbers", "molecules", "given", "radicals", "says"),
    [
        (
            METHYL,
            1,
            (None, None),
            1,
            "odd number; set system.charge .* or system.unpaired_electrons .--unpaired-electrons. if it .* e.g. to 1",
        ),
        (WATER, 1, (1, None), 0, "9 electrons, an odd number"),
        (
            np.tile(METHYL, 2),
            2,
            (None, None),
            1,
            "x 2 has 2 radical electrons; set system.unpaired_electrons .--unpaired-electrons. to 2 .* or 0",
        ),
        (OXYGEN, 1, (None, None), 2, "2 radical electrons"),
        (np.tile(METHYL, 3), 3, (None, None), 1, "e.g. to 3"),
        (WATER, 1, (None, 1), 0, "must be even"),
        (METHYL, 1, (None, 2), 1, "must be odd"),
        (WATER, 1, (None, 12), 0, "more than the 10 electrons"),
        (WATER, 1, (11, None), 0, r"\+11 e is more than the 10 protons"),
    ],
)
def test_refused(numbers, molecules, given, radicals, says):
    with pytest.raises(InputError, match=says):
        resolve_charge_and_spin(
            numbers=numbers,
            molecules=molecules,
            charge=given[0],
            unpaired_electrons=given[1],
            molecule_radical_electrons=radicals,
        )
