"""Interaction energies of s22x5: energies that add up over molecules have none, and GFN2-xTB has those of tblite."""

import numpy as np
import pytest
from ase.data.s22 import create_s22_system
from tblite.interface import Calculator

import s22x5


class Additive:
    """A committee of two whose energies are sums over atoms, and the second has 1 eV more in each pair."""

    def predict(self, frames):
        sums = np.array([float(frame.numbers.sum()) for frame in frames])
        return np.array([sums, sums + (sums == sums.max())]), []


def test_energies_that_add_up_have_no_interaction():
    rows = s22x5.interaction_energies(Additive())
    assert [(row["pair"], row["distance"]) for row in rows][:2] == [("Water_dimer", 0.9), ("Water_dimer", 1.0)]
    assert all(row["committee_mev"] == pytest.approx(500.0) for row in rows)
    assert all(row["deviation_mev"] == pytest.approx(500.0) for row in rows)
    assert rows[1]["ccsdt_mev"] == pytest.approx(-218, abs=2)  # Grafova et al. (2010)


def test_the_reference_is_tblite_itself():
    pair = create_s22_system("Water_dimer_1.0")
    energies = []
    for atoms in (pair, pair[:3], pair[3:]):
        calculator = Calculator("GFN2-xTB", atoms.numbers, atoms.positions / 0.52917721)
        calculator.set("verbosity", 0)
        energies.append(27.211386 * calculator.singlepoint().get("energy"))
    expected = 1000 * (energies[0] - energies[1] - energies[2])
    assert s22x5.reference_mev("Water_dimer_1.0", 3) == pytest.approx(expected, abs=0.5)
