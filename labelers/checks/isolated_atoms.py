"""Energies of isolated atoms by the reference method, for `training.reference_energies: isolated_atoms`."""

from collections.abc import Iterable

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from labelers.checks.reference import ReferenceMethod


def isolated_atom(number: int) -> Frame:
    """A neutral atom of an element, given by atomic number, with the unpaired electrons of its ground state."""
    from ase.data import ground_state_magnetic_moments

    unpaired = round(float(ground_state_magnetic_moments[number]))
    return Frame(numbers=np.array([number]), positions=np.zeros((1, 3)), unpaired_electrons=unpaired)


def isolated_atom_energies(reference: ReferenceMethod, elements: Iterable[int]) -> dict[int, float]:
    """Label an isolated atom of each element.

    Args:
        reference: The reference method.
        elements: Atomic numbers.

    Returns:
        The energies in eV, by atomic number, ascending.

    Raises:
        InputError: If an atom can't be labelled.
    """
    from ase.data import chemical_symbols

    numbers = sorted(set(elements))
    energies = {}
    for number in numbers:
        (found,) = reference([isolated_atom(number)])
        if found is None:
            raise InputError(
                f"training.reference_energies: the isolated atom {chemical_symbols[number]} can't be labelled "
                f"({reference.failure}); set it to `fitted`"
            )
        energies[number] = float(found[0])
    return energies
