"""Errors of predictions against labels: mean absolute, root mean square and largest error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from al_engine.committee.deviation import force_deviation
from al_engine.structures.frames import BoolArray, FloatArray, IntArray, LabelledFrame
from al_engine.units import MEV_PER_EV


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of a set of numbers, in the unit of the numbers.

    Attributes:
        values: Number of values.
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
        """Compute the errors from differences between prediction and label, of any shape.

        Raises:
            ValueError: If there are no differences.
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
    """Energy and force errors on a set of labelled frames.

    Attributes:
        frames: Number of frames.
        energy_mev_per_atom: Errors of the total energy divided by the number of atoms, meV/atom.
        forces_mev_per_ang: Errors of the Cartesian force components, meV/Å.
    """

    frames: int
    energy_mev_per_atom: Errors
    forces_mev_per_ang: Errors


def energy_differences(energies: FloatArray, labelled: Sequence[LabelledFrame]) -> FloatArray:
    """Predicted minus reference energy per atom in meV/atom, shape (F,); `energies` in eV, shape (F,)."""
    references = np.array([item.energy for item in labelled])
    atoms = np.array([len(item) for item in labelled])
    differences: FloatArray = (energies - references) / atoms * MEV_PER_EV
    return differences


def force_differences(forces: Sequence[FloatArray], labelled: Sequence[LabelledFrame]) -> list[FloatArray]:
    """Predicted minus reference forces in meV/Å, each shape (N, 3); `forces` in eV/Å, each shape (N, 3)."""
    return [(f - item.forces) * MEV_PER_EV for f, item in zip(forces, labelled, strict=True)]


def accuracy(energies: FloatArray, forces: Sequence[FloatArray], labelled: Sequence[LabelledFrame]) -> Accuracy:
    """Errors of predicted energies and forces.

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


@dataclass(frozen=True, slots=True, eq=False)
class FrameScores:
    """Deviations and errors of a committee of M members on F labelled frames; the worst atom of a frame decides.

    Attributes:
        deviation_norm: Force deviation (norm), eV/Å, shape (F,).
        deviation_component: Force deviation (component), eV/Å, shape (F,).
        worst_atom: Index of the atom with the largest deviation (norm), shape (F,).
        force_error: Largest |F - F(label)| over the atoms, with F the committee's mean force, eV/Å, shape (F,).
        force_error_atom: Index of the atom with this largest error, shape (F,).
        member_force_error: Largest |F - F(label)| over the atoms for each member, eV/Å, shape (M, F).
    """

    deviation_norm: FloatArray
    deviation_component: FloatArray
    worst_atom: IntArray
    force_error: FloatArray
    force_error_atom: IntArray
    member_force_error: FloatArray


def score_frames(
    member_forces: Sequence[FloatArray],
    references: Sequence[FloatArray],
    *,
    members: int,
    where: Sequence[BoolArray] | None = None,
) -> FrameScores:
    """Compute the force deviations and force errors of a committee on labelled frames.

    Args:
        member_forces: Forces of all members on each frame, eV/Å, each shape (M, N, 3).
        references: Forces of the labels, eV/Å, each shape (N, 3).
        members: Number of members M; needed because an empty list of frames does not show it.
        where: Whether each atom of a frame counts, each shape (N,), at least one atom per frame; None: all atoms.
    """
    atoms = [np.arange(len(r)) for r in references] if where is None else [np.flatnonzero(keep) for keep in where]
    member_forces = [forces[:, kept] for forces, kept in zip(member_forces, atoms, strict=True)]
    references = [reference[kept] for reference, kept in zip(references, atoms, strict=True)]
    deviations = [force_deviation(forces) for forces in member_forces]
    errors = [
        np.linalg.norm(forces.mean(axis=0) - reference, axis=-1)
        for forces, reference in zip(member_forces, references, strict=True)
    ]
    by_member = [
        np.linalg.norm(forces - reference, axis=-1).max(axis=-1)
        for forces, reference in zip(member_forces, references, strict=True)
    ]
    return FrameScores(
        deviation_norm=np.array([d.norm.max() for d in deviations], dtype=np.float64),
        deviation_component=np.array([d.component.max() for d in deviations], dtype=np.float64),
        worst_atom=_atoms(atoms, [d.norm for d in deviations]),
        force_error=np.array([e.max() for e in errors], dtype=np.float64),
        force_error_atom=_atoms(atoms, errors),
        member_force_error=np.array(by_member, dtype=np.float64).reshape(len(by_member), members).T,
    )


def _atoms(atoms: Sequence[IntArray], values: Sequence[FloatArray]) -> IntArray:
    """The atom of each frame with the largest value, shape (F,)."""
    return np.array([kept[v.argmax()] for kept, v in zip(atoms, values, strict=True)], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class TemperatureErrors:
    """Errors on the test frames of one state point, of one system, or on all test frames.

    Attributes:
        kelvin: The temperature, K; None for frames of unknown temperature, or for all frames.
        mean: Errors of the committee's mean.
        members: Errors of each member.
        system: Name of the system; empty in a campaign of one system, or for all frames.
    """

    kelvin: float | None
    mean: Accuracy
    members: tuple[Accuracy, ...]
    system: str = ""


def committee_errors(
    energies: FloatArray,
    forces: Sequence[FloatArray],
    labelled: Sequence[LabelledFrame],
    *,
    kelvin: float | None,
    system: str = "",
) -> TemperatureErrors:
    """Errors of a committee's mean and of each member.

    Args:
        energies: All members' energies in eV, shape (M, F).
        forces: All members' forces in eV/Å, F arrays of shape (M, N, 3).
        labelled: The F frames with their labels.
        kelvin: Temperature of the frames to store in the result, K.
        system: Name of the system to store in the result.
    """
    members = tuple(
        accuracy(energies[m], [frame_forces[m] for frame_forces in forces], labelled) for m in range(len(energies))
    )
    mean = accuracy(energies.mean(axis=0), [frame_forces.mean(axis=0) for frame_forces in forces], labelled)
    return TemperatureErrors(kelvin=kelvin, mean=mean, members=members, system=system)
