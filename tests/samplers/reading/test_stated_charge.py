"""Stated charges and spins are used or refused by name; ions, radicals and missing hydrogens need statements."""

import io

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from rdkit import Chem
from written_files import AMMONIUM, METHYL, OXYGEN, WATER, stated, written, xyz

from al_engine.errors import InputError
from samplers.building.file_molecules import molecule_from_file
from samplers.reading.structure_files import read_structures

# -- charge and spin --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "comment", "expected"),
    [
        (AMMONIUM, "charge=1", (1, None)),
        (AMMONIUM, "charge=1.0", (1, None)),
        (AMMONIUM, 'charge="+1"', (1, None)),
        (AMMONIUM, "Charge = 1", (1, None)),
        (AMMONIUM, "total_charge=1 total_spin=1", (1, 0)),
        (AMMONIUM, "net_charge=1 multiplicity=1", (1, 0)),
        (AMMONIUM, "TOTAL-CHARGE=1 uhf=0", (1, 0)),
        (OXYGEN, "charge=0 spin=3", (0, 2)),
        (OXYGEN, "multiplicity=3", (None, 2)),
        (OXYGEN, "spin_multiplicity=3 charge=0", (0, 2)),
        (OXYGEN, "unpaired_electrons=2", (None, 2)),
        (METHYL, "mult=2", (None, 1)),
        (WATER, "charge=1 spin=2", (1, 1)),
        (WATER, "spin=0", (None, 0)),
        (WATER, "0 1", (None, None)),
        (WATER, "energy=-3.5 step=7", (None, None)),
        (WATER, "a title of many words, 3 of them numbers: 1.5 2.5", (None, None)),
    ],
)
def test_charge_and_spin_under_their_usual_names(tmp_path, rows, comment, expected):
    assert stated(written(tmp_path, xyz(rows, comment))) == expected


@pytest.mark.parametrize(
    ("rows", "comment", "says"),
    [
        (AMMONIUM, "charge=0.5", "`charge=0.5` is not an integer"),
        (AMMONIUM, "charge=nan", "`charge=nan` is not an integer"),
        (AMMONIUM, "charge=[1,2]", "is not a number"),
        (AMMONIUM, "charge=plus", "`charge=plus` is not a number"),
        (AMMONIUM, "charge: 1", "has no value that can be read"),
        (AMMONIUM, "net charge +1", "has no value that can be read"),
        (AMMONIUM, "charge=1 total_charge=2", r"contradict each other: charge \+1, total_charge \+2"),
        (AMMONIUM, "multiplicity=1", "does not fit its 11 electrons"),
        (OXYGEN, "spin=2", "read as a multiplicity, means 1 unpaired electrons, which does not fit its 16"),
        (OXYGEN, "spin=1.5", "not an integer"),
        (OXYGEN, "q=1", "`q=1` may be a charge or a spin"),
        (OXYGEN, "molecular_charge=2", "`molecular_charge=2` may be a charge or a spin"),
        (AMMONIUM, "1 1", r"line 2: the comment `1 1` may mean charge and multiplicity; write charge=1 multiplicity=1"),
        (AMMONIUM, "-1, 2", "may mean charge and multiplicity; write charge=-1 multiplicity=2"),
    ],
)
def test_statements_that_cannot_be_used_are_refused(tmp_path, rows, comment, says):
    with pytest.raises(InputError, match=says):
        read_structures(written(tmp_path, xyz(rows, comment)))


@pytest.mark.parametrize(("charges", "expected"), [([0.6, 0.1, 0.1, 0.1, 0.1], 1), ([-0.4, 0.1, 0.1, 0.1, 0.1], None)])
@pytest.mark.parametrize("column", ["initial_charges", "partial_charges"])
def test_columns_of_charges_add_up_to_the_charge(tmp_path, charges, expected, column):
    atoms = ase.io.read(io.StringIO(xyz(AMMONIUM)), format="xyz")
    atoms.set_array(column, np.array(charges))
    ase.io.write(tmp_path / "in.extxyz", atoms)
    assert stated(tmp_path / "in.extxyz")[0] == expected


def test_a_column_of_charges_with_a_fractional_sum_is_refused(tmp_path):
    atoms = ase.io.read(io.StringIO(xyz(AMMONIUM)), format="xyz")
    atoms.set_initial_charges([0.3, 0.1, 0.1, 0.0, 0.0])
    ase.io.write(tmp_path / "in.extxyz", atoms)
    with pytest.raises(InputError, match=r"`initial_charges` add up to \+0\.500 e"):
        read_structures(tmp_path / "in.extxyz")


