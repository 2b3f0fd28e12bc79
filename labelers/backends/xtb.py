"""GFN2-xTB through xtb-python (`xtb.interface`), for molecules and clusters.

Method: C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019).

libxtb up to 6.7.1 drops a term of the gradient wherever an overlap integral vanishes (grimme-lab/xtb issue 986). That
happens to near atoms that share a Cartesian coordinate, which idealised geometries and files of two or three decimals
are full of: forces are then wrong by up to 9 eV/Å, energies are right. Frames are therefore turned before libxtb sees
them, and their forces turned back. A term that is missing all the same gives the frame a net torque, which no isolated
frame has: then another orientation is tried.
"""

import numpy as np

from al_engine.campaign.labels import LabelReason
from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray, Frame
from labelers.backends.protocol import LabelError
from labelers.backends.rescue import HOT, MORE_CYCLES, PLAIN, WARM, Rung

_ROTATION_VECTORS = ((0.831, 1.577, 2.213), (-1.291, 0.487, 0.913), (0.379, -2.203, 1.117), (1.733, 0.611, -0.829))
"""Axis times angle in rad of the orientations that are tried, in order. No symmetry maps any of them on an axis."""
_TORQUE_EV = 1e-3
"""A larger net torque is a fault of the gradient: rounding gives 2e-4 eV at most, one missing term 2e-2 eV and more."""
_LEVER_ANG = 10.0
"""From this distance of an atom from the centre on, the rounding error of a torque grows with it."""


class Gfn2XtbLabeler:
    """GFN2-xTB by xtb-python. Each label starts from a fresh calculator, so labels do not depend on their order.

    Frames must have passed `sanity.screen_frame`: libxtb answers some impossible input (Z > 86, more unpaired electrons
    than orbitals) with a crash of the process.

    Args:
        config: Settings of the labels.

    Raises:
        InputError: If xtb-python can't be imported.
    """

    rungs = (MORE_CYCLES, WARM, HOT)  # xtb-python has no damping to set

    def __init__(self, config: LabelsConfig) -> None:
        try:
            from ase.units import Bohr, Hartree
            from scipy.spatial.transform import Rotation
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
        self._orientations = [Rotation.from_rotvec(vector).as_matrix() for vector in _ROTATION_VECTORS]
        self._torque_ev = _TORQUE_EV * max(1.0, config.accuracy) ** 0.5

    def label(self, frame: Frame) -> tuple[float, FloatArray]:
        """Energy in eV and forces in eV/Å, shape (N, 3).

        Raises:
            LabelError: If the frame is periodic, the SCF does not converge, libxtb reports an error, or the forces have
                a net torque in every orientation.
        """
        return self.label_on(PLAIN, frame)

    def label_on(self, rung: Rung, frame: Frame) -> tuple[float, FloatArray]:
        """As `label`, on a rung of the rescue ladder."""
        if frame.is_periodic:
            raise LabelError(
                LabelReason.BAD_INPUT, "xtb-python has no periodic GFN2-xTB; set labels.backend to tblite for boxes"
            )
        centred = frame.positions - frame.positions.mean(axis=0)
        limit = self._torque_ev * max(1.0, float(np.abs(centred).max()) / _LEVER_ANG)
        torques = []
        for rotation in self._orientations:
            energy, turned = self._calculate(rung, frame, centred @ rotation.T)
            forces = turned @ rotation
            torques.append(float(np.linalg.norm(np.cross(centred, forces).sum(axis=0))))
            if torques[-1] <= limit:
                return energy, forces
        raise LabelError(
            LabelReason.BACKEND_ERROR,
            f"xtb: the forces have a net torque of {min(torques):.2g} eV or more in {len(torques)} orientations, which "
            "no isolated frame has",
        )

    def _calculate(self, rung: Rung, frame: Frame, positions: FloatArray) -> tuple[float, FloatArray]:
        """Energy in eV and forces in eV/Å, shape (N, 3), of a frame at other positions in Å, shape (N, 3)."""
        try:
            calculator = self._interface.Calculator(
                self._interface.Param.GFN2xTB,
                frame.numbers,
                positions / self._bohr,
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
