"""What is known of ASE's calculators: how each takes charge and spin, where it writes its files, what it needs.

One row per calculator, read from the sources of ASE 3.29 and the manuals of the programs. A calculator without a row is
treated as `UNKNOWN`. A program that takes the total charge but no total spin through ASE (Octopus) has a row for the
charge alone. Classical potentials have no row: they know neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import JsonValue


class Quantity(StrEnum):
    """What a parameter of a calculator says."""

    CHARGE = "the total charge in e"
    EXCESS_ELECTRONS = "the total charge in electrons"
    MULTIPLICITY = "the multiplicity"
    UNPAIRED = "the number of unpaired electrons"
    SPIN_VECTOR = "the total moment as a vector"
    DFTB_SPIN = "DFTB+'s spin polarisation with the number of unpaired electrons"

    @property
    def is_charge(self) -> bool:
        """Whether it is about the charge; else about the spin."""
        return self in {Quantity.CHARGE, Quantity.EXCESS_ELECTRONS}

    def of(self, charge: int, unpaired_electrons: int) -> JsonValue:
        """The parameter's value for a total charge (e) and a number of unpaired electrons."""
        values: dict[Quantity, JsonValue] = {
            Quantity.CHARGE: charge,
            Quantity.EXCESS_ELECTRONS: -charge,
            Quantity.MULTIPLICITY: unpaired_electrons + 1,
            Quantity.UNPAIRED: unpaired_electrons,
            Quantity.SPIN_VECTOR: [0, 0, unpaired_electrons],
            Quantity.DFTB_SPIN: f"Colinear {{UnpairedElectrons = {unpaired_electrons}}}",
        }
        return values[self]


class Folder(StrEnum):
    """How a calculator is told where to write."""

    ATTRIBUTE = "attribute"
    """By its attribute `directory`, or by the keyword if its class names it."""
    KEYWORD = "keyword"
    """By the keyword `directory` alone, which its class does not name."""
    OWN = "own"
    """Not at all: it makes a temporary folder for every calculation."""
    CURRENT = "current"
    """Not at all: it writes into the folder that al-engine was started in."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one calculator. Keys of its parameters have `/` between the levels of nested ones.

    Attributes:
        given: Keys that are written for a charge or unpaired electrons, and what each says.
        also: Other keys that say the same: looked at, never written.
        open_shell: What else unpaired electrons need: the value that is written where the user has none, then values of
            the user's that can't be right.
        closed_shell: What is written without unpaired electrons where the user has no value.
        charges: Whether it takes the total charge from ASE's initial charges.
        moments: Whether it reads ASE's initial magnetic moments, as the total spin or as a start.
        most_unpaired: Largest number of unpaired electrons that ASE's interface can say.
        needs_cell: Whether it has no way to calculate without a periodic cell.
        folder: How it is told where to write.
        smeared: Whether its free energy can be another number than its energy.
        keys: All keys that have an effect, where ASE takes others without a word.
        asks_forces: Where ASE does not ask the program for forces: the key that must, and the words that do.
    """

    given: Mapping[str, Quantity] = field(default_factory=dict)
    also: Mapping[str, Quantity] = field(default_factory=dict)
    open_shell: Mapping[str, tuple[JsonValue, ...]] = field(default_factory=dict)
    closed_shell: Mapping[str, JsonValue] = field(default_factory=dict)
    charges: bool = False
    moments: bool = False
    most_unpaired: int | None = None
    needs_cell: bool = False
    folder: Folder = Folder.ATTRIBUTE
    smeared: bool = False
    keys: frozenset[str] | None = None
    asks_forces: tuple[str, ...] = ()

    @property
    def takes_charge(self) -> bool:
        """Whether there is a way to tell it the total charge."""
        return self.charges or any(quantity.is_charge for quantity in self.given.values())

    @property
    def takes_spin(self) -> bool:
        """Whether there is a way to tell it the number of unpaired electrons."""
        return self.moments or any(not quantity.is_charge for quantity in self.given.values())


_CHARGE, _MULTIPLICITY, _UNPAIRED = Quantity.CHARGE, Quantity.MULTIPLICITY, Quantity.UNPAIRED

UNKNOWN = Facts(also={"charge": _CHARGE, "total_charge": _CHARGE, "mult": _MULTIPLICITY, "multiplicity": _MULTIPLICITY})
"""Of a calculator without a row: no way to give it anything, but these keys of its parameters must not contradict."""

