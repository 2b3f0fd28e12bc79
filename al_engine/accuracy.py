"""How far predictions are from labels: mean absolute, root mean square and largest error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from al_engine.frames import FloatArray, LabelledFrame

MEV_IN_EV = 1e-3


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of some numbers, in their own unit.

    Attributes:
        values: How many numbers.
        mae: Mean absolute error.
        rmse: Root mean square error.
        largest: Largest absolute error.
    """

    values: int
    mae: float
    rmse: float
    largest: float

    @classmethod
    def of(cls, differences: ArrayLike) -> Self:
        """The errors of differences between prediction and label, of any shape.

        Raises:
            ValueError: If there are none.
        """
        size = np.abs(np.asarray(differences, dtype=np.float64)).ravel()
        if not len(size):
            raise ValueError("no differences, so no errors")
        return cls(
            values=len(size),
            mae=float(size.mean()),
            rmse=float(np.sqrt(np.mean(size**2))),
            largest=float(size.max()),
        )


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Errors on some labelled frames.

    Attributes:
        frames: How many frames.
        energy_mev_per_atom: Of the total energy divided by the number of atoms, meV/atom.
        forces_mev_per_ang: Of Cartesian force components, meV/Å.
    """

    frames: int
    energy_mev_per_atom: Errors
    forces_mev_per_ang: Errors


def energy_differences(energies: FloatArray, labelled: Sequence[LabelledFrame]) -> FloatArray:
    """Predicted minus reference energy per atom in meV, shape (F,), of energies in eV, shape (F,)."""
    references = np.array([item.energy for item in labelled])
    atoms = np.array([len(item) for item in labelled])
    differences: FloatArray = (energies - references) / atoms / MEV_IN_EV
    return differences


def force_differences(forces: Sequence[FloatArray], labelled: Sequence[LabelledFrame]) -> list[FloatArray]:
    """Predicted minus reference forces in meV/Å, each shape (N, 3), of forces in eV/Å, each shape (N, 3)."""
    return [(f - item.forces) / MEV_IN_EV for f, item in zip(forces, labelled, strict=True)]


def accuracy(energies: FloatArray, forces: Sequence[FloatArray], labelled: Sequence[LabelledFrame]) -> Accuracy:
    """The errors of predictions.

    Args:
        energies: Predicted energies in eV, shape (F,).
        forces: Predicted forces in eV/Å, F arrays of shape (N, 3).
        labelled: The F frames with their labels.

    Raises:
        ValueError: If there are no frames.
    """
    if not labelled:
        raise ValueError("no labelled frames, so no errors")
    return Accuracy(
        frames=len(labelled),
        energy_mev_per_atom=Errors.of(energy_differences(energies, labelled)),
        forces_mev_per_ang=Errors.of(np.concatenate(force_differences(forces, labelled))),
    )
