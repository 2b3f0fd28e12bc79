"""What files state of charge, spin, elements, occupancy and periodicity: taken or refused by name, never guessed."""

import gzip
import io

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from rdkit import Chem
from rdkit.Chem import AllChem

from al_engine.errors import InputError
from samplers.building.molecules import molecule_from_file
from samplers.reading.structure_files import read_structures

WATER = ["O 0 0 0", "H 0.96 0 0", "H -0.24 0.93 0"]
AMMONIUM = ["N 0 0 0", "H 0.6 0.6 0.6", "H -0.6 -0.6 0.6", "H -0.6 0.6 -0.6", "H 0.6 -0.6 -0.6"]
OXYGEN = ["O 0 0 0", "O 0 0 1.21"]
METHYL = ["C 0 0 0", "H 1.08 0 0", "H -0.54 0.93 0", "H -0.54 -0.93 0"]


def xyz(rows, comment=""):
    return "\n".join([str(len(rows)), comment, *rows, ""])


def written(folder, text, name="in.xyz"):
    path = folder / name
    path.write_text(text)
    return path


def stated(path, **more):
    (one,) = read_structures(path, **more)
    return one.stated.charge, one.stated.unpaired_electrons


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
        (AMMONIUM, "charge=0.5", "`charge=0.5` is no whole number"),
        (AMMONIUM, "charge=nan", "`charge=nan` is no whole number"),
        (AMMONIUM, "charge=[1,2]", "is no number"),
        (AMMONIUM, "charge=plus", "`charge=plus` is no number"),
        (AMMONIUM, "charge: 1", "without a value that can be read"),
        (AMMONIUM, "net charge +1", "without a value that can be read"),
        (AMMONIUM, "charge=1 total_charge=2", r"contradict each other: charge \+1, total_charge \+2"),
        (AMMONIUM, "multiplicity=1", "does not fit its 11 electrons"),
        (OXYGEN, "spin=2", "read as a multiplicity, means 1 unpaired electrons, which does not fit its 16"),
        (OXYGEN, "spin=1.5", "no whole number"),
        (OXYGEN, "q=1", "`q=1` may be a charge or a spin"),
        (OXYGEN, "molecular_charge=2", "`molecular_charge=2` may be a charge or a spin"),
        (AMMONIUM, "1 1", r"line 2: the comment `1 1` may mean charge and multiplicity; write charge=1 multiplicity=1"),
        (AMMONIUM, "-1, 2", "may mean charge and multiplicity; write charge=-1 multiplicity=2"),
    ],
)
def test_statements_that_cannot_be_taken_are_refused(tmp_path, rows, comment, says):
    with pytest.raises(InputError, match=says):
        read_structures(written(tmp_path, xyz(rows, comment)))


@pytest.mark.parametrize(("charges", "expected"), [([0.6, 0.1, 0.1, 0.1, 0.1], 1), ([-0.4, 0.1, 0.1, 0.1, 0.1], None)])
@pytest.mark.parametrize("column", ["initial_charges", "partial_charges"])
def test_columns_of_charges_add_up_to_the_charge(tmp_path, charges, expected, column):
    atoms = ase.io.read(io.StringIO(xyz(AMMONIUM)), format="xyz")
    atoms.set_array(column, np.array(charges))
    ase.io.write(tmp_path / "in.extxyz", atoms)
    assert stated(tmp_path / "in.extxyz")[0] == expected


def test_a_column_of_charges_that_add_up_to_nothing_whole_is_refused(tmp_path):
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
def test_inputs_of_gaussian_say_charge_and_multiplicity(tmp_path, line, expected):
    assert stated(written(tmp_path, GAUSSIAN.format(line), "in.gjf")) == expected


@pytest.mark.parametrize(
    ("user", "comment", "charge"),
    [(None, "charge=1", 1), (1, "", 1), (1, "charge=1", 1), (2, "charge=1", "contradiction")],
)
def test_user_and_file_may_not_contradict_each_other(tmp_path, user, comment, charge):
    path = written(tmp_path, xyz(AMMONIUM, comment))
    if charge == "contradiction":
        with pytest.raises(InputError, match=r"states charge \+1, system\.charge makes it \+2"):
            molecule_from_file(path, charge=user)
    else:
        assert molecule_from_file(path, charge=user).charge == charge


