"""Isolated atoms, whose labels are the E0s of models with `training.reference_energies: isolated_atoms`."""

from collections.abc import Iterable, Sequence

import numpy as np

from al_engine.campaign.labels import LabelOutcome
from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from al_engine.structures.sanity import gfn2_valence, screen_frame
from labelers.checks.reference import ReferenceMethod

LANTHANIDES = range(58, 72)
"""Atomic numbers of the elements whose 4f electrons are in the core of GFN2-xTB: 3 valence electrons remain."""
_OPTION = "training.reference_energies: isolated_atoms"


def isolated_atoms(elements: Iterable[int], *, gfn2: bool) -> list[Frame]:
    """A neutral atom of each element with the unpaired electrons of its ground state, by ascending atomic number.

    Args:
        elements: Atomic numbers.
        gfn2: Whether GFN2-xTB labels them.

    Raises:
        InputError: If the spin of an element is not known, or GFN2-xTB can't label it.
    """
    atoms = []
    for number in sorted(set(elements)):
        unpaired = _unpaired(number, gfn2=gfn2)
        if unpaired is None:
            raise InputError(
                f"{_OPTION}: the number of unpaired electrons of an atom with Z = {number} is not known; write `fitted`"
            )
        atom = Frame(numbers=np.array([number]), positions=np.zeros((1, 3)), unpaired_electrons=unpaired)
        if (fault := screen_frame(atom, min_distance_ang=0.0, gfn2=gfn2)) is not None:
            raise InputError(f"{_OPTION}: an atom {_symbol(atom)} can't be labelled ({fault}); write `fitted`")
        atoms.append(atom)
    return atoms


def _unpaired(number: int, *, gfn2: bool) -> int | None:
    """Unpaired electrons of the ground state of an atom; None if not known."""
    from ase.data import ground_state_magnetic_moments

    if gfn2 and number in LANTHANIDES:
        return gfn2_valence(number)[0] % 2
    if number >= len(ground_state_magnetic_moments) or not np.isfinite(ground_state_magnetic_moments[number]):
        return None
    unpaired = round(float(ground_state_magnetic_moments[number]))
    return unpaired if (number - unpaired) % 2 == 0 else None  # ASE's table has impossible numbers, as of Ce


def labelled_on_trial(atoms: Sequence[Frame], reference: ReferenceMethod) -> None:
    """Label atoms before a campaign begins, in which the option can no longer be changed.

    Raises:
        InputError: If an atom can't be labelled.
    """
    for atom in atoms:
        if reference([atom])[0] is None:
            raise _unlabelled(atom, reference.failure, remedy="write `fitted`")


def energies_of(outcomes: Iterable[LabelOutcome], atoms: Iterable[Frame], *, remedy: str) -> dict[int, float]:
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
            raise _unlabelled(atom, outcome.failure, remedy=remedy)
        energies[int(atom.numbers[0])] = float(outcome.labelled.energy)
    return energies


def _unlabelled(atom: Frame, failure: str, *, remedy: str) -> InputError:
    """The error for an atom without a label: the reason code and the message of its failure, and what to do."""
    return InputError(f"{_OPTION}: the isolated atom {_symbol(atom)} can't be labelled ({failure}); {remedy}")


def _symbol(atom: Frame) -> str:
    return str(atom.to_atoms().get_chemical_formula())
