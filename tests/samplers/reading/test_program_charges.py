"""Charge and multiplicity in input and output files of programs whose ASE reader drops them."""

import ase.io
import pytest
from ase import Atoms
from ase.db import connect

from al_engine.errors import InputError
from samplers.building.file_molecules import molecule_from_file
from samplers.reading.program_charges import charge_in_text
from samplers.reading.structure_files import read_structures

POSITIONS = [[0, 0, 0], [0.6, 0.6, 0.6], [-0.6, -0.6, 0.6], [-0.6, 0.6, -0.6], [0.6, -0.6, -0.6]]
AMMONIUM = Atoms("NH4", POSITIONS, cell=[12, 12, 12], pbc=True)
LATTICE = "\n".join(" ".join(map(str, row)) for row in AMMONIUM.cell.array)
SITES = "\n".join(f"{symbol} {x} {y} {z}" for symbol, (x, y, z) in zip("NHHHH", POSITIONS, strict=True))
BOHR_SITES = "\n".join(
    f"{x / 0.529177} {y / 0.529177} {z / 0.529177} {symbol}"
    for symbol, (x, y, z) in zip("nhhhh", POSITIONS, strict=True)
)
QUOTED_SITES = "\n".join(
    f' "{symbol}" | {x / 0.529177} | {y / 0.529177} | {z / 0.529177}'
    for symbol, (x, y, z) in zip("NHHHH", POSITIONS, strict=True)
)
QUANTUM_ESPRESSO = (
    "&control\n calculation='scf'\n/\n&system\n ibrav=0, nat=5, ntyp=2, ecutwfc=30{}\n/\n&electrons\n/\n"
    f"ATOMIC_SPECIES\nN 14.007 N.upf\nH 1.008 H.upf\nK_POINTS gamma\nCELL_PARAMETERS angstrom\n{LATTICE}\n"
    f"ATOMIC_POSITIONS angstrom\n{SITES}\n"
)
OCTOPUS = f"FromScratch = yes\n{{}}\n%Coordinates\n{QUOTED_SITES}\n%\nBoxShape = sphere\nRadius = 5\n"
TURBOMOLE = f"$coord\n{BOHR_SITES}\n$eht {{}}\n$end\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("in.pwi", QUANTUM_ESPRESSO.format(", tot_charge = 1.0"), 1),
        ("in.pwi", QUANTUM_ESPRESSO.format(",\n tot_charge=-1.d0 ! an anion"), -1),
        ("in.pwi", QUANTUM_ESPRESSO.format("\n ! tot_charge = 1.0"), None),
        ("inp", OCTOPUS.format("ExcessCharge = 1"), 1),
        ("coord", TURBOMOLE.format("charge=1 unpaired=0"), 1),
    ],
)
def test_charges_of_inputs(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    (structure,) = read_structures(tmp_path / name)
    assert structure.frame.to_atoms().get_chemical_formula() == "H4N"
    assert structure.stated.charge == expected


def test_a_fractional_charge_of_an_input_is_refused(tmp_path):
    (tmp_path / "in.pwi").write_text(QUANTUM_ESPRESSO.format(", tot_charge = 0.1"))
    with pytest.raises(InputError, match=r"`tot_charge=0.1` is not an integer"):
        read_structures(tmp_path / "in.pwi")


def test_a_charge_of_an_input_is_the_molecules(tmp_path):
    (tmp_path / "coord").write_text(TURBOMOLE.format("charge=1 unpaired=0"))
    found = molecule_from_file(tmp_path / "coord", charge=None, unpaired_electrons=None)
    assert (found.charge, found.formal_charge) == (1, 1)
    with pytest.raises(InputError, match=r"states charge \+1, .*system\.charge .* \+0"):
        molecule_from_file(tmp_path / "coord", charge=0, unpaired_electrons=None)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("nwchem-in", "title x\ncharge 1\nscf; doublet; nopen 1; end\n", {"charge": "1"}),
        ("abinit-in", "natom 5\ncharge 1.0  # e\n", {"charge": "1.0"}),
        ("cjson", '{"properties": {"totalCharge": 1, "totalSpinMultiplicity": 1}}', {"totalCharge": "1"}),
        ("dftb", "Hamiltonian = DFTB {\n  Charge = 1.0\n  SCC = Yes\n}\n", {"Charge": "1.0"}),
        ("cp2k-restart", "   &DFT\n     CHARGE  1\n     MULTIPLICITY  2\n", {"CHARGE": "1", "MULTIPLICITY": "2"}),
        ("gpaw-out", "Total Charge: 1.000000\n", {"charge": "1.000000"}),
        ("castep-castep", " net charge of system           :  1.000    \n", {"charge": "1.000"}),
        ("aims-output", "  Charge =   1.000000E+00: Charge requested explicitly.\n", {"charge": "1.000000e+00"}),
        (
            "orca-output",
            " Total Charge           Charge          ....    1\n Multiplicity           Mult            ....    2\n",
            {"charge": "1", "multiplicity": "2"},
        ),
        ("castep-cell", "%ENDBLOCK POSITIONS_ABS\nCHARGE : 1\n", {"CHARGE": "1"}),
        ("nwchem-in", "start recharge_2\n", {}),
        ("espresso-out", "     charge of the pseudopotential 5.0\n", {}),
    ],
)
def test_statements_by_format(kind, text, expected):
    assert charge_in_text(text, kind) == expected


def test_key_value_pairs_of_a_database_are_statements(tmp_path):
    with connect(tmp_path / "in.db") as database:
        database.write(AMMONIUM, total_charge=1)
    (structure,) = read_structures(tmp_path / "in.db")
    assert structure.stated.charge == 1
    ase.io.write(tmp_path / "none.db", AMMONIUM)
    (structure,) = read_structures(tmp_path / "none.db")
    assert structure.stated.charge is None
