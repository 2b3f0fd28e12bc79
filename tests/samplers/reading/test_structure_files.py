"""Statements of PDB, CIF, SDF and other files are used or refused by name, never guessed or dropped."""

import gzip

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from rdkit import Chem
from rdkit.Chem import AllChem
from written_files import written

from al_engine.errors import InputError
from samplers.building.file_molecules import molecule_from_file
from samplers.reading.structure_files import read_structures

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
    (structure,) = read_structures(written(tmp_path, pdb(*PDB_WATER, *ions[:1]), "in.pdb"))
    assert structure.frame.numbers.tolist() == [8, 1, 1, 11]
    assert structure.stated.charge == 1
    np.testing.assert_allclose(structure.frame.cell, 9.0 * np.eye(3), atol=1e-12)
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
def test_statements_of_a_pdb_file_that_are_not_supported_are_refused(tmp_path, atom, says):
    with pytest.raises(InputError, match=says):
        read_structures(written(tmp_path, pdb(*PDB_WATER, atom), "in.pdb"))


def test_unambiguous_atom_names_of_a_pdb_file_give_elements(tmp_path):
    plain = [pdb_atom(name, "", place) for name, _, place, *_ in PDB_WATER]
    (structure,) = read_structures(written(tmp_path, pdb(*plain), "in.pdb"))
    assert structure.frame.numbers.tolist() == [8, 1, 1]


def test_all_models_of_a_pdb_file_have_its_cell_unless_it_is_a_placeholder(tmp_path):
    model = pdb(*PDB_WATER).replace("END\n", "ENDMDL\n")
    second = pdb(*PDB_WATER, cell="")
    found = read_structures(written(tmp_path, model + second, "in.pdb"))
    assert [structure.frame.pbc.tolist() for structure in found] == [[True] * 3] * 2
    placeholder = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n"
    (structure,) = read_structures(written(tmp_path, pdb(*PDB_WATER, cell=placeholder), "in.pdb"))
    assert not structure.frame.is_periodic


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
    [("0.5", "H", r"only partly occupied \(O 0\.5\)"), ("1.0", "D", r"mass of 2\.01\d amu; isotopes")],
)
def test_partly_occupied_sites_and_isotopes_are_refused(tmp_path, occupancy, symbol, says):
    with pytest.raises(InputError, match=says):
        read_structures(written(tmp_path, CIF.format(occupancy, symbol), "in.cif"))
    assert len(read_structures(written(tmp_path, CIF.format("1.0", "H"), "in.cif"))[0].frame) == 3


@pytest.mark.parametrize(("groups", "refused"), [("1 2", True), ("1 .", False), (". .", False), ("1 -1", True)])
def test_alternative_positions_are_refused_at_full_occupancy_too(tmp_path, groups, refused):
    first, second = groups.split()
    text = CIF.replace("_atom_site_occupancy", "_atom_site_disorder_group").format(".", "H")
    text = text.replace("0.5 0.5 1.0\n", f"0.5 0.5 {first}\n").replace("0.616 0.5 1.0\n", f"0.616 0.5 {second}\n")
    path = written(tmp_path, text, "in.cif")
    if refused:
        with pytest.raises(InputError, match="alternative positions"):
            read_structures(path)
    else:
        assert len(read_structures(path)[0].frame) == 3


def test_masses_of_no_element_are_refused(tmp_path):
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
        (sdf("[2H]OC"), "is 2H; isotopes are not simulated"),
        ("nonsense\n\n\n  9  9  0\n$$$$\n", "RDKit can't read it"),
    ],
)
def test_incomplete_sdf_files_are_refused(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        molecule_from_file(written(tmp_path, text, "in.sdf"))


def test_a_record_of_several_must_be_chosen(tmp_path):
    path = written(tmp_path, sdf("CCO") + sdf("O"), "in.sdf")
    with pytest.raises(InputError, match=r"holds 2 structures; .* system\.structure_frame: 0 to 1, or -1"):
        molecule_from_file(path)
    assert len(molecule_from_file(path, index=0)) == 9
    assert len(molecule_from_file(path, index=-1)) == 3
    with pytest.raises(InputError, match="structure_frame is 2, but"):
        molecule_from_file(path, index=2)


# -- units, unused data, other formats --------------------------------------------------------------------------


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
    (structure,) = read_structures(tmp_path / "in.extxyz")
    assert {"REF_energy", "REF_forces", "constraints (fixed atoms)"} <= set(structure.unused)


@pytest.mark.parametrize("kind", ["g96"])
def test_formats_in_which_elements_are_guessed_are_refused(tmp_path, kind):
    path = written(
        tmp_path, "TITLE\nx\nEND\nPOSITION\n    1 MOL   CA         1    0.1    0.1    0.1\nEND\n", f"in.{kind}"
    )
    with pytest.raises(InputError, match="does not state the elements of atoms; convert it to extended XYZ"):
        read_structures(path)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"2\n\nH 0 0 0\nH 0 0 0.74\n" * 400)[:60], b"no archive at all"],
    ids=["cut off", "text"],  # the archive contains its time, which would be part of the test's name
)
def test_a_damaged_archive_is_named(tmp_path, content):
    (tmp_path / "cut.xyz.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"cut\.xyz\.gz: ASE can't read it"):
        read_structures(tmp_path / "cut.xyz.gz")


@pytest.mark.parametrize(
    ("name", "advice"), [("a.mol2", "Open Babel"), ("a.npz", "make an ASE `Atoms`"), ("type.raw", "dpdata")]
)
def test_a_format_that_ase_does_not_read_has_a_way_out(tmp_path, name, advice):
    (tmp_path / name).write_bytes(b"neither\nof these\n")
    with pytest.raises(InputError, match=advice):
        read_structures(tmp_path / name)


def test_a_folder_of_deepmd_kit_has_a_way_out(tmp_path):
    (tmp_path / "type.raw").write_text("0 0 1\n")
    with pytest.raises(InputError, match="dpdata"):
        read_structures(tmp_path)


def test_the_projects_own_export_is_a_structure(tmp_path):
    atoms = Atoms("OH2", molecule("H2O").positions, info={"charge": 1, "unpaired_electrons": 1})
    ase.io.write(tmp_path / "in.extxyz", atoms)
    found = molecule_from_file(tmp_path / "in.extxyz")
    assert (found.charge, found.unpaired_electrons) == (1, 1)


# -- encodings ----------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_part_of_an_xyz_file(tmp_path):
    text = "3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
    (tmp_path / "marked.xyz").write_text(text, encoding="utf-8-sig")
    (structure,) = read_structures(tmp_path / "marked.xyz")
    assert structure.frame.numbers.tolist() == [8, 1, 1]


def test_an_sdf_without_formal_charges_states_that_it_is_neutral(tmp_path):
    water = Chem.AddHs(Chem.MolFromSmiles("O"))
    AllChem.EmbedMolecule(water, randomSeed=1)
    (structure,) = read_structures(written(tmp_path, Chem.MolToMolBlock(water) + "$$$$\n", "w.sdf"))
    assert structure.stated.charge == 0
