"""GFN2-xTB through xtb-python (`xtb.interface`), for molecules and clusters.

Method: C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019).
"""

from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.frames import FloatArray, Frame
from labelers.protocol import LabelError, LabelReason
from labelers.rescue import HOT, MORE_CYCLES, PLAIN, WARM, Rung


class Gfn2XtbLabeler:
    """GFN2-xTB by xtb-python. Each label starts from a fresh calculator, so labels do not depend on their order.

    Frames must have passed `labelers.screen.screen_frame`: libxtb answers some impossible input (Z > 86, more unpaired
    electrons than orbitals) with a crash of the process.

    Args:
        config: Settings of the labels.

    Raises:
        InputError: If xtb-python can't be imported.
    """

    rungs = (MORE_CYCLES, WARM, HOT)  # xtb-python has no damping to set

    def __init__(self, config: LabelsConfig) -> None:
        try:
            from ase.units import Bohr, Hartree
            from xtb import interface
            from xtb.libxtb import VERBOSITY_MUTED
        except (ImportError, OSError) as error:
            raise InputError(
                f"labels.backend 'xtb' can't be imported ({error}); "
                "install it with `pip install xtb typing_extensions`, or set labels.backend to tblite"
            ) from error
        self._config = config
        self._interface = interface
        self._muted = VERBOSITY_MUTED
        self._bohr, self._hartree = Bohr, Hartree

    def label(self, frame: Frame) -> tuple[float, FloatArray]:
        """Energy in eV and forces in eV/Å, shape (N, 3).

        Raises:
            LabelError: If the frame is periodic, the SCF does not converge, or libxtb reports an error.
        """
        return self.label_on(PLAIN, frame)

    def label_on(self, rung: Rung, frame: Frame) -> tuple[float, FloatArray]:
        """As `label`, on a rung of the rescue ladder."""
        if frame.is_periodic:
            raise LabelError(
                LabelReason.BAD_INPUT, "xtb-python has no periodic GFN2-xTB; set labels.backend to tblite for boxes"
            )
        try:
            calculator = self._interface.Calculator(
                self._interface.Param.GFN2xTB,
                frame.numbers,
                frame.positions / self._bohr,
                charge=frame.charge,
                uhf=frame.unpaired_electrons,
            )
            calculator.set_verbosity(self._muted)
            calculator.set_accuracy(self._config.accuracy)
            calculator.set_max_iterations(rung.cycles * self._config.max_scf_iterations)
            before = None
            if rung.start_kelvin is not None:
                calculator.set_electronic_temperature(rung.start_kelvin)  # in K
                before = calculator.singlepoint()
            calculator.set_electronic_temperature(self._config.electronic_temperature_kelvin)
            result = calculator.singlepoint(before)
            energy, gradient = result.get_energy(), result.get_gradient()
        except self._interface.XTBException as error:
            raise _label_error(error) from error
        return float(energy) * self._hartree, -gradient * (self._hartree / self._bohr)


def _label_error(error: Exception) -> LabelError:
    text = " | ".join(line.strip() for line in str(error).splitlines() if line.strip())
    reason = LabelReason.NOT_CONVERGED if "did not converge" in text else LabelReason.BACKEND_ERROR
    return LabelError(reason, f"xtb: {text}")
