"""Checks of the numbers that a backend returns as a label."""

import numpy as np
from numpy.typing import ArrayLike

from al_engine.campaign.labels import LabelReason


def screen_label(
    n_atoms: int, energy: float, forces: ArrayLike, *, max_force_ev_per_ang: float
) -> tuple[LabelReason, str] | None:
    """Check that an energy and forces returned by a backend are a valid label.

    Args:
        n_atoms: Number of atoms N of the frame.
        energy: Energy in eV.
        forces: Forces in eV/Å; any shape other than (N, 3) is refused.
        max_force_ev_per_ang: Largest allowed magnitude of a force component, eV/Å.

    Returns:
        The reason code of the refusal and its message; None if the label is valid.
    """
    array = np.asarray(forces, dtype=np.float64)
    if array.shape != (n_atoms, 3):
        return LabelReason.BACKEND_ERROR, f"the backend returned forces of shape {array.shape} for {n_atoms} atoms"
    if not np.isfinite(energy):
        return LabelReason.NON_FINITE, f"the backend returned an energy of {energy}"
    if not np.isfinite(array).all():
        atom = int(np.argwhere(~np.isfinite(array))[0, 0])
        return LabelReason.NON_FINITE, f"the force on atom {atom} is not finite"
    largest = np.abs(array).max(axis=1)
    atom = int(np.argmax(largest))
    if largest[atom] > max_force_ev_per_ang:
        return (
            LabelReason.ABSURD_FORCES,
            f"a force component on atom {atom} is {largest[atom]:.1f} eV/Å, above {max_force_ev_per_ang:g} eV/Å",
        )
    return None
