"""ASE databases: the structures of their rows with all data of each row, and the units that the database states."""

from pathlib import Path
from typing import Any, get_args

import numpy as np

from al_engine.config.data import EnergyUnit, ForcesUnit
from al_engine.errors import InputError

UNITS_BY_NAME = "_property_unit_dict"
"""Entry of the metadata in which SchNetPack states the unit of each property, by name."""
UNIT_OF_LENGTH = "_distance_unit"
"""Entry of the metadata in which SchNetPack states the unit of the positions."""
ANGSTROM = frozenset({"a", "ang", "angstrom", "å"})
"""Names of the ångström, in lower case."""
_OTHER_NAMES = {
    "ha": "hartree",
    "eh": "hartree",
    "ry": "rydberg",
    "angstrom": "ang",
    "å": "ang",
    "a": "ang",
    "a0": "bohr",
}
"""Names of units, in lower case, in the words of the config."""


def database_images(path: Path) -> list[Any]:
    """The structures of an ASE database as `ase.Atoms`.

    The key-value pairs of each row, and the numbers and arrays of its `data`, are in `atoms.info`.

    Raises:
        InputError: If the database states a unit of its positions other than Å.
    """
    from ase.db import connect

    length = str(_metadata(path).get(UNIT_OF_LENGTH, "ang"))
    if length.lower() not in ANGSTROM:
        raise InputError(f"{path} states that its positions are in {length}; convert positions and cells to Å")
    images = []
    for row in connect(path).select():
        atoms = row.toatoms()
        values = {**_numbers_of(row.data), **row.key_value_pairs}
        # `charge` is ASE's sum of the column of charges; `stated_charge_and_spin` reads the column itself.
        atoms.info.update({key: value for key, value in values.items() if key != "charge" or key in row.data})
        images.append(atoms)
    return images


def database_units(path: Path) -> dict[str, str]:
    """The units of energies and forces that an ASE database states, by the name of the data, in the config's words.

    Units that the config does not know are left out; so are other files than databases.
    """
    if path.suffix != ".db":
        return {}
    stated = _metadata(path).get(UNITS_BY_NAME)
    known = {unit.lower(): unit for unit in (*get_args(EnergyUnit), *get_args(ForcesUnit))}
    units = {name: known.get(_in_words(str(unit))) for name, unit in dict(stated or {}).items()}
    return {name: unit for name, unit in units.items() if unit is not None}


def _metadata(path: Path) -> dict[str, Any]:
    from ase.db import connect

    return dict(connect(path).metadata)


def _in_words(unit: str) -> str:
    """A unit in lower case, each part in the word of the config: `Ha/Bohr` is `hartree/bohr`."""
    return "/".join(_OTHER_NAMES.get(part, part) for part in unit.strip().lower().split("/"))


def _numbers_of(data: Any) -> dict[str, Any]:
    """The numbers and numerical arrays of a row's data; an array of one number as the number."""
    found = {}
    for name, value in dict(data).items():
        array = np.asarray(value)
        if array.size and np.issubdtype(array.dtype, np.number):
            found[str(name)] = array.reshape(-1)[0].item() if array.size == 1 else array
    return found
