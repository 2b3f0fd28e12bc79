"""Calculators that give the energy to which their forces belong as `free_energy` or as `energy`."""

from typing import ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class Smeared(Calculator):
    """Like a program with electronic smearing: forces are minus the gradient of the free energy, not of the energy."""

    implemented_properties: ClassVar = ["energy", "free_energy", "forces"]
    calculations: ClassVar = []

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calculations.append(properties)
        x = self.atoms.positions - self.atoms.positions.mean(axis=0)
        free = 2.5 * float((x**2).sum())
        self.results = {"energy": free + 0.7 * np.sin(5.0 * x[0, 0]), "free_energy": free, "forces": -5.0 * x}


class Unlisted(Smeared):
    implemented_properties: ClassVar = ["energy", "forces"]


class EnergyAlone(Smeared):
    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] = self.results.pop("free_energy")
