"""Force deviation: how far the members of a committee disagree on the forces of a frame, in two published definitions.

`norm` is DP-GEN's model deviation, sigma_i = sqrt(mean_m |F_i^m - mean_m F_i^m|^2) (Zhang et al., Phys. Rev. Mater. 3,
023804 (2019)); `component` is the standard deviation of one Cartesian component, the largest of the three, as in the
code published with arXiv:2312.09490. Both are population standard deviations (ddof 0) over the members.
"""

from dataclasses import dataclass

import numpy as np

from al_engine.structures.frames import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class ForceDeviation:
    """Deviation of each atom's force over the members of a committee, by the formulas at the top of this file.

    Attributes:
        norm: Standard deviation of the force vector, eV/Å, shape (..., N).
        component: Largest of the standard deviations of the three Cartesian components, eV/Å, shape (..., N).
    """

    norm: FloatArray
    component: FloatArray


def force_deviation(member_forces: FloatArray) -> ForceDeviation:
    """Force deviation of each atom.

    Args:
        member_forces: Forces of M members in eV/Å, shape (M, ..., N, 3).

    Returns:
        Both definitions, shape (..., N). If a member's force on an atom is NaN, the atom's deviation is NaN.
    """
    centred = member_forces - member_forces.mean(axis=0)
    variance = np.mean(centred**2, axis=0)
    return ForceDeviation(norm=np.sqrt(variance.sum(axis=-1)), component=np.sqrt(variance.max(axis=-1)))


def net_force_deviation(member_forces: FloatArray, fragment_of_atom: IntArray) -> FloatArray:
    """Deviation of the net force on each bonded fragment, by the formula of `norm`.

    The forces within a fragment cancel in its net force, so this deviation measures the disagreement on the forces
    between fragments. For a single fragment in vacuum it is zero up to rounding.

    Args:
        member_forces: Forces of M members in eV/Å, shape (M, ..., N, 3).
        fragment_of_atom: Index of the fragment that each atom belongs to, counted from 0 without gaps, shape (N,).

    Returns:
        Standard deviation of each fragment's net force in eV/Å, shape (..., K) for K fragments. If a member's force on
        an atom is NaN, the deviation of the atom's fragment is NaN.
    """
    order = np.argsort(fragment_of_atom, kind="stable")
    first = np.searchsorted(fragment_of_atom[order], np.arange(int(fragment_of_atom.max()) + 1))
    return force_deviation(np.add.reduceat(member_forces[..., order, :], first, axis=-2)).norm
