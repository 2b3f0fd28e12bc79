"""Frames of isolated atoms, whose labels are the E0s of models with `training.reference_energies: isolated_atoms`."""

from collections.abc import Iterable

import numpy as np

from al_engine.campaign.labels import LabelOutcome
from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from al_engine.structures.sanity import gfn2_valence, screen_frame

LANTHANIDES = range(58, 72)
"""Atomic numbers of the elements whose 4f electrons are in the core of GFN2-xTB: 3 valence electrons remain."""


def isolated_atoms(elements: Iterable[int], *, gfn2: bool) -> list[Frame]:
    """A neutral atom of each element with the unpaired electrons of its ground state, by ascending atomic number.

    Args:
        elements: Atomic numbers.
        gfn2: Whether GFN2-xTB labels them, for which a lanthanide has a single unpaired electron, 5d.

    Raises:
        InputError: If the spin of an element is not known.
    """
    from ase.data import chemical_symbols, ground_state_magnetic_moments

    atoms = []
    for number in sorted(set(elements)):
        known = number < len(ground_state_magnetic_moments)
        moment = float(ground_state_magnetic_moments[number]) if known else np.nan
        if gfn2 and number in LANTHANIDES:
            moment = float(gfn2_valence(number)[0] % 2)
        if not np.isfinite(moment) or ((round(moment) - number) % 2 and not (gfn2 and number in LANTHANIDES)):
            raise InputError(
                f"training.reference_energies: the number of unpaired electrons of an isolated atom "
                f"{chemical_symbols[number] if number < len(chemical_symbols) else number} is not known here; set it "
                "to `fitted`"
            )
        atoms.append(Frame(numbers=np.array([number]), positions=np.zeros((1, 3)), unpaired_electrons=round(moment)))
    for atom in atoms:
        if (fault := screen_frame(atom, min_distance_ang=0.0, gfn2=gfn2)) is not None:
            raise InputError(
                f"training.reference_energies: {_symbol(atom)} can't be labelled ({fault}); set it to `fitted`"
            )
    return atoms


def isolated_atom_energies(
    outcomes: Iterable[LabelOutcome], atoms: Iterable[Frame], *, remedy: str
) -> dict[int, float]:
    """Energies of labelled atoms in eV, by atomic number.

    Args:
        outcomes: The outcome of each atom.
        atoms: The atoms, as `isolated_atoms` gives them.
        remedy: What the user can do about a failure, for the message.

    Raises:
        InputError: If an atom has no label.
    """
    energies = {}
    for outcome, atom in zip(outcomes, atoms, strict=True):
        if outcome.labelled is None:
            raise InputError(
                f"training.reference_energies: the isolated atom {_symbol(atom)} can't be labelled "
                f"({outcome.reason.value}: {outcome.message}); {remedy}"
            )
        energies[int(atom.numbers[0])] = float(outcome.labelled.energy)
    return energies


def _symbol(atom: Frame) -> str:
    from ase.data import chemical_symbols

    return chemical_symbols[int(atom.numbers[0])]
