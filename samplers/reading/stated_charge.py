"""What a structure file states of charge and spin, under the names that programs use for them.

A statement is taken, or refused with what to write instead; none is dropped. Names that mean different things to
different programs are read as their most common meaning and checked against the number of electrons.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.frames import IntArray

CHARGE_NAMES = frozenset(
    {
        "charge", "total_charge", "totalcharge", "net_charge", "netcharge", "tot_charge", "system_charge",
        "charge_total", "excesscharge", "cellcharge", "scf.system.charge",
    }
)  # fmt: skip
MULTIPLICITY_NAMES = frozenset(
    {"multiplicity", "mult", "spin_multiplicity", "spinmultiplicity", "spin", "total_spin", "totalspin"}
)
"""2S + 1. `spin` and `total_spin` too, as large data sets (OMol25) and MACE have them."""
UNPAIRED_NAMES = frozenset(
    {"unpaired_electrons", "n_unpaired", "nunpaired", "unpaired", "n_unpaired_electrons", "num_unpaired", "uhf"}
)
SUSPECT = re.compile(r"charge|multiplicity|spin|unpaired|^q$|^qtot$|^mult$")
"""A number under any other name like these may be a charge or a spin, and is asked about."""
WHOLE = 0.05
"""Charges of atoms that come so near a whole number in their sum are the parts of that number."""


@dataclass(frozen=True, slots=True)
class Stated:
    """Charge in e and number of unpaired electrons as a file states them; None where it does not.

    Attributes:
        charge: Total charge, e.
        unpaired_electrons: Number of unpaired electrons.
    """

    charge: int | None = None
    unpaired_electrons: int | None = None


def stated_charge_and_spin(
    info: Mapping[str, Any], atom_charges: Mapping[str, Any], magnetic_moments: Any, *, numbers: IntArray, where: str
) -> Stated:
    """What is stated with one structure.

    Args:
        info: Values by name that stand with the structure (`ase.Atoms.info`, parameters of its calculation).
        atom_charges: Columns of charges by name, in e, each of shape (N,).
        magnetic_moments: Moments of the atoms in Bohr magnetons, shape (N,), or None.
        numbers: Atomic numbers, shape (N,).
        where: How a message names the structure.

    Raises:
        InputError: If a statement is fractional, contradicts another one or the number of electrons, or can't be told.
    """
    said = _by_name(info, where)
    charges = {**said["charge"], **_sums_of(atom_charges, where, always=bool(said["charge"]))}
    charge = _one(charges, where)
    electrons = int(np.sum(numbers)) - (charge or 0)
    unpaired = dict(said["unpaired_electrons"])
    for key, value in said["multiplicity"].items():
        unpaired[key] = _unpaired_of(key, value, electrons, where)
    if not unpaired and magnetic_moments is not None:
        unpaired = _sum_of_moments(magnetic_moments, electrons, where)
    return Stated(charge, _one(unpaired, where))


NAMES = {"charge": CHARGE_NAMES, "multiplicity": MULTIPLICITY_NAMES, "unpaired_electrons": UNPAIRED_NAMES}


def _by_name(info: Mapping[str, Any], where: str) -> dict[str, dict[str, int]]:
    """What is stated by name: for each of `NAMES`, the values by the name that the file has."""
    said: dict[str, dict[str, int]] = {what: {} for what in NAMES}
    for key, value in info.items():
        name = str(key).strip().partition(":")[0].lower().replace("-", "_").replace(" ", "_")
        what = next((what for what, names in NAMES.items() if name in names), None)
        if what is not None:
            said[what][str(key)] = _whole(key, value, where, name=what)
        elif SUSPECT.search(name) and _is_number(value) and float(value) != 0.0:
            raise InputError(
                f"{where}: `{key}={value}` may be a charge or a spin; write it as charge=, multiplicity= or "
                "unpaired_electrons=, or remove it"
            )
    return said


def _sums_of(columns: Mapping[str, Any], where: str, *, always: bool) -> dict[str, int]:
    """Sums of columns of charges, e; those that are 0 only where asked for always: not every column says a charge."""
    sums = {}
    for column, values in columns.items():
        total = float(np.sum(np.asarray(values, dtype=np.float64)))
        if abs(total - round(total)) > WHOLE:
            raise InputError(
                f"{where}: its `{column}` add up to {total:+.3f} e, which is no whole charge; mend or remove that "
                "column"
            )
        if round(total) or always:
            sums[f"sum of {column}"] = round(total)
    return sums


def _sum_of_moments(moments: Any, electrons: int, where: str) -> dict[str, int]:
    total = abs(float(np.sum(np.asarray(moments, dtype=np.float64))))
    if abs(total - round(total)) > WHOLE:
        raise InputError(
            f"{where}: its magnetic moments add up to {total:.3f}, no whole number of unpaired electrons; mend or "
            "remove them"
        )
    if (electrons - round(total)) % 2 and round(total):
        raise InputError(
            f"{where}: its magnetic moments add up to {total:g}, which does not fit its {electrons} electrons; write "
            "unpaired_electrons=NUMBER, or mend its charge or the moments"
        )
    return {"sum of magnetic moments": round(total)} if round(total) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _whole(key: Any, value: Any, where: str, *, name: str) -> int:
    """A statement's value.

    Raises:
        InputError: If it is no whole number.
    """
    if isinstance(value, bool | np.bool_):
        raise InputError(f"{where}: says `{key}` without a value that can be read; write {name}=NUMBER")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{where}: `{key}={value}` is no number; write {name}=NUMBER") from None
    if not np.isfinite(number) or number != round(number):
        raise InputError(f"{where}: `{key}={value}` is no whole number; write {name}=NUMBER")
    return round(number)


def _unpaired_of(key: str, value: int, electrons: int, where: str) -> int:
    """Unpaired electrons of a multiplicity 2S + 1; 0, which is none, can only mean that all are paired."""
    unpaired = max(value - 1, 0)
    if value < 0 or (electrons - unpaired) % 2:
        raise InputError(
            f"{where}: `{key}={value}`, read as a multiplicity, means {unpaired} unpaired electrons, which does not "
            f"fit its {electrons} electrons; write unpaired_electrons=NUMBER, or mend its charge"
        )
    return unpaired


def _one(statements: Mapping[str, int], where: str) -> int | None:
    """The one value that all statements have; None where there is none.

    Raises:
        InputError: If they contradict each other.
    """
    if len(set(statements.values())) > 1:
        text = ", ".join(f"{name} {value:+d}" for name, value in statements.items())
        raise InputError(f"{where}: its statements contradict each other: {text}")
    return next(iter(statements.values()), None)
