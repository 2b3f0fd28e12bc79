"""Units and signs of labels from other programs: positions, energies and forces have to fit each other."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from al_engine.structures.frames import FloatArray
from al_engine.structures.neighbours import pairs_within
from al_engine.structures.periodic import nearest_image
from samplers.reading.labelled_files import FileLabel

NEAR_ANG = 0.08
"""Largest RMS displacement of two successive frames whose energies and forces are compared, Å. At a larger one, the
work by the trapezoidal rule is off by a third for stiff bonds."""
LEAST_PAIRS = 5
"""Least number of such pairs."""
LEAST_CORRELATION = 0.9
"""Least absolute correlation of energy differences and work of the forces for a statement on units."""
WORK_TOLERANCE = 0.3
"""Largest relative difference of energy differences and work of the forces that is not taken for a wrong unit."""
UNRELATED_EV = 0.005
"""RMS difference of energy differences and work of uncorrelated labels, eV per atom, above which they are refused."""
UNRELATED_SHARE = 0.7
"""Least such difference in units of the RMS energy difference."""
LARGEST_FORCE_RMS = 10.0
"""Largest median of the frames' RMS forces, eV/Å. Ethanol has 0.8 at 500 K; in kcal/mol/Å this is 18."""
BOHR_SHARES = (1.45, 2.2)
"""Range of the distances of nearest neighbours in units of the sum of their covalent radii, for positions in bohr. In
Å they are 0.8 to 1.3."""
MOST_MEASURED = 50
"""Largest number of frames whose distances are measured."""
_NOBLE_GASES = (2, 10, 18, 36, 54, 86)


def unit_fault(labels: Sequence[FileLabel], *, sizes: bool = True) -> str:
    """Why positions, energies and forces cannot be in Å, eV and eV/Å; empty if nothing speaks against it.

    Args:
        labels: Frames in the order of their file, without other faults.
        sizes: Whether the size of the forces alone is judged.
    """
    return _fault_of_positions(labels) or _fault_of_work(labels) or (_fault_of_sizes(labels) if sizes else "")