def test_magnetic_moments_are_unpaired_electrons(tmp_path):
    atoms = molecule("O2")
    ase.io.write(tmp_path / "in.traj", atoms)
    assert stated(tmp_path / "in.traj") == (None, 2)
    atoms.set_initial_magnetic_moments([0.7, 0.0])
    ase.io.write(tmp_path / "in.traj", atoms)
    with pytest.raises(InputError, match=r"magnetic moments add up to 0\.700"):
        read_structures(tmp_path / "in.traj")


GAUSSIAN = """%nproc=1
# HF/3-21G

a title

{}
N 0.0 0.0 0.0
H 0.6 0.6 0.6
H -0.6 -0.6 0.6
H -0.6 0.6 -0.6
H 0.6 -0.6 -0.6

"""


@pytest.mark.parametrize(("line", "expected"), [("1 1", (1, 0)), ("0 2", (0, 1)), ("-1 1", (-1, 0))])
def test_inputs_of_gaussian_state_charge_and_multiplicity(tmp_path, line, expected):
    assert stated(written(tmp_path, GAUSSIAN.format(line), "in.gjf")) == expected


@pytest.mark.parametrize(
    ("user", "comment", "charge"),
    [(None, "charge=1", 1), (1, "", 1), (1, "charge=1", 1), (2, "charge=1", "contradiction")],
)
def test_user_and_file_may_not_contradict_each_other(tmp_path, user, comment, charge):
    path = written(tmp_path, xyz(AMMONIUM, comment))
    if charge == "contradiction":
        with pytest.raises(InputError, match=r"states charge \+1, .*system\.charge .* \+2"):
            molecule_from_file(path, charge=user)
    else:
        assert molecule_from_file(path, charge=user).charge == charge


# -- ions, radicals, hydrogens ----------------------------------------------------------------------------------


def test_an_ion_without_a_stated_charge_is_refused_with_the_charge_that_fits(tmp_path):
    rows = [
        *AMMONIUM,
        *(f"{row.split()[0]} {float(row.split()[1]) + 9} {' '.join(row.split()[2:])}" for row in AMMONIUM),
    ]
    with pytest.raises(InputError, match=r"states no charge, and its bonds fit 2 x H4N \(\+1\); .* system\.charge: 2"):
        molecule_from_file(written(tmp_path, xyz(rows)))


@pytest.mark.parametrize(
    "rows",
    [
        ["C -0.88 0.28 0.15", "C 0.42 -0.36 -0.33", "O 1.52 0.39 0.11"],
        ["C 0 1.39 0", "C 1.2 0.7 0", "C 1.2 -0.7 0", "C 0 -1.39 0", "C -1.2 -0.7 0", "C -1.2 0.7 0"],
        ["N 0 0 0", "N 1.45 0 0"],
        ["C 0 0 0", "O 1.2 0 0", "O -0.67 1.17 0"],
        METHYL,
    ],
    ids=["ethanol", "benzene", "hydrazine", "formic acid", "methyl"],
)
def test_missing_hydrogens_and_radicals_without_a_stated_spin_are_refused(tmp_path, rows):
    with pytest.raises(InputError, match=r"Add hydrogens that are missing.* system\.unpaired_electrons"):
        molecule_from_file(written(tmp_path, xyz(rows)))


def test_a_radical_with_a_stated_spin_is_read(tmp_path):
    path = written(tmp_path, xyz(METHYL, "unpaired_electrons=1"))
    found = molecule_from_file(path)
    assert (found.unpaired_electrons, found.radical_electrons) == (1, 1)
    assert found.rdkit is not None
    heavy = written(tmp_path, xyz(["C -0.88 0.28 0.15", "C 0.42 -0.36 -0.33", "O 1.52 0.39 0.11"]), "heavy.xyz")
    assert molecule_from_file(heavy, charge=0, unpaired_electrons=0).rdkit is None  # as it is, without a force field


def test_hydrogen_ions_and_salts_in_a_file_keep_their_bond_orders(tmp_path):
    rows = ["Na 0 0 3.2", *WATER, "Cl 4 0 3.2"]
    found = molecule_from_file(written(tmp_path, xyz(rows)))
    assert Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(found.rdkit))) == Chem.CanonSmiles("[Na+].O.[Cl-]")
    assert any("is read as Na (+1), H2O, Cl (-1)" in note for note in found.notes)
