"""Elements of the types in LAMMPS files, from the user or from masses; they are never guessed."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from al_engine.errors import InputError
from samplers.reading.file_elements import element_of, elements_needed

MASS_SHARE = 0.005
"""Largest relative difference between a mass in a file and the element's mass."""
CLEARLY = 3.0
"""Smallest ratio of the distances of a mass to the second nearest and to the nearest element's mass."""


def lammps_with_elements(
    lines: Iterable[str], kind: str, elements: Mapping[str, str], *, source: str
) -> tuple[str | None, dict[str, Any]]:
    """Prepare a LAMMPS file so that ASE's reader does not guess elements.

    Args:
        lines: The lines of the file.
        kind: ASE's name of the format: `lammps-data` or `lammps-dump-text`.
        elements: The user's elements by type, or by the label in the column `element`.
        source: Name of the file in messages.

    Returns:
        The file's text with elements in place of labels, or None if no label is replaced; and keyword arguments for
        ASE's reader.

    Raises:
        InputError: If neither the file nor the user gives the element of a type or label.
    """
    if kind == "lammps-data":
        types, masses = _data_types(lines, source)
        numbers = {
            name: element_of(name, elements) if name in elements else _by_mass(masses.get(name)) for name in types
        }
        _refuse_unknown(numbers, source)
        return None, {"Z_of_type": {int(name): number for name, number in numbers.items()}}
    return _dump_with_elements(list(lines), elements, source=source)


def _refuse_unknown(numbers: Mapping[str, int | None], source: str) -> None:
    """Raise `InputError` if a type has no element."""
    unknown = sorted((name for name, number in numbers.items() if number is None), key=lambda name: (len(name), name))
    if unknown:
        raise elements_needed(unknown, source, "types")


def _dump_with_elements(
    lines: list[str], elements: Mapping[str, str], *, source: str
) -> tuple[str | None, dict[str, Any]]:
    """Prepare a dump file: elements replace labels in a column `element`; without the column, ASE gets them by type."""
    from ase.data import chemical_symbols

    found: dict[str, int | None] = {}  # atomic numbers by label
    column, is_element = None, False
    for index, line in enumerate(lines):
        if line.startswith("ITEM:"):
            names = line.split()[2:] if line.startswith("ITEM: ATOMS") else []
            is_element = "element" in names
            column = names.index("element" if is_element else "type") if {"element", "type"} & set(names) else None
        elif column is not None and len(words := line.split()) > column:
            label = words[column]
            if label not in found:
                found[label] = element_of(label, elements) if is_element or label in elements else None
            number = found[label]
            if is_element and number is not None and label in elements:
                words[column] = chemical_symbols[number]
                lines[index] = " ".join(words) + "\n"
    _refuse_unknown(found, source)
    text = "".join(lines) if is_element and set(found) & set(elements) else None
    if is_element or not found:
        return text, {}
    labels = [name for name in found if not name.isdecimal()]
    if labels:
        raise InputError(
            f"{source}: its column `type` has {', '.join(sorted(labels))}, which ASE reads only as numbers; name the "
            "column `element`"
        )
    last = max(int(name) for name in found)
    return text, {"specorder": [chemical_symbols[found.get(str(k)) or 0] for k in range(1, last + 1)]}


def _data_types(lines: Iterable[str], source: str) -> tuple[set[str], dict[str, float]]:
    """The atom types of a data file, and masses by type in amu for the types that have one.

    Raises:
        InputError: If a mass is not a number.
    """
    masses: dict[str, float] = {}
    count, section = 0, ""
    for line in lines:
        words = line.split("#")[0].split()
        if words[1:] == ["atom", "types"] and words[0].isdecimal():
            count = int(words[0])
        elif words and words[0].isalpha():
            section = words[0]
        elif section == "Masses" and len(words) == 2:  # noqa: PLR2004 -- type and mass
            try:
                masses[words[0]] = float(words[1])
            except ValueError:
                raise InputError(f"{source}: the mass of type {words[0]} is `{words[1]}`; give a number") from None
    return {str(k) for k in range(1, count + 1)}, masses


def _by_mass(mass: float | None) -> int | None:
    """Atomic number of the element whose mass (amu) is nearest.

    Returns:
        The number; None if the mass differs by more than `MASS_SHARE`, or if another element is nearly as near.
    """
    from ase.data import atomic_masses

    if mass is None or mass <= 0.0:
        return None
    distances = np.abs(atomic_masses[1:] - mass)
    nearest, second = np.argsort(distances)[:2].tolist()
    is_clear = distances[second] >= CLEARLY * distances[nearest]  # 40.0 may be a rounded Ar or Ca
    return nearest + 1 if distances[nearest] <= MASS_SHARE * mass and is_clear else None
