"""Checks of a frame before it is labelled.

For some impossible inputs, GFN2-xTB programs return a plausible energy; for others, they corrupt their own memory.
Inputs that are known to be impossible are therefore refused here, which costs microseconds.
"""

from functools import cache

import numpy as np

from al_engine.structures.elements import LAST_ELEMENT
from al_engine.structures.frames import Frame, IntArray
from al_engine.structures.neighbours import pairs_within

GFN2_MAX_ATOMIC_NUMBER = 86
"""Radon, the last element with GFN2-xTB parameters (Bannwarth et al., J. Chem. Theory Comput. 15, 1652 (2019))."""

LARGEST_EXTENT_ANG, FARTHEST_ANG = 1e5, 1e8
"""Largest extent of a frame along an axis, and largest coordinate, Å. In larger frames neighbour searches fail; farther
from the origin, distances lose digits."""

_CORE_ELECTRONS = (0, 2, 10, 18, 36, 54)
"""Possible numbers of core electrons: none, or the electrons of a noble gas up to xenon."""


def gfn2_valence(atomic_number: int) -> tuple[int, int]:
    """Numbers of valence electrons and valence orbitals of an element in GFN2-xTB.

    A filled d shell counts as core (zinc has 2 valence electrons), and so does the 4f shell: lanthanides have 3 valence
    electrons. Polarisation d functions of main-group elements are not counted as valence orbitals.

    Args:
        atomic_number: Z, 1 to 86.

    Returns:
        Number of valence electrons; number of valence orbitals: 1 (s), 4 (s and p), or 9 (s, p and d).
    """
    core = max(electrons for electrons in _CORE_ELECTRONS if electrons < atomic_number)
    electrons = atomic_number - core
    if core == 0:
        return electrons, 1
    if core == 54 and electrons > 2:  # noqa: PLR2004 - beyond barium: the 14 electrons of the 4f shell count as core
        electrons = max(3, electrons - 14)
    if core >= 18:  # noqa: PLR2004 - argon's core and beyond: a d shell lies between s and p
        if 3 <= electrons <= 11:  # noqa: PLR2004 - groups 3 to 11
            return electrons, 9
        if electrons > 11:  # noqa: PLR2004 - group 12 on: the d shell is full and counts as core
            electrons -= 10
    return electrons, 4


def screen_frame(
    frame: Frame,
    *,
    min_distance_ang: float,
    min_contact_factor: float = 0.0,
    gfn2: bool = True,
) -> str | None:
    """Find the reason why a frame must not be labelled, by `screen_system` and then by `screen_contacts`.

    Args:
        frame: The frame.
        min_distance_ang: As in `screen_contacts`.
        min_contact_factor: As in `screen_contacts`.
        gfn2: As in `screen_system`.

    Returns:
        The reason in words, or None if the frame is fit to be labelled.
    """
    return screen_system(frame, gfn2=gfn2) or screen_contacts(
        frame, min_distance_ang=min_distance_ang, min_contact_factor=min_contact_factor
    )


def screen_system(frame: Frame, *, gfn2: bool = True) -> str | None:
    """Find the reason why a backend cannot label a frame: no atoms, impossible positions, elements, cell or electrons.

    Args:
        frame: The frame.
        gfn2: Whether GFN2-xTB labels the frame. It must then have parameters for all elements, and charge and unpaired
            electrons must fit the valence electrons. Neither is checked for other methods.

    Returns:
        The reason in words, or None if there is no such reason.
    """
    if len(frame) == 0:
        return "the frame has no atoms"
    if not np.isfinite(frame.positions).all():
        atom = int(np.argwhere(~np.isfinite(frame.positions))[0, 0])
        return f"atom {atom} has a position that is not finite"
    extent, farthest = np.ptp(frame.positions, axis=0).max(), np.abs(frame.positions).max()
    if extent > LARGEST_EXTENT_ANG or farthest > FARTHEST_ANG:
        return f"atoms are up to {extent:.3g} Å apart and {farthest:.3g} Å from the origin"
    return _screen_elements(frame, gfn2=gfn2) or _screen_cell(frame) or (_screen_electrons(frame) if gfn2 else None)


