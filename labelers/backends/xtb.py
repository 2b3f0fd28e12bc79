"""GFN2-xTB through xtb-python (`xtb.interface`), for molecules and clusters.

Method: C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019).

libxtb up to 6.7.1 drops a term of the gradient wherever an overlap integral vanishes (grimme-lab/xtb issue 986). An
integral vanishes for near atoms that share a Cartesian coordinate, as is common in idealised geometries and in files
with two or three decimals. Forces are then wrong by up to 9 eV/Å; energies are right. Each frame is therefore rotated
before libxtb computes it, and its forces are rotated back. If a term is still missing, the forces have a net torque,
which the forces on an isolated frame cannot have, and the next orientation is tried.
"""

import numpy as np

from al_engine.campaign.labels import LabelReason
from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray, Frame
from labelers.backends.protocol import Label, LabelError
from labelers.backends.rescue import MORE_CYCLES, PLAIN, WARM, Rung

_ROTATION_VECTORS = ((0.831, 1.577, 2.213), (-1.291, 0.487, 0.913), (0.379, -2.203, 1.117), (1.733, 0.611, -0.829))
"""Rotation vectors (axis times angle in rad) of the orientations, in the order in which they are tried.

The rotations are generic: none of them maps a Cartesian axis into a plane of two Cartesian axes.
"""
_TORQUE_EV = 1e-3
"""Largest net torque of correct forces, eV. Rounding errors give at most 2e-4 eV, a missing term 2e-2 eV or more."""
_LEVER_ANG = 10.0
"""Largest coordinate of a centred frame, Å, above which the torque limit grows in proportion, as rounding errors do."""


class Gfn2XtbLabeler:
    """GFN2-xTB by xtb-python. Each label starts from a fresh calculator, so labels do not depend on their order.

    Frames must have passed `sanity.screen_frame`: some impossible frames (Z > 86, more unpaired electrons than
    orbitals) make libxtb crash the process.

    Args:
        config: Settings of the labels.

    Raises:
        InputError: If xtb-python can't be imported.

    Attributes:
        rungs: The rungs of the rescue ladder.
    """

    rungs = (*WARM, MORE_CYCLES)  # no DAMPED: xtb-python can't set the damping

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
        self._torque_ev = _TORQUE_EV * max(1.0, config.accuracy) ** 0.5  # a looser SCF leaves larger errors

    def label(self, frame: Frame) -> Label:
        """Compute the energy in eV and the forces in eV/Å, shape (N, 3), of a frame.

        Raises:
            LabelError: If the frame is periodic, the SCF does not converge, libxtb reports an error, or the forces have
                a net torque in every orientation.
        """
        return self.label_on(PLAIN, frame)

    def label_on(self, rung: Rung, frame: Frame) -> Label:
        """Compute the label of a frame, as `label` does, with the settings of a rung of the rescue ladder.

        Raises:
            LabelError: As `label`.
        """
        if frame.is_periodic:
            raise LabelError(
                LabelReason.BAD_INPUT, "xtb-python has no periodic GFN2-xTB; set labels.backend to tblite for boxes"
            )
        centred = frame.positions - frame.positions.mean(axis=0)
        limit = self._torque_ev * max(1.0, float(np.abs(centred).max()) / _LEVER_ANG)
        torques = []
        for rotation in self._orientations:
            energy, rotated_forces = self._calculate(rung, frame, centred @ rotation.T)
            forces = rotated_forces @ rotation
            torques.append(float(np.linalg.norm(np.cross(centred, forces).sum(axis=0))))
            if torques[-1] <= limit:
                return Label(energy, forces)
        raise LabelError(
            LabelReason.BACKEND_ERROR,
            f"xtb: the forces have a net torque of {min(torques):.2g} eV or more in {len(torques)} orientations, which "
            "no isolated frame has",
        )

    def _calculate(self, rung: Rung, frame: Frame, positions: FloatArray) -> tuple[float, FloatArray]:
        """Compute energy (eV) and forces (eV/Å, shape (N, 3)) of a frame with other positions (Å, shape (N, 3))."""
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
            calculator.set_max_iterations(rung.largest_cycles(self._config.max_scf_iterations))
            start = None
            if rung.start_kelvin is not None:
                calculator.set_electronic_temperature(rung.start_kelvin)
                start = calculator.singlepoint()
            calculator.set_electronic_temperature(self._config.electronic_temperature_kelvin)
            result = calculator.singlepoint(start)
            energy, gradient = result.get_energy(), result.get_gradient()
        except self._interface.XTBException as error:
            raise _label_error(error) from error
        return float(energy) * self._hartree, -gradient * (self._hartree / self._bohr)


def _label_error(error: Exception) -> LabelError:
    """The `LabelError` for an exception of xtb-python."""
    text = " | ".join(line.strip() for line in str(error).splitlines() if line.strip())
    reason = LabelReason.NOT_CONVERGED if "did not converge" in text else LabelReason.BACKEND_ERROR
    return LabelError(reason, f"xtb: {text}")
