"""A frame's charge and unpaired electrons, told to an ASE calculator: in its parameters or on ASE's atoms.

A frame without charge and unpaired electrons needs nothing. For any other the way is known (`facts`), or the user says
it (`labels.ase_charge_and_spin`), or the frame is refused: a calculator that is not told labels a neutral closed shell
without a word.
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
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_SHARES = 2**20
"""Shares of an electron are whole multiples of its inverse, so that their floating-point sum is exact: NWChem cuts the
sum of the moments down to a whole number, and seven times a seventh is less than one."""
_BLOCKS_D_AND_F = ((21, 30), (39, 48), (57, 80), (89, 112))
_HYDROGEN = 1


@dataclass(frozen=True, slots=True)
class ChargeAndSpin:
    """How one calculator is told charge and spin.

    Attributes:
        name: The calculator, as in `labels.ase_calculator`.
        facts: What is known of it; None if nothing is.
        way: `labels.ase_charge_and_spin`.
        parameters: `labels.ase_parameters`.
    """

    name: str
    facts: Facts | None
    way: Way
    parameters: Mapping[str, Any]

    def refuse_way(self) -> None:
        """Refuse a way that the calculator is known not to have.

        Raises:
            InputError: If it should read from atoms what it takes from its parameters.
        """
        facts = self.facts
        if self.way == "atoms" and facts is not None and facts.given:
            keys = ", ".join(f"`{_dotted(key)}`" for key in facts.given)
            raise InputError(
                f"{KEY} is `atoms`, but '{self.name}' takes {keys} from its parameters, whatever ASE's atoms say; set "
                "it to `auto`, which fills them in"
            )

    def parameters_for(self, frame: Frame) -> Parameters:
        """The calculator's parameters for a frame: the user's with what the frame needs.

        Raises:
            InputError: If it can't be told, or the user's parameters contradict.
        """
        parameters = deepcopy(dict(self.parameters))  # nested ones are changed by some calculators
        if self.way == "parameters":
            return parameters
        facts = self.facts or UNKNOWN
        said = self._said(frame, facts)
        if self.way == "atoms":
            return parameters
        if (frame.charge and not facts.takes_charge) or (frame.unpaired_electrons and not facts.takes_spin):
            raise InputError(self._untold(frame, facts))
        if facts.most_unpaired is not None and frame.unpaired_electrons > facts.most_unpaired:
            raise InputError(
                f"'{self.name}' can be told {facts.most_unpaired} unpaired electrons at most through ASE, and what is "
                f"labelled has {frame.unpaired_electrons}; say them in labels.ase_parameters and set {KEY} to "
                "`parameters`"
            )
        for key, quantity in facts.given.items():
            wanted = frame.charge if quantity.is_charge else frame.unpaired_electrons
            if key in said or (wanted and quantity.is_charge not in said.values()):
                _put(parameters, key, quantity.of(frame.charge, frame.unpaired_electrons))
        if frame.unpaired_electrons:
            self._open_shell(parameters, facts)
        else:
            for key, value in facts.closed_shell.items():
                _put(parameters, key, _get(parameters, key, default=value))
        return parameters

    def _said(self, frame: Frame, facts: Facts) -> dict[str, bool]:
        """The user's keys that say the charge (True) or the spin (False) already, all of them rightly."""
        said = {}
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
                    f"labels.ase_parameters.{_dotted(key)} is {got!r}, but what is labelled has {has}, for which it "
                    f"would be {wanted!r}; make them agree, or leave {_dotted(key)} out"
                    + (f"; if it is meant so, set {KEY} to `parameters`" if self.way == "auto" else "")
                )
            said[key] = quantity.is_charge
        return said

    def _open_shell(self, parameters: Parameters, facts: Facts) -> None:
        for key, (value, *wrong) in facts.open_shell.items():
            got = _get(parameters, key)
            if got is not None and any(_plain(got) == _plain(other) for other in wrong):
                raise InputError(
                    f"labels.ase_parameters.{_dotted(key)} is {got!r}, which leaves no electron unpaired, but "
                    f"system.unpaired_electrons is not 0; make it {value!r}, leave it out, or, if it is meant so, set "
                    f"{KEY} to `parameters`"
                )
            _put(parameters, key, value if got is None else got)

    def _untold(self, frame: Frame, facts: Facts) -> str:
        """Why a frame can't be labelled: there is no known way to tell the calculator."""
        parts = [f"charge {frame.charge:+d}"] if frame.charge and not facts.takes_charge else []
        if frame.unpaired_electrons and not facts.takes_spin:
            parts.append(f"{frame.unpaired_electrons} unpaired electron{'s' if frame.unpaired_electrons > 1 else ''}")
        return (
            f"{' and '.join(parts)}: no way is known to tell '{self.name}', which would label the frame without. If it "
            f"reads them from ASE's atoms, set {KEY} to `atoms`; if they stand in labels.ase_parameters, or mean "
            "nothing to it, to `parameters`"
        )

    def mark(self, atoms: Any, frame: Frame) -> None:
        """Set what the calculator reads from `ase.Atoms`: initial charges, magnetic moments, `info` for newer ones."""
        facts = self.facts or UNKNOWN
        from_atoms = self.way == "atoms"
        if frame.charge and (from_atoms or (self.way == "auto" and facts.charges)):
            atoms.set_initial_charges(spread(frame.charge, np.ones(len(frame), dtype=bool)))
        if frame.unpaired_electrons and (from_atoms or (self.way == "auto" and facts.moments)):
            atoms.set_initial_magnetic_moments(spread(frame.unpaired_electrons, magnetic_atoms(frame)))
        if from_atoms:  # where FAIRChem's and MACE's models with charge and spin look
            atoms.info["charge"], atoms.info["spin"] = frame.charge, frame.unpaired_electrons + 1


