"""Passing a frame's charge and unpaired electrons to an ASE calculator, in its parameters or on the `ase.Atoms`.

A neutral frame without unpaired electrons needs nothing. For any other frame, either the way is known (`facts`), or the
user names it (`labels.ase_charge_and_spin`), or the frame is refused. Without this check, a calculator would silently
label the neutral closed shell instead.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import JsonValue

from al_engine.errors import InputError
from al_engine.structures.frames import BoolArray, FloatArray, Frame
from labelers.backends.ase.facts import UNKNOWN, Facts

Way = Literal["auto", "atoms", "parameters"]
Parameters = dict[str, Any]

KEY = "labels.ase_charge_and_spin"
"""The config key of the way, for messages."""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_SHARES = 2**20
"""Each atom's share of a charge or moment is a multiple of 1 / _SHARES, so that the floating-point sum is exact.

NWChem truncates the sum of the moments to an integer, and in floating point seven times 1/7 is less than 1.
"""
_BLOCKS_D_AND_F = ((21, 30), (39, 48), (57, 80), (89, 112))
"""First and last atomic numbers of the rows of the d and f blocks."""
_HYDROGEN = 1


@dataclass(frozen=True, slots=True)
class ChargeAndSpin:
    """The way in which a calculator receives charge and spin.

    Attributes:
        name: The calculator, as in `labels.ase_calculator`.
        facts: Known facts about the calculator; None if it has no row.
        way: Value of `labels.ase_charge_and_spin`.
        parameters: Value of `labels.ase_parameters`, without `directory`.
    """

    name: str
    facts: Facts | None
    way: Way
    parameters: Mapping[str, Any]

    def refuse_way(self) -> None:
        """Refuse the way `atoms` for a calculator that is known to take charge or spin from its parameters.

        Raises:
            InputError: If the way is `atoms` and the calculator takes charge or spin from its parameters.
        """
        facts = self.facts
        if self.way == "atoms" and facts is not None and facts.given:
            keys = ", ".join(f"`{_dotted(key)}`" for key in facts.given)
            raise InputError(
                f"{KEY} is `atoms`, but '{self.name}' takes {keys} from its parameters and ignores ASE's atoms; set it "
                "to `auto`, which fills them in"
            )

    def parameters_for(self, frame: Frame) -> Parameters:
        """The calculator's parameters for a frame: the user's parameters, completed with the frame's charge and spin.

        Raises:
            InputError: If no way is known to pass charge or spin, or the user's parameters contradict the frame.
        """
        parameters = deepcopy(dict(self.parameters))  # some calculators change nested parameters
        if self.way == "parameters":
            return parameters
        facts = self.facts or UNKNOWN
        stated = self._stated_by_user(frame, facts)
        if self.way == "atoms":
            return parameters
        if (frame.charge and not facts.takes_charge) or (frame.unpaired_electrons and not facts.takes_spin):
            raise InputError(self._no_known_way(frame, facts))
        if facts.most_unpaired is not None and frame.unpaired_electrons > facts.most_unpaired:
            raise InputError(
                f"ASE can pass at most {facts.most_unpaired} unpaired electrons to '{self.name}', but the labelled "
                f"frames have {frame.unpaired_electrons}; write them into labels.ase_parameters, and set {KEY} to "
                "`parameters`"
            )
        for key, quantity in facts.given.items():
            wanted = frame.charge if quantity.is_charge else frame.unpaired_electrons
            if key in stated or (wanted and quantity.is_charge not in stated.values()):
                _put(parameters, key, quantity.of(frame.charge, frame.unpaired_electrons))
        if frame.unpaired_electrons:
            self._open_shell(parameters, facts)
        else:
            for key, value in facts.closed_shell.items():
                _put(parameters, key, _get(parameters, key, default=value))
        return parameters

    def _stated_by_user(self, frame: Frame, facts: Facts) -> dict[str, bool]:
        """The user's keys that already state the charge (True) or the spin (False).

        Raises:
            InputError: If a key contradicts the frame.
        """
        stated = {}
        for key, quantity in {**facts.given, **facts.also}.items():
            got = _get(self.parameters, key)
            if got is None:
                continue
            wanted = quantity.of(frame.charge, frame.unpaired_electrons)
            if _numbers(got) != _numbers(wanted):
                has = (
                    f"charge {frame.charge:+d} (system.charge)"
                    if quantity.is_charge
                    else f"{frame.unpaired_electrons} unpaired electrons (system.unpaired_electrons)"
                )
                raise InputError(
                    f"labels.ase_parameters.{_dotted(key)} is {got!r}, but the labelled frames have {has}, for which "
                    f"it would be {wanted!r}; make them agree, or remove {_dotted(key)}"
                    + (f"; to keep your value, set {KEY} to `parameters`" if self.way == "auto" else "")
                )
            stated[key] = quantity.is_charge
        return stated

    def _open_shell(self, parameters: Parameters, facts: Facts) -> None:
        """Set the parameters that unpaired electrons need; raise `InputError` if the user's values exclude them."""
        for key, (value, *wrong) in facts.open_shell.items():
            got = _get(parameters, key)
            if got is not None and any(_plain(got) == _plain(other) for other in wrong):
                raise InputError(
                    f"labels.ase_parameters.{_dotted(key)} is {got!r}, which leaves no electron unpaired, but "
                    f"system.unpaired_electrons is not 0; set it to {value!r} or remove it; to keep your value, set "
                    f"{KEY} to `parameters`"
                )
            _put(parameters, key, value if got is None else got)

    def _no_known_way(self, frame: Frame, facts: Facts) -> str:
        """The message for a frame whose charge or spin can't be passed to the calculator in any known way."""
        parts = [f"charge {frame.charge:+d}"] if frame.charge and not facts.takes_charge else []
        if frame.unpaired_electrons and not facts.takes_spin:
            parts.append(f"{frame.unpaired_electrons} unpaired electron{'s' if frame.unpaired_electrons > 1 else ''}")
        return (
            f"{' and '.join(parts)}: no way is known to pass this to '{self.name}', which would label the neutral "
            f"closed shell instead. If '{self.name}' reads charge and spin from ASE's atoms, set {KEY} to `atoms`; if "
            "you write them into labels.ase_parameters, or the calculator does not depend on them, set it to "
            "`parameters`"
        )

    def mark(self, atoms: Any, frame: Frame) -> None:
        """Set the charge and spin that the calculator reads from `ase.Atoms`: initial charges, moments and `info`."""
        facts = self.facts or UNKNOWN
        from_atoms = self.way == "atoms"
        if frame.charge and (from_atoms or (self.way == "auto" and facts.charges)):
            atoms.set_initial_charges(spread(frame.charge, np.ones(len(frame), dtype=bool)))
        if frame.unpaired_electrons and (from_atoms or (self.way == "auto" and facts.moments)):
            atoms.set_initial_magnetic_moments(spread(frame.unpaired_electrons, magnetic_atoms(frame)))
        if from_atoms:  # FAIRChem's and MACE's models with charge and spin read `info`
            atoms.info["charge"], atoms.info["spin"] = frame.charge, frame.unpaired_electrons + 1


