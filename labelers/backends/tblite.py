"""GFN2-xTB through tblite (`tblite.interface`), for molecules, clusters and periodic boxes.

Method: C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019).
"""

import numpy as np

from al_engine.campaign.labels import LabelReason
from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from labelers.backends.protocol import Label, LabelError
from labelers.backends.rescue import DAMPED, MORE_CYCLES, PLAIN, WARM, Rung


class Gfn2TbliteLabeler:
    """GFN2-xTB by tblite. Each label starts from a fresh calculator, so labels do not depend on their order.

    Frames should have passed `sanity.screen_frame`: tblite returns numbers even for some impossible frames.

    Args:
        config: Settings of the labels.

    Raises:
        InputError: If tblite can't be imported.
    """

    rungs = (*WARM, MORE_CYCLES, DAMPED)

    def __init__(self, config: LabelsConfig) -> None:
        try:
            from ase.units import Bohr, Hartree, kB
            from tblite import interface
            from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError
        except (ImportError, OSError) as error:
            raise InputError(
                f"labels.backend 'tblite' can't be imported ({error}); install it with `pip install tblite`"
            ) from error
        self._interface = interface
        self._errors = (TBLiteRuntimeError, TBLiteValueError)
        self._bohr, self._hartree, self._boltzmann = Bohr, Hartree, kB
        self._config = config

    def label(self, frame: Frame) -> Label:
        """Compute the label of a frame, with the stress of a periodic frame (`labels.stress`).

        Raises:
            LabelError: If the frame is periodic in some directions only, the SCF does not converge, or tblite reports
                an error.
        """
        return self.label_on(PLAIN, frame)

    def label_on(self, rung: Rung, frame: Frame) -> Label:
        """Compute the label of a frame, as `label` does, with the settings of a rung of the rescue ladder.

        Raises:
            LabelError: As `label`.
        """
        if frame.is_periodic and not frame.pbc.all():
            raise LabelError(
                LabelReason.BAD_INPUT,
                f"pbc is {frame.pbc.tolist()}; tblite would treat it as periodic in all directions",
            )
        try:
            calculator = self._interface.Calculator(
                "GFN2-xTB",
                frame.numbers,
                frame.positions / self._bohr,
                charge=frame.charge,
                uhf=frame.unpaired_electrons,
                lattice=frame.cell / self._bohr if frame.is_periodic else None,
                periodic=frame.pbc if frame.is_periodic else None,
            )
            calculator.set("verbosity", 0)
            calculator.set("accuracy", self._config.accuracy)
            calculator.set("max-iter", rung.largest_cycles(self._config.max_scf_iterations))
            if rung.damping is not None:
                calculator.set("mixer-damping", rung.damping)
            before = None
            if rung.start_kelvin is not None:
                calculator.set("temperature", self._kt(rung.start_kelvin))
                before = calculator.singlepoint()
            calculator.set("temperature", self._kt(self._config.electronic_temperature_kelvin))
            result = calculator.singlepoint(before)
            energy, gradient = float(result.get("energy")), result.get("gradient")
            virial = result.get("virial") if frame.is_periodic and self._config.stress else None
        except self._errors as error:
            raise _label_error(error) from error
        stress = None if virial is None else virial * (self._hartree / abs(float(np.linalg.det(frame.cell))))
        return Label(energy * self._hartree, -gradient * (self._hartree / self._bohr), stress)

    def _kt(self, kelvin: float) -> float:
        """Convert an electronic temperature from K to kT in hartree, tblite's unit."""
        return kelvin * self._boltzmann / self._hartree


def _label_error(error: Exception) -> LabelError:
    """The `LabelError` for an exception of tblite."""
    text = " | ".join(line.strip() for line in str(error).splitlines() if line.strip())
    reason = LabelReason.NOT_CONVERGED if "not converged" in text else LabelReason.BACKEND_ERROR
    return LabelError(reason, f"tblite: {text}")
