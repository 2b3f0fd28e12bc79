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
    """Errors at P lengths of a bond, averaged over the frames in which it was stretched; NaN without any label.

    Attributes:
        labelled: Number of frames with a label at each length, shape (P,).
        energy_mae: Mean absolute error of the committee's mean energy, meV/atom, shape (P,).
        force_mae: Mean absolute error of the components of the committee's mean forces, meV/Å, shape (P,).
        deviation: Largest force deviation (norm) over the atoms, meV/Å, shape (P,).
        reference: Energy of the label above the lowest label energy of the same frame, eV, shape (P,).
        predicted: The committee's mean energy above its lowest value on the same frame, eV, shape (P,).
    """

    labelled: IntArray
    energy_mae: FloatArray
    force_mae: FloatArray
    deviation: FloatArray
    reference: FloatArray
    predicted: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ScanPoint:
    """One labelled frame of a scan, with the predictions of M members.

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
        scans: One scan per frame, all at the same P bond lengths; None in place of a point without a label.
    """
    n_points = len(scans[0])
    quantities = ("energy", "force", "deviation", "reference", "predicted")
    columns = {name: np.full((len(scans), n_points), np.nan) for name in quantities}
    for row, scan in enumerate(scans):
        for column, point in enumerate(scan):
            if point is None:
                continue
            reference, predicted = point.labelled.energy, float(point.energies.mean())
            columns["reference"][row, column], columns["predicted"][row, column] = reference, predicted
            errors = accuracy(np.array([predicted]), [point.forces.mean(axis=0)], [point.labelled])
            columns["energy"][row, column] = errors.energy_mev_per_atom.mae
            columns["force"][row, column] = errors.forces_mev_per_ang.mae
            columns["deviation"][row, column] = force_deviation(point.forces).norm.max() * MEV_PER_EV
    for name in ("reference", "predicted"):
        columns[name] -= np.min(columns[name], axis=1, keepdims=True, initial=np.inf, where=~np.isnan(columns[name]))
    return BondCurve(
        labelled=np.isfinite(columns["energy"]).sum(axis=0),
        energy_mae=_mean(columns["energy"]),
        force_mae=_mean(columns["force"]),
        deviation=_mean(columns["deviation"]),
        reference=_mean(columns["reference"]),
        predicted=_mean(columns["predicted"]),
    )


def _mean(values: FloatArray) -> FloatArray:
    """Mean of the finite values over the rows, shape (P,); NaN in a column without finite values."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    total = np.where(finite, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
