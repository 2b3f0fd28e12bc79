"""Errors of a model's energies and forces: per atom, per molecule, along binding curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from ablation.data import LabelledSet
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import FloatArray, IntArray

MILLI = 1000.0
"""eV to meV."""
TAIL_ANG = 1.5
"""Separation beyond contact from which a curve consists of dispersion and electrostatics."""
_FINE_STEP_ANG = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Energies and forces of F frames, from a model or from labels.

    Attributes:
        energies: In eV, shape (F,).
        forces: In eV/Å, an array (N, 3) for each frame.
    """

    energies: FloatArray
    forces: Sequence[FloatArray]


def labels(data: LabelledSet) -> Predictions:
    """The reference values of a set."""
    return Predictions(np.array([item.energy for item in data.frames]), [item.forces for item in data.frames])


def net_forces(forces: FloatArray, molecule_of_atom: IntArray) -> FloatArray:
    """Σ_i F_i over the atoms of each molecule, shape (M, 3) in eV/Å, from forces (N, 3); molecules count from 0."""
    totals = np.zeros((int(molecule_of_atom.max()) + 1, 3))
    np.add.at(totals, molecule_of_atom, forces)
    return totals


def torques(forces: FloatArray, positions: FloatArray, numbers: IntArray, molecule_of_atom: IntArray) -> FloatArray:
    """Σ_i (x_i - x_m) × F_i about each molecule's centre of mass x_m, shape (M, 3) in eV.

    Args:
        forces: In eV/Å, shape (N, 3).
        positions: In Å, shape (N, 3); molecules are whole.
        numbers: Atomic numbers, shape (N,).
        molecule_of_atom: Molecule of each atom, counted from 0, shape (N,).
    """
    masses = atomic_masses(numbers)[:, None]
    centres = net_forces(masses * positions, molecule_of_atom) / net_forces(
        np.repeat(masses, 3, axis=1), molecule_of_atom
    )
    return net_forces(np.cross(positions - centres[molecule_of_atom], forces), molecule_of_atom)


def set_errors(data: LabelledSet, predicted: Predictions) -> dict[str, float]:
    """Mean absolute errors over a set; errors of vectors are averaged over components.

    Returns:
        `energy_mev_per_atom`; `energy_centred_mev_per_atom`, the same after subtraction of the mean error per atom;
        `force_mev_per_ang`; for molecules `net_force_mev_per_ang` and `torque_mev`.
    """
    sizes = np.array([len(item) for item in data.frames])
    per_atom = (predicted.energies - labels(data).energies) / sizes
    force_errors = [f - item.forces for f, item in zip(predicted.forces, data.frames, strict=True)]
    net, torque = _per_molecule(data, force_errors)
    return {
        "energy_mev_per_atom": MILLI * _mean_abs(per_atom),
        "energy_centred_mev_per_atom": MILLI * _mean_abs(per_atom - per_atom.mean()),
        "force_mev_per_ang": MILLI * _mean_abs(np.concatenate(force_errors)),
        "net_force_mev_per_ang": MILLI * _mean_abs(net),
        "torque_mev": MILLI * _mean_abs(torque),
    }


def set_magnitudes(data: LabelledSet) -> dict[str, float]:
    """`set_errors` of a model that predicts the mean energy per atom and zero forces, for comparison."""
    reference = labels(data)
    sizes = np.array([len(item) for item in data.frames])
    flat = Predictions(sizes * np.mean(reference.energies / sizes), [np.zeros_like(f) for f in reference.forces])
    return set_errors(data, flat)


def curve_errors(data: LabelledSet, energies: FloatArray) -> dict[str, float]:
    """Errors along binding curves; energies of a curve are relative to its energy at the largest separation.

    Args:
        data: The set `curves`, with columns `curve` and `shift_ang`.
        energies: Energies of a model in eV, shape (F,).

    Returns:
        Mean absolute errors: `wall_mev` inside contact, `binding_mev` at and beyond contact, `tail_mev` from `TAIL_ANG`
        beyond contact on, `depth_mev` and `position_ang` of the wells.
    """
    reference = labels(data).energies
    shift = data.columns["shift_ang"]
    errors, depths, shifts = [], [], []
    for rows in _rows_by_curve(data):
        x = shift[rows]
        curves = [values[rows] - values[rows][-1] for values in (energies, reference)]
        errors.append(np.column_stack([x, curves[0] - curves[1]])[:-1])
        wells = [well(x, curve) for curve in curves]
        depths.append(wells[0][0] - wells[1][0])
        shifts.append(wells[0][1] - wells[1][1])
    x, error = np.concatenate(errors).T
    return {
        "wall_mev": MILLI * _mean_abs(error[x < 0.0]),
        "binding_mev": MILLI * _mean_abs(error[x >= 0.0]),
        "tail_mev": MILLI * _mean_abs(error[x >= TAIL_ANG]),
        "depth_mev": MILLI * _mean_abs(np.array(depths)),
        "position_ang": _mean_abs(np.array(shifts)),
    }


def curve_magnitudes(data: LabelledSet) -> dict[str, float]:
    """Mean magnitudes of the reference curves in meV, with the names of `curve_errors`."""
    flat = curve_errors(data, np.zeros(len(data.frames)))
    return {name: flat[name] for name in ("wall_mev", "binding_mev", "tail_mev", "depth_mev")}


def well(separations: FloatArray, energies: FloatArray) -> tuple[float, float]:
    """Depth (in the energies' unit, positive) and position of a curve's minimum.

    The minimum of a cubic spline through the points is searched between the neighbours of the lowest point. Elsewhere
    points are sparse, and a spline may oscillate.

    Args:
        separations: Separations, ascending, shape (P,).
        energies: Energies relative to the last, shape (P,).
    """
    lowest = int(np.argmin(energies))
    left, right = separations[max(lowest - 1, 0)], separations[min(lowest + 1, len(separations) - 1)]
    fine = np.arange(left, right, _FINE_STEP_ANG)
    values = CubicSpline(separations, energies)(fine)
    k = int(np.argmin(values))
    return float(-values[k]), float(fine[k])


def summary(values: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and half the range of every entry over seeds."""
    table = {name: np.array([value[name] for value in values]) for name in values[0]}
    return {name: (float(v.mean()), float(np.ptp(v) / 2)) for name, v in table.items()}


def _per_molecule(data: LabelledSet, forces: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Net forces and torques of the molecules of all frames, shape (molecules, 3) each."""
    net, torque = [], []
    for index, (item, f) in enumerate(zip(data.frames, forces, strict=True)):
        molecules = data.molecule_of_atom(index)
        net.append(net_forces(f, molecules))
        torque.append(torques(f, item.frame.positions, item.frame.numbers, molecules))
    return np.concatenate(net), np.concatenate(torque)


def _rows_by_curve(data: LabelledSet) -> list[IntArray]:
    """Indices of each curve's frames, by ascending separation."""
    curve, shift = data.columns["curve"], data.columns["shift_ang"]
    return [rows[np.argsort(shift[rows])] for rows in (np.flatnonzero(curve == c) for c in np.unique(curve))]


def _mean_abs(values: FloatArray) -> float:
    return float(np.abs(values).mean())
