"""GFN2-xTB through ASE that leaves a line per finished label, so that a test can count what was computed."""

import hashlib
import os
from pathlib import Path

from tblite.ase import TBLite


class CountingTBLite(TBLite):
    def calculate(self, atoms=None, properties=None, system_changes=None):
        super().calculate(atoms, properties or ["energy"], system_changes or ["positions"])
        line = hashlib.sha256(self.atoms.positions.tobytes()).hexdigest() + "\n"
        with Path(os.environ["LABEL_LOG"]).open("a") as log:
            log.write(line)