# -- ions, radicals, hydrogens ----------------------------------------------------------------------------------


def test_an_ion_without_a_charge_is_asked_about(tmp_path):
    rows = [
        *AMMONIUM,
        *(f"{row.split()[0]} {float(row.split()[1]) + 9} {' '.join(row.split()[2:])}" for row in AMMONIUM),
    ]
    with pytest.raises(
        InputError, match=r"states no charge, and its bonds fit 2 x H4N \(\+1\): .* say system\.charge: 2"
    ):
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
def test_missing_hydrogens_and_radicals_are_asked_about(tmp_path, rows):
    with pytest.raises(InputError, match=r"Add hydrogens that are missing.* system\.unpaired_electrons"):
        molecule_from_file(written(tmp_path, xyz(rows)))


def test_what_is_said_of_a_radical_is_taken(tmp_path):
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


# -- elements ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["C1 0 0 0", "O2 1.1 0 0"], r"line 3: .*atoms named C1, O2; .* system\.elements: \{C1: \?, O2: \?\}"),
        (["6 0 0 0", "8 1.1 0 0"], r"line 3: .*atoms named 6"),
        (["O 0 0 0", "D 0.96 0 0", "D -0.24 0.93 0"], r"line 4: 'D' is an isotope of hydrogen.* write H"),
        (["O 0 0 0", "H 0.96 0 0", "T -0.24 0.93 0"], r"line 5: 'T' is an isotope"),
        (["O 0 0 0", "H 0.96 0 0", "Bq -0.24 0.93 0"], r"line 5: 'Bq' is a ghost"),
        (["O 0 0 0", "H 0.96 0 0", "Xx -0.24 0.93 0"], r"line 5: 'Xx' is a ghost"),
        (["OW 0 0 0", "HW 0.96 0 0"], r"atoms named OW"),
    ],
)
def test_labels_that_are_no_elements_are_asked_about_by_line(tmp_path, rows, says):
    with pytest.raises(InputError, match=says):
        read_structures(written(tmp_path, xyz(rows)))


@pytest.mark.parametrize("rows", [["o 0 0 0", "h 0.96 0 0"], ["CL 0 0 0", "h 1.3 0 0"], ["cl 0 0 0", "H 1.3 0 0"]])
def test_symbols_in_any_case_are_elements(tmp_path, rows):
    (one,) = read_structures(written(tmp_path, xyz(rows)))
    assert one.frame.numbers[0] in (8, 17)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_elements_the_user_says_are_taken(tmp_path, suffix):
    text = xyz(["OW 0 0 0", "HW1 0.96 0 0", "HW2 -0.24 0.93 0"])
    path = tmp_path / f"in.xyz{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix else text.encode())
    (one,) = read_structures(path, elements={"OW": "O", "HW1": "H", "HW2": "H"})
    assert one.frame.numbers.tolist() == [8, 1, 1]
    with pytest.raises(InputError, match="'Qq', given for 'OW', is no element"):
        read_structures(path, elements={"OW": "Qq", "HW1": "H", "HW2": "H"})


def gro(names, box="3.0 3.0 3.0", precision=3):
    rows = []
    for k, name in enumerate(names):
        places = "".join(f"{0.1 * (k + c):{precision + 5}.{precision}f}" for c in range(3))
        rows.append(f"{1:5d}{'DCM':<5s}{name:>5s}{k + 1:5d}{places}")
    return "\n".join(["title", f"{len(names):5d}", *rows, box, ""])


