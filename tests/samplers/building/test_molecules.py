"""Molecules from SMILES and files, and the messages for SMILES and files that can't be read."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as ase_molecule
from ase.io import write

from al_engine.errors import InputError
from samplers.building.file_molecules import molecule_from_file
from samplers.building.molecules import molecule_from_smiles
from samplers.reading.structure_files import read_structures


def test_smiles_gives_atoms_bonds_charge_and_radicals():
    ethanol = molecule_from_smiles("CCO", seed=1)
    assert sorted(ethanol.numbers.tolist()) == [1] * 6 + [6, 6, 8]
    assert len(ethanol.bonds) == 8
    lengths = np.linalg.norm(np.diff(ethanol.positions[ethanol.bonds], axis=1)[:, 0], axis=1)
    assert (lengths > 0.9).all()
    assert (lengths < 1.6).all()
    assert (ethanol.charge, ethanol.radical_electrons) == (0, 0)
    assert molecule_from_smiles("C1=C[NH+]=CN1", seed=1).charge == 1
    assert molecule_from_smiles("[CH3]", seed=1).radical_electrons == 1


def test_seed_decides_the_conformer():
    first, again, other = (molecule_from_smiles("OCCCCO", seed=seed).positions for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_elements_beyond_radon_are_built_too():
    molecule = molecule_from_smiles("F[U](F)(F)(F)(F)F", seed=0)
    lengths = np.linalg.norm(
        molecule.positions[molecule.bonds[:, 0]] - molecule.positions[molecule.bonds[:, 1]], axis=1
    )
    assert len(lengths) == 6
    assert (lengths > 1.7).all()
    assert (lengths < 2.4).all()  # 2.00 Å in the gas


@pytest.mark.parametrize(
    ("smiles", "says"),
    [
        ("CC(", r"'CC\(' can't be read: not valid SMILES"),
        ("C(C)(C)(C)(C)C", "Explicit valence for atom # 0 C, 5"),
        ("", "no atoms"),
        ("C*", "has an atom with Z = 0, which is not an element"),
    ],
)
def test_bad_smiles(smiles, says, capfd):
    with pytest.raises(InputError, match=says):
        molecule_from_smiles(smiles, seed=0)
    if smiles != "CC(":
        assert not capfd.readouterr().err  # RDKit's own log stays quiet


def test_bad_smiles_print_nothing_to_stderr(capfd):
    with pytest.raises(InputError):
        molecule_from_smiles("CC(", seed=0)
    assert not capfd.readouterr().err


def test_file_round_trip_with_charge_and_bond_orders(tmp_path):
    made = molecule_from_smiles("C1=C[NH+]=CN1", seed=3)
    atoms = Atoms(made.numbers, made.positions, info={"charge": 1})
    write(tmp_path / "imidazolium.xyz", atoms, format="extxyz")
    read = molecule_from_file(tmp_path / "imidazolium.xyz")
    np.testing.assert_array_equal(read.bonds, made.bonds)
    np.testing.assert_allclose(read.positions, made.positions, atol=1e-7)
    assert read.charge == 1
    assert read.rdkit is not None


def test_the_structure_frame_of_a_trajectory_must_be_chosen(tmp_path):
    images = [ase_molecule("CH3OH") for _ in range(3)]
    images[-1].positions += 0.25
    write(tmp_path / "path.traj", images)
    with pytest.raises(InputError, match=r"holds 3 structures; .* system\.structure_frame"):
        molecule_from_file(tmp_path / "path.traj")
    np.testing.assert_allclose(molecule_from_file(tmp_path / "path.traj", index=-1).positions, images[-1].positions)
    assert len(read_structures(tmp_path / "path.traj")) == 3


def test_a_molecule_across_a_boundary_is_made_whole(tmp_path):
    water = ase_molecule("H2O")
    intact = water.get_all_distances()
    water.set_cell([8, 9, 10])
    water.pbc = True
    water.positions -= water.positions[0]  # the oxygen in the corner
    water.wrap()
    assert not np.allclose(water.get_all_distances(), intact)
    write(tmp_path / "water.xyz", water)
    positions = molecule_from_file(tmp_path / "water.xyz").positions
    np.testing.assert_allclose(np.linalg.norm(positions[:, None] - positions, axis=-1), intact, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.xyz", None, "missing.xyz: no such file"),
        ("empty.xyz", "", "empty.xyz is empty"),
        ("prose.xyz", "this is no structure\nat all\n", "prose.xyz: ASE can't read it"),
        ("what.ever", "neither is this\n", "what.ever: ASE can't read it"),
        ("nan.xyz", "1\n\nH nan 0 0\n", "not finite"),
        ("none.xyz", "0\n\n", "none.xyz"),
        ("ghost.xyz", "2\n\nO 0 0 0\nX 0 0 2\n", "ghost.xyz, line 4: 'X' is a ghost or dummy atom"),
    ],
)
def test_bad_files(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says):
        molecule_from_file(tmp_path / name)


def test_a_folder_is_no_structure(tmp_path):
    with pytest.raises(InputError, match="not a file"):
        molecule_from_file(tmp_path)