FACTS: Mapping[str, Facts] = {
    "abinit": Facts(  # the charge's key depends on Abinit's version
        given={"spinmagntarget": _UNPAIRED},
        also={"charge": _CHARGE, "cellcharge": _CHARGE},
        moments=True,
        needs_cell=True,
    ),
    "aims": Facts(
        given={"charge": _CHARGE, "fixed_spin_moment": _UNPAIRED},
        also={"multiplicity": _MULTIPLICITY},
        open_shell={"spin": ("collinear", "none")},
        moments=True,
    ),
    "castep": Facts(also={"charge": _CHARGE}, needs_cell=True, smeared=True),  # it may drop keywords with a warning
    "cp2k": Facts(
        given={"charge": _CHARGE, "multiplicity": _MULTIPLICITY}, open_shell={"uks": (True, False)}, needs_cell=True
    ),
    "demon": Facts(
        given={"input_arguments/CHARGE": _CHARGE, "input_arguments/MULTIPLICITY": _MULTIPLICITY},
        open_shell={"scftype": ("UKS", "RKS")},
    ),
    "demonnano": Facts(given={"input_arguments/CHARGE": _CHARGE}),
    "dftb": Facts(
        given={"Hamiltonian_Charge": _CHARGE, "Hamiltonian_SpinPolarisation": Quantity.DFTB_SPIN},
        also={"Hamiltonian_SpinPolarisation_UnpairedElectrons": _UNPAIRED},
    ),
    "dmol": Facts(given={"charge": _CHARGE}),
    "elk": Facts(
        given={"chgexs": Quantity.EXCESS_ELECTRONS, "momfix": Quantity.SPIN_VECTOR},
        open_shell={"spinpol": (True, False), "fsmtype": (1, 0)},
        moments=True,
        needs_cell=True,
    ),
    "espresso": Facts(
        given={"input_data/system/tot_charge": _CHARGE, "input_data/system/tot_magnetization": _UNPAIRED},
        also={
            "input_data/tot_charge": _CHARGE,
            "input_data/tot_magnetization": _UNPAIRED,
            "tot_charge": _CHARGE,
            "tot_magnetization": _UNPAIRED,
        },
        open_shell={"input_data/system/nspin": (2, 1)},
        moments=True,
        needs_cell=True,
    ),
    "exciting": Facts(given={"ground_state_input/chgexs": Quantity.EXCESS_ELECTRONS}, needs_cell=True),
    "gamess_us": Facts(
        given={"contrl/icharg": _CHARGE, "contrl/mult": _MULTIPLICITY},
        open_shell={"contrl/scftyp": ("uhf", "rhf")},
    ),
    "gaussian": Facts(charges=True, moments=True, also={"charge": _CHARGE, "mult": _MULTIPLICITY}),
    "gpaw": Facts(given={"charge": _CHARGE}, moments=True, smeared=True),
    "mopac": Facts(charges=True, moments=True, also={"charge": _CHARGE}, most_unpaired=4),
    "nwchem": Facts(
        given={"charge": _CHARGE},
        also={"dft/mult": _MULTIPLICITY, "nwpw/mult": _MULTIPLICITY, "scf/nopen": _UNPAIRED},
        moments=True,
    ),
    "octopus": Facts(given={"ExcessCharge": _CHARGE}, smeared=True),
    "onetep": Facts(given={"keywords/charge": _CHARGE}),
    "orca": Facts(
        given={"charge": _CHARGE, "mult": _MULTIPLICITY},
        keys=frozenset({"charge", "mult", "orcasimpleinput", "orcablocks"}),
        asks_forces=("orcasimpleinput", "EnGrad", "NumGrad"),
    ),
    "psi4": Facts(
        given={"charge": _CHARGE, "multiplicity": _MULTIPLICITY},
        open_shell={"reference": ("uhf", "rhf", "rks")},
        closed_shell={"reference": "rhf"},  # Psi4's options outlive a calculator: the frame before may have set `uhf`
    ),
    "qchem": Facts(given={"charge": _CHARGE, "multiplicity": _MULTIPLICITY}),
    "siesta": Facts(
        given={"fdf_arguments/NetCharge": _CHARGE, "fdf_arguments/Spin.Total": _UNPAIRED},
        open_shell={"spin": ("collinear", "non-polarized", "UNPOLARIZED"), "fdf_arguments/Spin.Fix": (True, False)},
        moments=True,
        smeared=True,
    ),
    "tblite.ase": Facts(charges=True, moments=True, also={"charge": _CHARGE, "multiplicity": _MULTIPLICITY}),
    "vasp": Facts(
        given={"charge": _CHARGE, "nupdown": _UNPAIRED},
        open_shell={"ispin": (2, 1)},
        moments=True,
        needs_cell=True,
        smeared=True,
    ),
    "xtb.ase.calculator": Facts(charges=True, moments=True),
    # -- without electrons, or without a way to tell it of them ---------------------------------------------------
    "amber": Facts(folder=Folder.CURRENT),
    "dftd3": Facts(folder=Folder.KEYWORD),
    "emt": Facts(keys=frozenset({"asap_cutoff"})),
    "gromacs": Facts(folder=Folder.CURRENT),
    "lammpsrun": Facts(folder=Folder.OWN),
    "lj": Facts(keys=frozenset({"epsilon", "sigma", "rc", "ro", "smooth"})),
    "openmx": Facts(folder=Folder.CURRENT),
    "morse": Facts(keys=frozenset({"epsilon", "rho0", "r0", "rcut1", "rcut2"})),
    "turbomole": Facts(folder=Folder.CURRENT),
}
"""By the name ASE has for the calculator (its module in `ase.calculators`), else by the module of its class."""


def facts_of(name: str, calculator: Any) -> Facts | None:
    """The row of a calculator; that of the class it is derived from, if it has none; None if there is none at all.

    Args:
        name: As in `labels.ase_calculator`.
        calculator: Its class, or a function that makes one.
    """
    modules = [base.__module__ for base in getattr(calculator, "__mro__", ())]
    for key in (name, *map(_row_name, modules)):
        if key in FACTS:
            return FACTS[key]
    return None


def _row_name(module: str) -> str:
    """`orca` of `ase.calculators.orca`, `vasp` of `ase.calculators.vasp.vasp`; other modules as they are."""
    return module.split(".")[2] if module.startswith("ase.calculators.") else module