def test_a_gro_file_has_no_elements(tmp_path):
    path = written(tmp_path, gro(["C1", "CL1", "CL2", "H1", "H2"]), "in.gro")
    with pytest.raises(InputError, match=r"atoms named CL1, CL2; say .*\{CL1: \?, CL2: \?\}"):
        read_structures(path)
    (one,) = read_structures(path, elements={"CL1": "Cl", "CL2": "Cl"})
    assert one.frame.numbers.tolist() == [6, 17, 17, 1, 1]
    np.testing.assert_allclose(one.frame.cell, 30.0 * np.eye(3))
    np.testing.assert_allclose(one.frame.positions[1], [1.0, 2.0, 3.0])
    for bead in (["W"], ["OW", "HW1", "HW2"], ["CA"], ["BR"]):
        with pytest.raises(InputError, match="no elements"):
            read_structures(written(tmp_path, gro(bead), "bead.gro"))


@pytest.mark.parametrize("precision", [3, 6])
def test_a_gro_trajectory_has_all_its_frames_at_any_precision(tmp_path, precision):
    text = gro(["O", "H1", "H2"], precision=precision) * 3
    found = read_structures(written(tmp_path, text, "in.gro"))
    assert len(found) == 3
    np.testing.assert_allclose(found[2].frame.positions[2], [2.0, 3.0, 4.0])


DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
3
ITEM: BOX BOUNDS pp pp pp
0 10
0 10
0 10
ITEM: ATOMS id {} x y z
"""


def test_types_of_a_lammps_dump_are_asked_about(tmp_path):
    text = DUMP.format("type") + "1 2 1 1 1\n2 1 1.96 1 1\n3 1 0.76 1.93 1\n"
    path = written(tmp_path, text * 2, "in.dump")
    with pytest.raises(InputError, match=r"types 1, 2; .* system\.elements: \{1: \?, 2: \?\}"):
        read_structures(path)
    found = read_structures(path, elements={"1": "H", "2": "O"})
    assert [one.frame.numbers.tolist() for one in found] == [[8, 1, 1]] * 2
    named = DUMP.format("element") + "1 OW 1 1 1\n2 H 1.96 1 1\n3 H 0.76 1.93 1\n"
    with pytest.raises(InputError, match="OW"):
        read_structures(written(tmp_path, named, "named.dump"))
    (one,) = read_structures(tmp_path / "named.dump", elements={"OW": "O"})
    assert one.frame.numbers.tolist() == [8, 1, 1]


DATA = """water

3 atoms
2 atom types

0 10 xlo xhi
0 10 ylo yhi
0 10 zlo zhi

{}Atoms # atomic