def near_pairs(labels: Sequence[FileLabel]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Energy differences and work of the forces between successive frames that are near each other.

    The work is that of the mean forces along the displacement (the trapezoidal rule).

    Returns:
        Energy differences in eV; works in eV; numbers of atoms; each of shape (n_pairs,).
    """
    found = [pair for first, second in pairwise(labels) if (pair := _near_pair(first, second)) is not None]
    changes, works, sizes = np.array(found, dtype=np.float64).reshape(-1, 3).T
    return changes, works, sizes


def _near_pair(first: FileLabel, second: FileLabel) -> tuple[float, float, int] | None:
    """Energy difference and work, eV, and number of atoms of a pair of frames; None if they are not comparable."""
    if first.energy is None or second.energy is None or first.forces is None or second.forces is None:
        return None
    one, other = first.frame, second.frame
    same = np.array_equal(one.numbers, other.numbers) and np.array_equal(one.pbc, other.pbc)
    if not same or (one.is_periodic and not np.allclose(one.cell, other.cell, atol=1e-6)):
        return None
    step = other.positions - one.positions
    if one.is_periodic:
        step = nearest_image(step, one.cell, one.pbc)
    if not 0.0 < float(np.sqrt(np.mean(np.sum(step**2, axis=1)))) < NEAR_ANG:
        return None
    work = -0.5 * float(np.sum((first.forces + second.forces) * step))
    return (second.energy - first.energy, work, len(one)) if np.isfinite(work) else None


def _fault_of_work(labels: Sequence[FileLabel]) -> str:
    """Why the energies are not those whose derivatives the forces are; empty if there is no reason."""
    change, work, size = near_pairs(labels)
    if len(work) < LEAST_PAIRS or not work.any() or not change.any():
        return ""
    along = f"along {len(work)} pairs of successive frames"
    if abs(float(np.corrcoef(change, work)[0, 1])) < LEAST_CORRELATION:
        rest, whole = _rms((change - work) / size), _rms(change / size)
        if rest < max(UNRELATED_EV, UNRELATED_SHARE * whole):
            return ""
        return (
            f"energies and forces do not belong together: {along}, energies change by {1000 * whole:.3g} meV per atom "
            f"(RMS), by {1000 * rest:.3g} meV per atom other than the forces say; the energies may be of several "
            "methods, or the forces of other frames or in another order of the atoms"
        )
    ratio = float(change @ work / (work @ work))
    if abs(ratio - 1.0) < WORK_TOLERANCE:
        return ""
    if ratio > 0.0:
        return (
            f"energies change {ratio:.3g} times as much as the forces say, {along}{_like(ratio)}; give energy_unit and "
            "forces_unit"
        )
    other = abs(ratio + 1.0) >= WORK_TOLERANCE
    units = f" The units differ too: energies change {-ratio:.3g} times as much{_like(-ratio)}." if other else ""
    return (
        f"the forces have the wrong sign: {along}, energies rise where the forces say that they fall, as with "
        f"gradients; multiply the forces in the file by -1.{units}"
    )


def _like(ratio: float) -> str:
    """The units that would explain a ratio of energy differences and work; empty if none is known."""
    from ase import units

    known = {
        "energies in hartree, or forces in units of 27.2 eV/Å": 1 / units.Hartree,
        "energies in hartree and forces in hartree/bohr": 1 / units.Bohr,
        "energies in eV and forces in hartree/bohr": units.Hartree / units.Bohr,
        "energies in kcal/mol": units.mol / units.kcal,
        "energies in kJ/mol": units.mol / units.kJ,
        "forces in kcal/mol/Å": units.kcal / units.mol,
    }
    like = [words for words, value in known.items() if abs(ratio / value - 1.0) < WORK_TOLERANCE]
    return f", as with {' or '.join(like)}" if like else ""


def _fault_of_sizes(labels: Sequence[FileLabel]) -> str:
    """Why the forces cannot be in eV/Å by their size, as with energies in kcal/mol and forces in kcal/mol/Å."""
    sizes = [_rms(label.forces) for label in labels if label.forces is not None and len(label.frame) > 1]
    typical = float(np.median(sizes)) if sizes else 0.0
    if typical <= LARGEST_FORCE_RMS:
        return ""
    return (
        f"half of its frames have an RMS force above {typical:.3g} eV/Å; frames of MD are below "
        f"{LARGEST_FORCE_RMS:g} eV/Å, forces in kcal/mol/Å or kJ/mol/Å above; give energy_unit and "
        "forces_unit, or for a campaign keep_outliers: true if the forces are right"
    )


def _fault_of_positions(labels: Sequence[FileLabel]) -> str:
    """Why the positions cannot be in Å: in all frames, nearest neighbours are as far apart as bonds in bohr.

    A scan of a dissociating bond has frames near the minimum too.
    """
    places = np.unique(np.linspace(0, len(labels) - 1, min(MOST_MEASURED, len(labels))).astype(int)).tolist()
    shares = [share for place in places if (share := _nearest_share(labels[place])) is not None]
    low, high = BOHR_SHARES
    if not shares or min(shares) < low or float(np.median(shares)) > high:
        return ""
    return (
        f"nearest neighbours are {float(np.median(shares)):.3g} times as far apart as bonds, as if positions were in "
        "bohr; convert positions and cells to Å"
    )


def _nearest_share(label: FileLabel) -> float | None:
    """Median distance of atoms from their nearest neighbours, in units of the sum of covalent radii.

    Noble gases are left out. Atoms without a neighbour near enough for a bond in bohr count as farther.

    Returns:
        None for a frame with fewer than two atoms that form bonds.
    """
    from ase.data import covalent_radii

    frame = label.frame
    bonding = ~np.isin(frame.numbers, _NOBLE_GASES)
    if np.count_nonzero(bonding) < 2:  # noqa: PLR2004 -- a bond
        return None
    radii = covalent_radii[frame.numbers]
    first, second, distances = pairs_within(frame, 2.0 * BOHR_SHARES[1] * float(radii[bonding].max()))
    both = bonding[first] & bonding[second]
    nearest = np.full(len(frame), BOHR_SHARES[1])
    shares = distances[both] / (radii[first] + radii[second])[both]
    for ends in (first[both], second[both]):
        np.minimum.at(nearest, ends, shares)
    return float(np.median(nearest[bonding]))


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
