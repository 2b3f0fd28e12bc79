"""Charge and spin that a structure file states, under the names that programs use.

Every statement is either used, or refused with a message that says what to write instead. Some names have different
meanings in different programs. They are read in their most common meaning, and their values are checked against the
number of electrons.
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
"""Names of the total charge, in lower case, with underscores for spaces and hyphens."""
MULTIPLICITY_NAMES = frozenset(
    {"multiplicity", "mult", "spin_multiplicity", "spinmultiplicity", "spin", "total_spin", "totalspin"}
)
"""Names of the multiplicity 2S + 1. `spin` and `total_spin` are among them, as in OMol25 and MACE."""
UNPAIRED_NAMES = frozenset(
    {"unpaired_electrons", "n_unpaired", "nunpaired", "unpaired", "n_unpaired_electrons", "num_unpaired", "uhf"}
)
"""Names of the number of unpaired electrons."""
SUSPECT = re.compile(r"charge|multiplicity|spin|unpaired|^q$|^qtot$|^mult$")
"""Pattern of other names that may mean a charge or a spin. A non-zero number under such a name is refused."""
WHOLE = 0.05
"""Tolerance within which a sum of atomic charges (e) or of magnetic moments (Bohr magnetons) counts as an integer."""


@dataclass(frozen=True, slots=True)
class Stated:
    """Charge and spin that a file states for a structure.

    Attributes:
        charge: Total charge, e; None if the file does not state it.
        unpaired_electrons: Number of unpaired electrons; None if the file does not state it.
    """

    charge: int | None = None
    unpaired_electrons: int | None = None


def stated_charge_and_spin(
    info: Mapping[str, Any], atom_charges: Mapping[str, Any], magnetic_moments: Any, *, numbers: IntArray, where: str
) -> Stated:
    """Collect the charge and spin stated with a structure.

    Args:
        info: Values by name from the structure's file (`ase.Atoms.info`, parameters of the calculation).
        atom_charges: Columns of atomic charges by name, in e, each of shape (N,).
        magnetic_moments: Magnetic moments of the atoms in Bohr magnetons, shape (N,), or None.
        numbers: Atomic numbers, shape (N,).
        where: Name of the structure in messages.

    Returns:
        The stated charge and spin.

    Raises:
        InputError: If a statement is not an integer, contradicts another statement or the number of electrons, or has
            an ambiguous name.
    """
    statements = _by_name(info, where)
    charges = {**statements["charge"], **_sums_of(atom_charges, where, always=bool(statements["charge"]))}
    charge = _common_value(charges, where, signed=True)
    electrons = int(np.sum(numbers)) - (charge or 0)
    unpaired = dict(statements["unpaired_electrons"])
    for key, value in statements["multiplicity"].items():
        unpaired[key] = _unpaired_of(key, value, electrons, where)
    if not unpaired and magnetic_moments is not None:
        unpaired = _sum_of_moments(magnetic_moments, electrons, where)
    return Stated(charge, _common_value(unpaired, where, signed=False))


NAMES = {"charge": CHARGE_NAMES, "multiplicity": MULTIPLICITY_NAMES, "unpaired_electrons": UNPAIRED_NAMES}
"""Names in files by the quantity that they mean."""


def _by_name(info: Mapping[str, Any], where: str) -> dict[str, dict[str, int]]:
    """The stated values for each quantity of `NAMES`, by the name in the file.

    Raises:
        InputError: If a value is not an integer, or a name is ambiguous.
    """
    statements: dict[str, dict[str, int]] = {quantity: {} for quantity in NAMES}
    for key, value in info.items():
        name = str(key).strip().partition(":")[0].lower().replace("-", "_").replace(" ", "_")
        quantity = next((quantity for quantity, names in NAMES.items() if name in names), None)
        if quantity is not None:
            statements[quantity][str(key)] = _whole(key, value, where, name=quantity)
        elif SUSPECT.search(name) and _is_number(value) and float(value) != 0.0:
            raise InputError(
                f"{where}: `{key}={value}` may be a charge or a spin; write it as charge=, multiplicity= or "
                "unpaired_electrons=, or remove it"
            )
    return statements


def _sums_of(columns: Mapping[str, Any], where: str, *, always: bool) -> dict[str, int]:
    """The sum of each column of atomic charges, e, by a name for messages.

    A sum of 0 is left out unless `always` is set, because it does not always mean that the structure is neutral.

    Raises:
        InputError: If a sum is not near an integer.
    """
    sums = {}
    for column, values in columns.items():
        total = float(np.sum(np.asarray(values, dtype=np.float64)))
        if abs(total - round(total)) > WHOLE:
            raise InputError(
                f"{where}: its `{column}` add up to {total:+.3f} e, which is not an integer; correct or remove that "
                "column"
            )
        if round(total) or always:
            sums[f"sum of {column}"] = round(total)
    return sums


def _sum_of_moments(moments: Any, electrons: int, where: str) -> dict[str, int]:
    """The number of unpaired electrons from magnetic moments, by a name for messages; empty if the sum is 0.

    Raises:
        InputError: If the sum is not near an integer, or does not fit the number of electrons.
    """
    total = abs(float(np.sum(np.asarray(moments, dtype=np.float64))))
    if abs(total - round(total)) > WHOLE:
        raise InputError(
            f"{where}: its magnetic moments add up to {total:.3f}, which is not an integer number of unpaired "
            "electrons; correct or remove them"
        )
    if (electrons - round(total)) % 2 and round(total):
        raise InputError(
            f"{where}: its magnetic moments add up to {total:g}, which does not fit its {electrons} electrons; write "
            "unpaired_electrons=NUMBER, or correct its charge or the moments"
        )
    return {"sum of magnetic moments": round(total)} if round(total) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _whole(key: Any, value: Any, where: str, *, name: str) -> int:
    """The value of a statement as an integer.

    Raises:
        InputError: If the value is not an integer.
    """
    if isinstance(value, bool | np.bool_):  # ASE gives True for a name without a value
        raise InputError(f"{where}: `{key}` has no value that can be read; write {name}=NUMBER")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{where}: `{key}={value}` is not a number; write {name}=NUMBER") from None
    if not np.isfinite(number) or number != round(number):
        raise InputError(f"{where}: `{key}={value}` is not an integer; write {name}=NUMBER")
    return round(number)


def _unpaired_of(key: str, value: int, electrons: int, where: str) -> int:
    """Number of unpaired electrons for a multiplicity 2S + 1. The invalid multiplicity 0 counts as 1: all paired.

    Raises:
        InputError: If the number does not fit the number of electrons.
    """
    unpaired = max(value - 1, 0)
    if value < 0 or (electrons - unpaired) % 2:
        raise InputError(
            f"{where}: `{key}={value}`, read as a multiplicity, means {unpaired} unpaired electrons, which does not "
            f"fit its {electrons} electrons; write unpaired_electrons=NUMBER, or correct its charge"
        )
    return unpaired


def _common_value(statements: Mapping[str, int], where: str, *, signed: bool) -> int | None:
    """The value on which all statements agree; None without statements.

    Raises:
        InputError: If the statements contradict each other.
    """
    if len(set(statements.values())) > 1:
        text = ", ".join(f"{name} {value:{'+d' if signed else 'd'}}" for name, value in statements.items())
        raise InputError(f"{where}: its statements contradict each other: {text}; keep the right one")
    return next(iter(statements.values()), None)
