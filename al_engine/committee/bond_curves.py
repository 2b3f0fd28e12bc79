"""Errors along a stretched bond: predictions compared with labels at each bond length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.committee.deviation import force_deviation
from al_engine.committee.predictions import accuracy
from al_engine.structures.frames import FloatArray, IntArray, LabelledFrame
from al_engine.units import MEV_PER_EV


@dataclass(frozen=True, slots=True, eq=False)
class BondCurve:
    """Energies and errors at P lengths of a bond, averaged over the frames in which the bond was stretched.

    At a length without any label, all averages are NaN.

    Attributes:
        labelled: Number of frames with a label, and with finite predictions, at each length, shape (P,).
        energy_mae: Mean absolute error of the committee's mean energy, meV/atom, shape (P,).
        force_mae: Mean absolute error of the components of the committee's mean forces, meV/Å, shape (P,).
        deviation: Largest force deviation (norm) over the atoms, meV/Å, shape (P,).
        reference: Energy of the label above the lowest label energy of the same scan, eV, shape (P,).
        predicted: The committee's mean energy above its lowest value in the same scan, eV, shape (P,).
    """

    labelled: IntArray
    energy_mae: FloatArray
    force_mae: FloatArray
    deviation: FloatArray
    reference: FloatArray
    predicted: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ScanPoint:
    """One labelled frame of a scan, with the predictions of M members. A scan stretches one bond of one frame.

    Attributes:
        labelled: The frame with its label.
        energies: Members' energies in eV, shape (M,).
        forces: Members' forces in eV/Å, shape (M, N, 3).
    """

    labelled: LabelledFrame
    energies: FloatArray
    forces: FloatArray


def bond_curve(scans: Sequence[Sequence[ScanPoint | None]]) -> BondCurve:
    """Average the scans of one bond.

    Args:
        scans: S scans, one per frame, all at the same P bond lengths; None in place of a point without a label. At
            least one scan.
    """
    shape = (len(scans), len(scans[0]))
    energy_error, force_error, deviation, reference, predicted = (np.full(shape, np.nan) for _ in range(5))
    for row, scan in enumerate(scans):
        for column, point in enumerate(scan):
            if point is None:
                continue
            at = row, column
            reference[at], predicted[at] = point.labelled.energy, point.energies.mean()
            errors = accuracy(np.array([predicted[at]]), [point.forces.mean(axis=0)], [point.labelled])
            energy_error[at], force_error[at] = errors.energy_mev_per_atom.mae, errors.forces_mev_per_ang.mae
            deviation[at] = force_deviation(point.forces).norm.max() * MEV_PER_EV
    return BondCurve(
        labelled=np.isfinite(energy_error).sum(axis=0),
        energy_mae=_mean(energy_error),
        force_mae=_mean(force_error),
        deviation=_mean(deviation),
        reference=_mean(_above_lowest(reference)),
        predicted=_mean(_above_lowest(predicted)),
    )


def _above_lowest(energies: FloatArray) -> FloatArray:
    """Energies above the lowest energy of their row, shape (S, P); NaN stays NaN."""
    lowest: FloatArray = np.min(energies, axis=1, keepdims=True, initial=np.inf, where=~np.isnan(energies))
    return energies - lowest


def _mean(values: FloatArray) -> FloatArray:
    """Mean over the rows of the finite values of an array of shape (S, P), shape (P,); NaN where a column has none."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    total = np.where(finite, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
