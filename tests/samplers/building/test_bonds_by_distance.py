"""Bonds from distances: right for published geometries, absent between ions, present across periodic boundaries."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.collections import g2, s22

from samplers.building.bonds_by_distance import bonds_from_radii, is_endless
from samplers.building.mixtures import built_from_smiles


def bonds_of(atoms, **more):
    return bonds_from_radii(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, **more)


@pytest.mark.parametrize(
    ("name", "count"),
    [("H2", 1), ("F2", 1), ("H2O2", 3), ("HOCl", 2), ("ClNO", 2), ("C6H6", 12), ("CH3CH2OH", 8), ("SO2", 2), ("P2", 1)],
)
def test_molecules_have_the_bonds_that_chemists_draw(name, count):
    assert len(bonds_of(molecule(name))) == count


def test_molecules_of_a_complex_are_not_bonded_to_each_other():
    for name in s22.names:
        atoms = s22[name]
        bonds = bonds_of(atoms)
        parts = {frozenset(part) for part in _parts(len(atoms), bonds)}
        assert len(parts) == 2, name


def _parts(n_atoms, bonds):
    owner = list(range(n_atoms))
    for i, j in bonds.tolist():
        old, new = owner[i], owner[j]
        owner = [new if label == old else label for label in owner]
    return [[k for k in range(n_atoms) if owner[k] == value] for value in set(owner)]


def test_metals_are_ions_beside_electronegative_atoms_and_bonded_to_carbon():
    water = molecule("H2O")
    for metal, distance in (("Li", 1.9), ("Na", 2.3), ("K", 2.6), ("Mg", 2.1), ("Ca", 2.4)):
        beside = water + Atoms(metal, [water.positions[0] + [0, 0, distance]])
        assert len(bonds_of(beside)) == 2, metal
    assert len(bonds_of(g2["LiF"])) == 0
    assert len(bonds_of(g2["LiH"])) == 1
    methyl_lithium = molecule("CH3") + Atoms("Li", [[0, 0, 2.0]])
    assert len(bonds_of(methyl_lithium)) == 4
    fluorides = Atoms("LiFLiF", [[0, 0, 0], [1.7, 0, 0], [1.7, 1.7, 0], [0, 1.7, 0]])
    assert len(bonds_of(fluorides)) == 0


@pytest.mark.parametrize("factor", [1.1, 1.25])
@pytest.mark.parametrize(
    "contact",
    [
        ("CC(=O)[O-]", 1, 0),  # bidentate
        ("O=C([O-])[O-]", 1, None),
        ("CC#N", 1, None),
        ("COC", 0, None),
    ],
)
@pytest.mark.parametrize(("metal", "distance"), [("Li", 2.06), ("Na", 2.27), ("K", 2.56), ("Cs", 2.81), ("Ca", 2.5)])
def test_a_metal_near_a_polar_carbon_is_an_ion(contact, metal, distance, factor):
    """Distances of the metal from carbon in acetates relaxed by GFN2-xTB."""
    anion, carbon, direction = contact
    ion = built_from_smiles(anion, seed=1)
    if direction is None:  # above the plane of the neighbours
        near = ion.positions - ion.positions[carbon]
        axis = np.linalg.svd(near[np.linalg.norm(near, axis=1) < 2.0])[2][2]
    else:
        axis = ion.positions[carbon] - ion.positions[direction]
    place = ion.positions[carbon] + distance * axis / np.linalg.norm(axis)
    pair = Atoms(ion.numbers, ion.positions) + Atoms(metal, [place])
    assert len(ion) not in bonds_of(pair, factor=factor)


def test_a_metal_on_the_face_of_a_ring_is_an_ion_and_in_its_plane_it_is_bonded():
    ring, fluoride = molecule("C6H6"), molecule("HF")
    fluoride.translate([0, 0, 8])
    assert 12 not in bonds_of(ring + Atoms("K", [[0, 0, 2.7]]) + fluoride)
    hydrogen = 11
    carbon = int(np.argmin(np.linalg.norm(ring.positions[:6] - ring.positions[hydrogen], axis=1)))
    out = ring.positions[carbon] / np.linalg.norm(ring.positions[carbon])
    phenyl = ring[:hydrogen] + Atoms("Li", [ring.positions[carbon] + 2.0 * out])
    assert [carbon, 11] in bonds_of(phenyl + fluoride).tolist()


def test_a_proton_between_two_oxygens_belongs_to_the_nearer():
    zundel = Atoms("OOH", [[0, 0, 0], [2.4, 0, 0], [1.19, 0, 0]])
    assert bonds_of(zundel).tolist() == [[0, 2]]


POLYETHYLENE = Atoms(
    "C2H4",
    [[0, 0, 0], [1.25, 0.85, 0], [0, -0.6, 0.9], [0, -0.6, -0.9], [1.25, 1.45, 0.9], [1.25, 1.45, -0.9]],
    cell=[2.5, 9, 9],
    pbc=True,
)


@pytest.mark.parametrize(
    ("atoms", "endless"),
    [
        (bulk("Si"), True),
        (bulk("Cu"), True),
        (bulk("Si", cubic=True) * (2, 2, 2), True),
        (graphene(vacuum=5.0), True),
        (POLYETHYLENE, True),
        (Atoms("H2O", molecule("H2O").positions, cell=[3, 3, 3], pbc=True), False),
        (Atoms("H2O", molecule("H2O").positions), False),
        (bulk("NaCl", "rocksalt", a=5.64), False),
    ],
    ids=["silicon", "copper", "a cube of silicon", "graphene", "polyethylene", "water in a cell", "water", "salt"],
)
def test_structures_bonded_to_their_periodic_images_are_recognised(atoms, endless):
    atoms.pbc = atoms.cell.rank == 3 or atoms.pbc
    assert is_endless(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc) == endless


def test_a_molecule_cut_by_a_boundary_has_its_bonds(rng):
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([6, 6, 6])
    atoms.pbc = True
    atoms.positions += rng.uniform(0, 6, 3)
    atoms.wrap()
    np.testing.assert_array_equal(bonds_of(atoms), bonds_of(molecule("CH3CH2OH")))


@pytest.mark.parametrize("numbers", [(8, 1), (1, 8)])
def test_a_shared_proton_across_a_boundary_is_not_endless(numbers):
    """In either order of the atoms: the bond is known from the hydrogen atom alone."""
    positions = np.array([[0.3, 0.0, 0.0], [7.1, 0.0, 0.0]])
    cell, pbc = 8.0 * np.eye(3), np.ones(3, dtype=bool)
    assert bonds_from_radii(np.array(numbers), positions, cell, pbc).tolist() == [[0, 1]]
    assert not is_endless(np.array(numbers), positions, cell, pbc)