1 2 1 1 1
2 1 1.96 1 1
3 1 0.76 1.93 1
"""


def test_types_of_a_lammps_data_file_are_told_by_their_masses_or_asked_about(tmp_path):
    (one,) = read_structures(written(tmp_path, DATA.format("Masses\n\n1 1.008\n2 15.999\n\n"), "in.data"))
    assert one.frame.numbers.tolist() == [8, 1, 1]
    for masses in ("", "Masses\n\n1 1.008\n2 15.035\n\n"):  # a united CH3 is neither N nor O
        path = written(tmp_path, DATA.format(masses), "in.data")
        with pytest.raises(InputError, match="types"):
            read_structures(path)
    path = written(tmp_path, DATA.format(""), "in.data")
    assert read_structures(path, elements={"1": "H", "2": "O"})[0].frame.numbers.tolist() == [8, 1, 1]


# -- PDB --------------------------------------------------------------------------------------------------------


def pdb(*atoms, cell="CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 1           1\n"):
    rows = [
        f"HETATM{k + 1:5d} {name:<4s}{alternative}MOL A   1    {x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}  0.00          {element:>2s}{charge:2s}\n"  # noqa: E501
        for k, (name, element, (x, y, z), alternative, occupancy, charge) in enumerate(atoms)
    ]
    return cell + "".join(rows) + "END\n"


def pdb_atom(name, element, place, *, alternative=" ", occupancy=1.0, charge=""):
    return name, element, place, alternative, occupancy, charge


PDB_WATER = (pdb_atom(" O", "O", (0, 0, 0)), pdb_atom(" H1", "H", (0.96, 0, 0)), pdb_atom(" H2", "H", (-0.24, 0.93, 0)))


def test_a_pdb_file_states_elements_charges_and_a_cell(tmp_path):
    ions = (pdb_atom("NA", "NA", (4, 4, 4), charge="1+"), pdb_atom("CL", "CL", (2, 5, 5), charge="1-"))
    (one,) = read_structures(written(tmp_path, pdb(*PDB_WATER, *ions[:1]), "in.pdb"))
    assert one.frame.numbers.tolist() == [8, 1, 1, 11]
    assert one.stated.charge == 1
    np.testing.assert_allclose(one.frame.cell, 9.0 * np.eye(3), atol=1e-12)
    (both,) = read_structures(written(tmp_path, pdb(*PDB_WATER, *ions), "in.pdb"))
    assert both.stated.charge in (0, None)


@pytest.mark.parametrize(
    ("atom", "says"),
    [
        (pdb_atom(" CA", "", (4, 4, 4)), r"atoms named CA"),
        (pdb_atom(" D1", "D", (4, 4, 4)), r"line 5: 'D' is an isotope"),
        (pdb_atom(" C1", "C", (4, 4, 4), alternative="B"), r"line 5: atom C1 is in alternative position 'B'"),
        (pdb_atom(" C1", "C", (4, 4, 4), occupancy=0.5), r"line 5: atom C1 has an occupancy of 0\.50"),
        (pdb_atom(" C1", "C", (4, 4, 4), charge="x?"), r"columns 79-80 hold 'x\?'"),
    ],
)
def test_what_a_pdb_file_says_is_not_dropped(tmp_path, atom, says):
    with pytest.raises(InputError, match=says):
        read_structures(written(tmp_path, pdb(*PDB_WATER, atom), "in.pdb"))


def test_names_without_a_doubt_do_for_elements_in_a_pdb_file(tmp_path):
    plain = [pdb_atom(name, "", place) for name, _, place, *_ in PDB_WATER]
    (one,) = read_structures(written(tmp_path, pdb(*plain), "in.pdb"))
    assert one.frame.numbers.tolist() == [8, 1, 1]


def test_all_models_of_a_pdb_file_have_its_cell_and_a_placeholder_is_none(tmp_path):
    model = pdb(*PDB_WATER).replace("END\n", "ENDMDL\n")
    second = pdb(*PDB_WATER, cell="")
    found = read_structures(written(tmp_path, model + second, "in.pdb"))
    assert [one.frame.pbc.tolist() for one in found] == [[True] * 3] * 2
    placeholder = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n"
    (one,) = read_structures(written(tmp_path, pdb(*PDB_WATER, cell=placeholder), "in.pdb"))
    assert not one.frame.is_periodic


# -- CIF, masses ------------------------------------------------------------------------------------------------

CIF = """data_t
_cell_length_a 8.0
_cell_length_b 8.0
_cell_length_c 8.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
O1 O 0.5 0.5 0.5 {}
H1 {} 0.62 0.5 0.5 1.0
H2 H 0.47 0.616 0.5 1.0
"""


@pytest.mark.parametrize(
    ("occupancy", "symbol", "says"),
    [("0.5", "H", r"only partly occupied \(O 0\.5\)"), ("1.0", "D", r"mass of 2\.01\d amu: isotopes")],
)
def test_sites_that_are_partly_there_and_isotopes_are_refused(tmp_path, occupancy, symbol, says):
    with pytest.raises(InputError, match=says):
        read_structures(written(tmp_path, CIF.format(occupancy, symbol), "in.cif"))
    assert len(read_structures(written(tmp_path, CIF.format("1.0", "H"), "in.cif"))[0].frame) == 3


def test_masses_that_are_no_elements_are_refused(tmp_path):
    atoms = molecule("CH4")
    atoms.set_masses([12.011, 1.008, 1.008, 1.008, 3.016])
    ase.io.write(tmp_path / "in.traj", atoms)
    with pytest.raises(InputError, match=r"atom 4 \(H\) has a mass of 3\.016 amu"):
        read_structures(tmp_path / "in.traj")


# -- SDF --------------------------------------------------------------------------------------------------------


def sdf(smiles, *, hydrogens=True, flat=False):
    mol = Chem.MolFromSmiles(smiles)
    mol = Chem.AddHs(mol) if hydrogens else mol
    AllChem.Compute2DCoords(mol) if flat else AllChem.EmbedMolecule(mol, randomSeed=1)
    return Chem.MolToMolBlock(mol) + "$$$$\n"


@pytest.mark.parametrize(
    ("smiles", "charge"),
    [("[NH3+]CCC[NH3+]", 2), ("[NH4+]", 1), ("CC(=O)[O-]", -1), ("[NH3+]CC(=O)[O-]", 0), ("CCO", 0)],
)
def test_an_sdf_file_states_charges_and_bond_orders(tmp_path, smiles, charge):
    found = molecule_from_file(written(tmp_path, sdf(smiles), "in.sdf"))
    assert found.charge == found.formal_charge == charge
    assert Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(found.rdkit))) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (sdf("CCO", hydrogens=False), "lacks 6 hydrogens"),
        (sdf("CCO", hydrogens=False, flat=True), "is a drawing"),
        (sdf("CCO", flat=True), "is a drawing"),
        (sdf("CCO", flat=True).replace("2D", "  "), "is a drawing"),
        (sdf("[2H]OC"), "is 2H: isotopes are not simulated"),
        ("nonsense\n\n\n  9  9  0\n$$$$\n", "RDKit can't read it"),
    ],
)
def test_what_an_sdf_file_lacks_is_not_made_up(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        molecule_from_file(written(tmp_path, text, "in.sdf"))


def test_further_records_are_asked_about(tmp_path):
    path = written(tmp_path, sdf("CCO") + sdf("O"), "in.sdf")
    with pytest.raises(InputError, match=r"holds 2 structures; say which by system\.structure_frame: 0 to 1, or -1"):
        molecule_from_file(path)
    assert len(molecule_from_file(path, index=0)) == 9
    assert len(molecule_from_file(path, index=-1)) == 3
    with pytest.raises(InputError, match="no number 2"):
        molecule_from_file(path, index=2)


# -- the rest ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1 / 0.529177])
def test_positions_in_bohr_are_noticed(tmp_path, factor):
    atoms = molecule("CH3CH2OH")
    atoms.positions *= factor
    ase.io.write(tmp_path / "in.xyz", atoms)
    with pytest.raises(InputError, match="as if positions were in bohr"):
        molecule_from_file(tmp_path / "in.xyz")
    ase.io.write(tmp_path / "ar.xyz", Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]]))
    assert len(molecule_from_file(tmp_path / "ar.xyz")) == 2


def test_labels_and_constraints_are_named_as_unused(tmp_path):
    from ase.constraints import FixAtoms

    atoms = molecule("H2O")
    atoms.info["REF_energy"] = -1.0
    atoms.arrays["REF_forces"] = np.zeros((3, 3))
    atoms.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / "in.extxyz", atoms, columns=["symbols", "positions", "REF_forces", "move_mask"])
    (one,) = read_structures(tmp_path / "in.extxyz")
    assert {"REF_energy", "REF_forces", "constraints (fixed atoms)"} <= set(one.unused)


@pytest.mark.parametrize("kind", ["g96"])
def test_formats_in_which_elements_are_guessed_are_refused(tmp_path, kind):
    path = written(
        tmp_path, "TITLE\nx\nEND\nPOSITION\n    1 MOL   CA         1    0.1    0.1    0.1\nEND\n", f"in.{kind}"
    )
    with pytest.raises(InputError, match="does not say the elements of atoms; convert it to extended XYZ"):
        read_structures(path)


def test_the_projects_own_export_is_a_structure(tmp_path):
    atoms = Atoms("OH2", molecule("H2O").positions, info={"charge": 1, "unpaired_electrons": 1})
    ase.io.write(tmp_path / "in.extxyz", atoms)
    found = molecule_from_file(tmp_path / "in.extxyz")
    assert (found.charge, found.unpaired_electrons) == (1, 1)
