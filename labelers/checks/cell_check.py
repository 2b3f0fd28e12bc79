"""Check whether a periodic cell is large enough for a method that samples the Γ point only, such as GFN2-xTB.

In a small cell, electrons interact with their own images. The labels are then wrong, but consistent, so that a model
learns them without a sign of the fault. A Γ-point calculation of the cell doubled along an axis is equivalent to a
calculation of the original cell with the Γ point and the k-point at the zone boundary along this axis. If the doubling
changes the energy per atom or the forces, the cell is too small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.config.labels import CellCheckConfig
from al_engine.protocols import Reference
from al_engine.structures.frames import FloatArray, Frame
from al_engine.units import MEV_PER_EV


@dataclass(frozen=True, slots=True)
class AxisChange:
    """Change of a label when the cell is doubled along an axis.

    Attributes:
        axis: Cell vector: 0, 1 or 2 for a, b or c.
        height_ang: Height of the cell along the axis: the distance between the faces that the cell vector connects, Å.
        energy_ev_per_atom: Change of the energy per atom, eV.
        force_ev_per_ang: Largest change of a force component, eV/Å.
    """

    axis: int
    height_ang: float
    energy_ev_per_atom: float
    force_ev_per_ang: float


def heights(cell: FloatArray) -> FloatArray:
    """Distances between opposite faces of a cell in Å, shape (3,).

    They are the inverse lengths of the reciprocal vectors, which are the columns of the inverse of the cell.

    Args:
        cell: Cell vectors as rows in Å, shape (3, 3).
    """
    result: FloatArray = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    return result


def doubled(frame: Frame, axis: int) -> Frame:
    """The frame repeated twice along a cell vector (0, 1 or 2), with twice the charge and unpaired electrons."""
    cell = frame.cell.copy()
    cell[axis] *= 2.0
    return Frame(
        numbers=np.tile(frame.numbers, 2),
        positions=np.concatenate([frame.positions, frame.positions + frame.cell[axis]]),
        cell=cell,
        pbc=frame.pbc,
        charge=2 * frame.charge,
        unpaired_electrons=2 * frame.unpaired_electrons,
    )


def changes_when_doubled(frame: Frame, reference: Reference, *, max_height_ang: float) -> list[AxisChange] | None:
    """Label a frame, and label it again with its cell doubled along each axis with a height of at most a limit.

    Args:
        frame: A frame that is periodic in three directions.
        reference: The reference method of the labels.
        max_height_ang: The limit, Å.

    Returns:
        The change of the label for each of these axes; None if a label failed.
    """
    short = [axis for axis, height in enumerate(heights(frame.cell)) if height <= max_height_ang]
    if not short:
        return []
    labels = reference([frame, *(doubled(frame, axis) for axis in short)])
    original, labels_of_doubled = labels[0], labels[1:]
    changes = []
    for axis, label in zip(short, labels_of_doubled, strict=True):
        if original is None or label is None:
            return None
        changes.append(
            AxisChange(
                axis=axis,
                height_ang=float(heights(frame.cell)[axis]),
                energy_ev_per_atom=(label[0] / 2 - original[0]) / len(frame),
                force_ev_per_ang=float(np.abs(label[1][: len(frame)] - original[1]).max()),
            )
        )
    return changes


def too_small(changes: Sequence[AxisChange], frame: Frame, config: CellCheckConfig) -> str:
    """Describe why a cell is too small, if it is.

    For a charged frame only the forces are compared: with tblite's uniform background charge, the energy depends on
    which cell of the same crystal is chosen.

    Args:
        changes: The changes that `changes_when_doubled` found.
        frame: The frame.
        config: The allowed changes.

    Returns:
        A message with the changes and the remedies; empty if the cell is large enough.
    """
    too_large = [
        change
        for change in changes
        if (MEV_PER_EV * abs(change.energy_ev_per_atom) > config.energy_mev_per_atom and not frame.charge)
        or MEV_PER_EV * change.force_ev_per_ang > config.force_mev_per_ang
    ]
    if not too_large:
        return ""
    text = ", ".join(
        f"along {'abc'[change.axis]} ({change.height_ang:.1f} Å) "
        + ("" if frame.charge else f"the energy changes by {MEV_PER_EV * change.energy_ev_per_atom:+.1f} meV/atom and ")
        + f"forces change by up to {MEV_PER_EV * change.force_ev_per_ang:.0f} meV/Å"
        for change in too_large
    )
    repeats = " x ".join(str(int(np.ceil(config.max_height_ang / height))) for height in heights(frame.cell))
    return (
        f"the cell is too small for GFN2-xTB, which samples only the Γ point: when doubled {text}. Repeat the cell, to "
        f"about {repeats}, take more molecules, or use a method with k-points (labels.backend: ase); "
        "labels.cell_check holds the allowed changes"
    )