def magnetic_atoms(frame: Frame) -> BoolArray:
    """Which atoms unpaired electrons are put on to start from, shape (N,), bool.

    The d and f elements if there are any, else all atoms but hydrogen, else all.
    """
    numbers = frame.numbers
    metals: BoolArray = np.any([(first <= numbers) & (numbers <= last) for first, last in _BLOCKS_D_AND_F], axis=0)
    heavy: BoolArray = numbers != _HYDROGEN
    if metals.any():
        return metals
    return heavy if heavy.any() else ~heavy


def spread(total: int, atoms: BoolArray) -> FloatArray:
    """A whole number over some atoms as evenly as can be, with a floating-point sum that is exact in any order.

    Args:
        total: The number.
        atoms: Which atoms, shape (N,), bool, one at least.

    Returns:
        Each atom's share, shape (N,).
    """
    places = np.flatnonzero(atoms)
    shares = np.zeros(len(atoms))
    shares[places] = np.round(total / len(places) * _SHARES) / _SHARES
    shares[places[0]] += total - shares.sum()
    return shares


# -- nested parameters -----------------------------------------------------------------------------------------------


def _dotted(key: str) -> str:
    return key.replace("/", ".")


def _own_spelling(section: Mapping[str, Any], key: str) -> str:
    """The key as the section has it: namelists and the like take any case."""
    return next((own for own in section if isinstance(own, str) and own.lower() == key.lower()), key)


def _sections(parameters: Mapping[str, Any], keys: list[str]) -> Iterator[Mapping[str, Any]]:
    """The nested sections that keys lead through, as far as they are there."""
    section: Any = parameters
    for key in keys:
        if not isinstance(section, Mapping):
            return
        yield section
        section = section.get(_own_spelling(section, key))


def _get(parameters: Mapping[str, Any], key: str, default: JsonValue = None) -> Any:
    keys = key.split("/")
    sections = list(_sections(parameters, keys))
    value = sections[-1].get(_own_spelling(sections[-1], keys[-1])) if len(sections) == len(keys) else None
    return default if value is None else value


def _put(parameters: Parameters, key: str, value: Any) -> None:
    *outer, last = key.split("/")
    section = parameters
    for name in outer:
        own = _own_spelling(section, name)
        if not isinstance(section.get(own), dict):
            section[own] = {}
        section = section[own]
    section[last] = value


def _plain(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _numbers(value: Any) -> Any:
    """What two ways to write the same number have in common: the numbers in it."""
    if isinstance(value, str):
        return tuple(float(number) for number in _NUMBER.findall(value)) or value.lower()
    if isinstance(value, list | tuple):
        return tuple(value)
    return (value,)