def magnetic_atoms(frame: Frame) -> BoolArray:
    """The atoms that get an initial magnetic moment, as a mask of shape (N,), bool.

    These are the atoms of d- and f-block elements. A frame without such atoms has moments on all atoms except hydrogen,
    and a frame of hydrogen only on all atoms.
    """
    numbers = frame.numbers
    metals: BoolArray = np.any([(first <= numbers) & (numbers <= last) for first, last in _BLOCKS_D_AND_F], axis=0)
    heavy: BoolArray = numbers != _HYDROGEN
    if metals.any():
        return metals
    return heavy if heavy.any() else ~heavy


def spread(total: int, atoms: BoolArray) -> FloatArray:
    """Distribute an integer over atoms as evenly as possible, with a floating-point sum that is exact in any order.

    Args:
        total: The integer.
        atoms: Mask of the atoms, shape (N,), bool, with at least one True.

    Returns:
        Each atom's share, shape (N,).
    """
    indices = np.flatnonzero(atoms)
    shares = np.zeros(len(atoms))
    shares[indices] = np.round(total / len(indices) * _SHARES) / _SHARES
    shares[indices[0]] += total - shares.sum()
    return shares


# -- nested parameters -----------------------------------------------------------------------------------------------


def _dotted(key: str) -> str:
    """A nested key with `.` between the levels, for messages."""
    return key.replace("/", ".")


def _own_spelling(section: Mapping[str, Any], key: str) -> str:
    """The key in the section's own spelling: Fortran namelists, for example, ignore upper and lower case."""
    return next((own for own in section if isinstance(own, str) and own.lower() == key.lower()), key)


def _sections(parameters: Mapping[str, Any], keys: list[str]) -> Iterator[Mapping[str, Any]]:
    """The nested sections along a path of keys, as far as they exist."""
    section: Any = parameters
    for key in keys:
        if not isinstance(section, Mapping):
            return
        yield section
        section = section.get(_own_spelling(section, key))


def _get(parameters: Mapping[str, Any], key: str, default: JsonValue = None) -> Any:
    """The value of a nested key; the default if the key is missing or None."""
    keys = key.split("/")
    sections = list(_sections(parameters, keys))
    value = sections[-1].get(_own_spelling(sections[-1], keys[-1])) if len(sections) == len(keys) else None
    return default if value is None else value


def _put(parameters: Parameters, key: str, value: Any) -> None:
    """Set the value of a nested key, and create missing sections."""
    *outer, last = key.split("/")
    section = parameters
    for name in outer:
        own = _own_spelling(section, name)
        if not isinstance(section.get(own), dict):
            section[own] = {}
        section = section[own]
    section[last] = value


def _plain(value: Any) -> Any:
    """A string in lower case; any other value unchanged."""
    return value.lower() if isinstance(value, str) else value


def _numbers(value: Any) -> Any:
    """The numbers in a value as a tuple, whatever their spelling; a string without numbers in lower case."""
    if isinstance(value, str):
        return tuple(float(number) for number in _NUMBER.findall(value)) or value.lower()
    if isinstance(value, list | tuple):
        return tuple(value)
    return (value,)
