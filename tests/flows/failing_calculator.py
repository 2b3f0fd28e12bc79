"""GFN2-xTB through ASE that fails for some frames as long as a file exists."""

import os
from pathlib import Path

from tblite.ase import TBLite


class FailingTBLite(TBLite):
    def calculate(self, atoms=None, properties=None, system_changes=None):
        if Path(os.environ["BROKEN"]).exists() and int(1e6 * abs((atoms or self.atoms).positions[0, 0])) % 2:
            raise RuntimeError("a licence server does not answer\n[/etc/licence]")
        super().calculate(atoms, properties or ["energy"], system_changes or ["positions"])


class NoAtoms(TBLite):
    def calculate(self, atoms=None, properties=None, system_changes=None):
        if len(atoms or self.atoms) == 1:
            raise RuntimeError("molecules only")
        super().calculate(atoms, properties or ["energy"], system_changes or ["positions"])
