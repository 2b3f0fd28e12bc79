"""An ASE calculator that never answers and takes no processor time."""

import time

from ase.calculators.calculator import Calculator, all_changes


class Endless(Calculator):
    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(3600.0)
