"""Table of facts about ASE's calculators: how each takes charge and spin, where it writes files, what else it needs.

The table has a row per calculator, from the sources of ASE 3.29 and the manuals of the programs. A calculator without a
row is treated as `UNKNOWN`. The row of a program that takes the total charge but no total spin through ASE (Octopus)
has only the charge. Classical potentials take neither; they have a row only for other facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import JsonValue


class Quantity(StrEnum):
    """The meaning of a calculator's parameter."""

    CHARGE = "the total charge in e"
    EXCESS_ELECTRONS = "the total charge in electrons"
    MULTIPLICITY = "the multiplicity"
    UNPAIRED = "the number of unpaired electrons"
    SPIN_VECTOR = "the total moment as a vector"
    DFTB_SPIN = "DFTB+'s spin polarisation with the number of unpaired electrons"

    @property
    def is_charge(self) -> bool:
        """Whether the quantity is a charge; otherwise it is a spin."""
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
    """The way in which a calculator receives the folder for its files."""

    ATTRIBUTE = "attribute"
    """Through its attribute `directory`, or the argument `directory` if its class names that argument."""
    KEYWORD = "keyword"
    """Only through the keyword argument `directory`, which the signature of its class does not name."""
    OWN = "own"
    """It receives no folder, and makes a temporary folder for each calculation."""
    CURRENT = "current"
    """It receives no folder, and writes into the current folder."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Known facts about a calculator. Keys of nested parameters have `/` between the levels.

    Attributes:
        given: Keys that al-engine sets for a charge or unpaired electrons, and the meaning of each.
        also: Other keys that state charge or spin: al-engine compares them with the frame, but never sets them.
        open_shell: Further keys that unpaired electrons need. Of each tuple, the first value is set if the user gives
            none; the other values are refused.
        closed_shell: Keys and values to set for frames without unpaired electrons, if the user gives no value.
        charges: Whether the calculator takes the total charge from ASE's initial charges.
        moments: Whether it reads ASE's initial magnetic moments, as the total spin or as a starting guess.
        most_unpaired: Largest number of unpaired electrons that ASE's interface can pass on; None: no limit.
        needs_cell: Whether it can calculate only in a periodic cell.
        folder: The way in which it receives the folder for its files.
        smeared: Whether its free energy can differ from its energy.
        keys: All keys that have an effect, if ASE silently accepts others; None: unknown.
        asks_forces: If ASE does not ask the program for forces: the key that must ask, then the words that do so.
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
        """Whether a way is known to pass the total charge to the calculator."""
        return self.charges or any(quantity.is_charge for quantity in self.given.values())

    @property
    def takes_spin(self) -> bool:
        """Whether a way is known to pass the number of unpaired electrons to the calculator."""
        return self.moments or any(not quantity.is_charge for quantity in self.given.values())


_CHARGE, _MULTIPLICITY, _UNPAIRED = Quantity.CHARGE, Quantity.MULTIPLICITY, Quantity.UNPAIRED

UNKNOWN = Facts(also={"charge": _CHARGE, "total_charge": _CHARGE, "mult": _MULTIPLICITY, "multiplicity": _MULTIPLICITY})
"""Facts about a calculator without a row: al-engine sets nothing, but these keys must not contradict the frame."""

FACTS: Mapping[str, Facts] = {
    "abinit": Facts(  # the key of the charge depends on Abinit's version
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
    "castep": Facts(also={"charge": _CHARGE}, needs_cell=True, smeared=True),  # CASTEP may drop keywords with a warning
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
        closed_shell={"reference": "rhf"},  # Psi4 keeps its options: `uhf` may remain from the previous frame
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
    # -- calculators without electrons, or without a way to pass charge and spin ----------------------------------
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
"""Facts by ASE's name of the calculator (its module in `ase.calculators`), else by the module of its class."""


def facts_of(name: str, calculator: Any) -> Facts | None:
    """Find the row of a calculator, else the row of the nearest base class.

    Args:
        name: The calculator, as in `labels.ase_calculator`.
        calculator: Its class, or a function that makes a calculator.

    Returns:
        The row; None if neither the calculator nor a base class has a row.
    """
    modules = [base.__module__ for base in getattr(calculator, "__mro__", ())]
    for key in (name, *map(_row_name, modules)):
        if key in FACTS:
            return FACTS[key]
    return None


def _row_name(module: str) -> str:
    """The row name of a module: `vasp` for `ase.calculators.vasp.vasp`; modules outside of ASE keep their name."""
    return module.split(".")[2] if module.startswith("ase.calculators.") else module
