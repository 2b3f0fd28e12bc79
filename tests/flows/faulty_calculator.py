"""GFN2-xTB through ASE with a force that is not the derivative of the energy, as a code with a bug has it."""

from tblite.ase import TBLite


class FaultyTBLite(TBLite):
    def calculate(self, atoms=None, properties=None, system_changes=None):
        super().calculate(atoms, properties or ["energy"], system_changes or ["positions"])
        self.results["forces"][2, 1] += 0.25