def screen_contacts(frame: Frame, *, min_distance_ang: float, min_contact_factor: float = 0.0) -> str | None:
    """Find the reason why a frame must not be labelled in its distances: two atoms are too close to each other.

    Args:
        frame: The frame; its positions are finite and its elements have been screened.
        min_distance_ang: Smallest distance allowed between any two atoms, periodic images included, Å.
        min_contact_factor: Smallest distance allowed in units of the sum of the two atoms' covalent radii (Cordero et
            al., Dalton Trans. 2832 (2008), from ASE); the larger of the two limits counts.

    Returns:
        The reason in words, which names the two atoms whose distance is the smallest share of its limit; None if there
        is no such reason.
    """
    from ase.data import covalent_radii

    radii = min_contact_factor * covalent_radii[frame.numbers]
    reach = max(min_distance_ang, 2.0 * float(radii.max()))
    first, second, distances = pairs_within(frame, reach)
    limits = np.maximum(min_distance_ang, radii[first] + radii[second])
    if not (distances < limits).any():
        return None
    worst = int(np.argmin(distances / limits))
    return (
        f"atoms {first[worst]} and {second[worst]} are {distances[worst]:.3f} Å apart, "
        f"closer than {limits[worst]:.3g} Å"
    )


def _screen_elements(frame: Frame, *, gfn2: bool) -> str | None:
    highest = GFN2_MAX_ATOMIC_NUMBER if gfn2 else LAST_ELEMENT
    outside = np.flatnonzero((frame.numbers < 1) | (frame.numbers > highest))
    if not outside.size:
        return None
    atom = int(outside[0])
    number = int(frame.numbers[atom])
    if not 1 <= number <= LAST_ELEMENT:
        return f"atom {atom} has Z = {number}, which is no element"
    from ase.data import chemical_symbols

    return (
        f"atom {atom} is {chemical_symbols[number]} (Z = {number}); GFN2-xTB has parameters for Z = 1 to {highest} "
        "only; use another method (labels.backend: ase)"
    )


def _screen_cell(frame: Frame) -> str | None:
    if not frame.is_periodic:
        return None
    if not frame.pbc.all():
        return f"pbc is {frame.pbc.tolist()}; backends treat a frame as periodic in all directions or in none"
    if not np.isfinite(frame.cell).all():
        return "the cell is not finite"
    lengths = np.linalg.norm(frame.cell, axis=1)
    if not abs(np.linalg.det(frame.cell)) > 1e-6 * np.prod(lengths):
        return "the frame is periodic but its cell has no volume"
    return None


@cache
def _valence_table() -> IntArray:
    """The numbers from `gfn2_valence` in row Z for atomic number Z, shape (87, 2); zeros in row 0."""
    return np.array([(0, 0), *map(gfn2_valence, range(1, GFN2_MAX_ATOMIC_NUMBER + 1))])


def _screen_electrons(frame: Frame) -> str | None:
    """Find the reason why GFN2-xTB cannot fill the valence orbitals of a frame with its valence electrons."""
    valence, n_orbitals = _valence_table()[frame.numbers].sum(axis=0).tolist()
    n_electrons = valence - frame.charge
    n_unpaired = frame.unpaired_electrons
    if n_electrons < 0:
        return f"charge {frame.charge} removes more than all {valence} valence electrons"
    if not 0 <= n_unpaired <= n_electrons:
        return f"{n_unpaired} unpaired electrons are impossible with {n_electrons} valence electrons"
    if (n_electrons - n_unpaired) % 2:
        return f"{n_electrons} valence electrons can't have {n_unpaired} unpaired: both must be even or both odd"
    if n_electrons + n_unpaired > 2 * n_orbitals:
        return f"{n_electrons} valence electrons, {n_unpaired} unpaired, do not fit into {n_orbitals} valence orbitals"
    return None
