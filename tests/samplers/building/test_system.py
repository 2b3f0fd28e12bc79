"""Packing and whole systems: nothing overlaps, the box has its density, the seed decides."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.build import molecule as ase_molecule
from ase.geometry import get_distances
from ase.io import write
from rdkit import Chem

from al_engine.config import SystemConfig
from al_engine.errors import InputError
from al_engine.structures.bonds import bond_lengths
from samplers.building.molecules import molecule_from_smiles
from samplers.building.packing import _overlaps_itself, contact_radii
from samplers.building.system import boxed, build_system, independent_start, repacked
from samplers.classical.classical import force_field_of

PERFLUOROTRIBUTYLAMINE = "N(" + ")(".join(["C(F)(F)C(F)(F)C(F)(F)C(F)(F)F"] * 2) + ")C(F)(F)C(F)(F)C(F)(F)C(F)(F)F"


def build(tmp_path, *, seed=1, **config):
    return build_system(SystemConfig(**config), base_dir=tmp_path, seed=seed)


def smallest_contact(system):
    """Distance between atoms of different molecules over the sum of their contact radii."""
    frame = system.frame
    distances = get_distances(frame.positions, cell=frame.cell, pbc=frame.pbc)[1]
    radii = contact_radii(frame.numbers)
    copies = system.molecules.copy_of_atom
    other = copies[:, None] != copies
    return (distances / (radii[:, None] + radii))[other].min()


@pytest.mark.parametrize(
    ("smiles", "molecules", "more"),
    [
        ("CCO", 10, {}),
        ("O", 5, {}),
        ("C1=C[NH+]=CN1", 3, {}),
        ("[CH3]", 2, {"unpaired_electrons": 2}),
        (PERFLUOROTRIBUTYLAMINE, 3, {}),
        ("O", 32, {"shape": "box", "density_g_per_cm3": 1.0}),
        ("CCO", 12, {"shape": "box", "density_g_per_cm3": 0.79}),
    ],
)
def test_packed_molecules_do_not_overlap_and_keep_their_shape(tmp_path, smiles, molecules, more):
    system = build(tmp_path, smiles=smiles, molecules=molecules, **more)
    assert len(system.frame) == molecules * len(system.molecule)
    assert smallest_contact(system) > (0.89 if "shape" in more else 0.98)  # Packmol meets distances to about 1 %
    hydrogens = contact_radii(np.array([1]))[0] * 2
    assert hydrogens == pytest.approx(2.0)
    lengths = bond_lengths(system.molecule.positions, system.molecule.bonds)
    np.testing.assert_allclose(system.bonds.lengths, np.tile(lengths, molecules), atol=1e-4)


def test_a_box_is_refused_if_molecules_overlap_their_own_images(tmp_path):
    """Packmol does not see the periodic images of a molecule itself: a rod of 13 Å does not fit a box of 8 Å."""
    rod = "C#CC#CC#CC#CC#CC"
    molecule = build(tmp_path, smiles=rod).molecule
    along = np.linalg.svd(molecule.positions - molecule.positions.mean(axis=0))[2]
    positions = molecule.positions @ along.T  # the rod lies along the first axis
    length = float(np.ptp(positions[:, 0]))
    assert length > 12.0
    for gap, overlaps in ((0.0, True), (1.2, True), (3.5, False)):
        assert _overlaps_itself(positions, [(molecule, 1)], 1, side=length + gap) is overlaps
    with pytest.raises(InputError, match="in which molecules overlap; lower the density"):
        build(tmp_path, smiles=rod, molecules=2, shape="box", density_g_per_cm3=0.8)


def test_every_element_has_a_contact_radius():
    radii = contact_radii(np.arange(1, 119))
    assert (radii >= 1.0).all()
    assert (radii < 3.0).all()


def test_a_cluster_is_compact(tmp_path):
    """Every molecule touches the rest: no gap wider than 1.5 contact distances."""
    system = build(tmp_path, smiles="CCO", molecules=8)
    distances = get_distances(system.frame.positions)[1]
    radii = contact_radii(system.frame.numbers)
    scaled = distances / (radii[:, None] + radii)
    for copy in range(8):
        mine = system.molecules.copy_of_atom == copy
        assert scaled[mine][:, ~mine].min() < 1.5


def test_three_molecules_of_the_reference_work(tmp_path):
    system = build(tmp_path, smiles=PERFLUOROTRIBUTYLAMINE, molecules=3)
    assert len(system.frame) == 120
    assert len(system.bonds.pairs) == 117


def test_box_has_its_density(tmp_path):
    system = build(tmp_path, smiles="O", molecules=32, shape="box", density_g_per_cm3=1.0)
    assert system.frame.pbc.all()
    grams = 32 * 18.015 / 6.02214076e23
    volume = np.linalg.det(system.frame.cell) * 1e-24
    assert grams / volume == pytest.approx(1.0, rel=1e-4)


def test_a_density_that_is_too_high_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"density_g_per_cm3: 9 .* lower the density"):
        build(tmp_path, smiles="O", molecules=4, shape="box", density_g_per_cm3=9.0)


def test_seed_decides_the_packing(tmp_path):
    first, again, other = (
        build(tmp_path, smiles="CCO", molecules=4, seed=seed).frame.content_hash() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_single_molecule_keeps_its_conformer(tmp_path):
    system = build(tmp_path, smiles="CCO")
    shift = system.frame.positions - system.molecule.positions
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-12)
    assert repacked(system, seed=5) is system


def test_a_single_molecule_starts_independently_from_another_conformer(tmp_path):
    system = build(tmp_path, smiles="OCCCO")
    starts = [independent_start(system, seed=seed) for seed in (1, 1, 2, 3)]
    assert starts[0].frame.content_hash() == starts[1].frame.content_hash()
    shapes = [np.sort(get_distances(start.frame.positions)[1].ravel()) for start in (system, *starts)]
    assert max(np.abs(shape - shapes[0]).max() for shape in shapes) > 0.3
    for start in starts:
        assert np.array_equal(start.frame.numbers, system.frame.numbers)
        lengths = bond_lengths(start.frame.positions, system.bonds.pairs)
        np.testing.assert_allclose(lengths, system.bonds.lengths, atol=0.03)


@pytest.mark.parametrize("smiles", ["CC(Cl)C(Br)O", "CC=CC(F)Cl"])
def test_another_conformer_is_not_another_isomer(smiles, tmp_path):
    """The SMILES leave the stereocentres and the double bond open."""

    def configurations(start):
        mol = Chem.Mol(system.molecule.rdkit)
        for atom, place in enumerate(start.frame.positions.tolist()):
            mol.GetConformer().SetAtomPosition(atom, place)
        Chem.AssignStereochemistryFrom3D(mol)
        return Chem.MolToSmiles(mol)

    system = build(tmp_path, smiles=smiles)
    assert {configurations(independent_start(system, seed=seed)) for seed in range(6)} == {configurations(system)}


def test_a_molecule_of_a_file_keeps_its_conformer(tmp_path):
    write(tmp_path / "in.xyz", ase_molecule("CH3CH2OH"))
    system = build(tmp_path, structure="in.xyz")
    assert independent_start(system, seed=5) is system


def test_charge_and_spin_reach_the_frame(tmp_path):
    cations = build(tmp_path, smiles="C1=C[NH+]=CN1", molecules=2)
    assert (cations.frame.charge, cations.frame.unpaired_electrons) == (2, 0)
    radicals = build(tmp_path, smiles="[CH3]", molecules=2, unpaired_electrons=2)
    assert (radicals.frame.charge, radicals.frame.unpaired_electrons) == (0, 2)
    with pytest.raises(InputError, match=r"'\[CH3\]' x 2 has 2 radical electrons"):
        build(tmp_path, smiles="[CH3]", molecules=2)


def test_copies_of_a_structure_file(tmp_path):
    write(tmp_path / "in.xyz", ase_molecule("CH3OH"))
    system = build(tmp_path, structure="in.xyz", molecules=3)
    np.testing.assert_array_equal(system.molecules.copy_of_atom, np.repeat([0, 1, 2], 6))
    np.testing.assert_array_equal(system.molecules.fragment_of_atom, system.molecules.copy_of_atom)
    assert len(system.bonds.pairs) == 15


def test_a_copy_of_several_molecules_has_several_fragments(tmp_path):
    """Water and methanol in one file, packed twice: two copies, four molecules."""
    water = ase_molecule("H2O")
    water.positions += [8.0, 0.0, 0.0]
    write(tmp_path / "in.xyz", ase_molecule("CH3OH") + water)
    molecules = build(tmp_path, structure="in.xyz", molecules=2).molecules
    np.testing.assert_array_equal(molecules.copy_of_atom, np.repeat([0, 1], 9))
    np.testing.assert_array_equal(molecules.fragment_of_atom, np.repeat([0, 1, 2, 3], [6, 3, 6, 3]))


def test_the_configs_charge_decides_the_bond_orders_of_a_file(tmp_path):
    """The coordinates of a cation have no bond orders that fit a neutral molecule."""
    made = molecule_from_smiles("C1=C[NH+]=CN1", seed=3)
    write(tmp_path / "cation.xyz", Atoms(made.numbers, made.positions))
    system = build(tmp_path, structure="cation.xyz", molecules=2, charge=2)
    assert system.frame.charge == 2
    assert force_field_of(system) == "MMFF94"
    neutral = build(tmp_path, structure="cation.xyz", unpaired_electrons=1)
    assert neutral.molecule.charge == 0


def test_a_structure_without_bond_orders_has_no_force_field(tmp_path):
    complex_ = Atoms("PtCl2N2H6", [[0, 0, 0], [2.3, 0, 0], [0, 2.3, 0], [-2.05, 0, 0], [0, -2.05, 0], *_hydrogens()])
    write(tmp_path / "cisplatin.xyz", complex_)
    with pytest.raises(InputError, match=r"states no charge, and no bond orders fit .* set system\.charge"):
        build(tmp_path, structure="cisplatin.xyz")
    system = build(tmp_path, structure="cisplatin.xyz", charge=0)
    assert len(system.bonds.pairs) == 10
    with pytest.raises(InputError, match=r"no bond orders fit .*cisplatin"):
        force_field_of(system)


def _hydrogens():
    turns = np.radians([90, 210, 330])
    around = np.array([[-2.4, 0.95 * np.cos(a), 0.95 * np.sin(a)] for a in turns])
    return [*around.tolist(), *around[:, [1, 0, 2]].tolist()]


WATER = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=[7, 8, 9], pbc=True)


def test_a_periodic_file_keeps_its_cell_only_as_a_box_and_needs_a_shape(tmp_path):
    write(tmp_path / "box.xyz", WATER)
    box = build(tmp_path, structure="box.xyz", shape="box")
    np.testing.assert_allclose(box.frame.cell, np.diag([7, 8, 9]))
    assert not build(tmp_path, structure="box.xyz", shape="cluster").frame.is_periodic
    with pytest.raises(InputError, match=r"box\.xyz has a periodic cell; set system\.shape: box .* or cluster"):
        build(tmp_path, structure="box.xyz")


@pytest.mark.parametrize(
    ("pbc", "more", "says"),
    [
        ([True, True, False], {}, "periodic along a and b only"),
        ([True, True, False], {"shape": "box"}, "periodic along a and b only"),
        ([True, False, False], {"shape": "cluster"}, "periodic along a only"),
        ([True] * 3, {"shape": "box", "density_g_per_cm3": 1.0}, r"contradicts the cell of .* has 0\.05935"),
        ([True] * 3, {"shape": "box", "molecules": 4}, "density_g_per_cm3: needed for a box of 4"),
        ([False] * 3, {"shape": "box"}, "density_g_per_cm3: needed for a box of 1 .* not periodic itself"),
    ],
)
def test_periodicity_is_neither_added_nor_dropped(tmp_path, pbc, more, says):
    atoms = WATER.copy()
    atoms.pbc = pbc
    write(tmp_path / "box.xyz", atoms)
    with pytest.raises(InputError, match=says):
        build(tmp_path, structure="box.xyz", **more)


@pytest.mark.parametrize("more", [{"shape": "cluster"}, {"shape": "box", "molecules": 2, "density_g_per_cm3": 2.0}])
def test_a_crystal_is_neither_made_a_cluster_nor_copied(tmp_path, more):
    write(tmp_path / "si.xyz", bulk("Si"))
    with pytest.raises(InputError, match="bonded to its own periodic images"):
        build(tmp_path, structure="si.xyz", **more)
    assert build(tmp_path, structure="si.xyz", shape="box").frame.is_periodic


def test_repacking_moves_molecules_only(tmp_path):
    system = build(tmp_path, smiles="O", molecules=4)
    moved = repacked(system, seed=9)
    assert np.abs(moved.frame.positions - system.frame.positions).max() > 0.5
    np.testing.assert_allclose(bond_lengths(moved.frame.positions, system.bonds.pairs), system.bonds.lengths, atol=1e-4)


def test_a_box_to_cut_from_has_the_systems_density(tmp_path):
    system = build(tmp_path, smiles="O", molecules=2, density_g_per_cm3=0.9)
    box = boxed(system, 16, seed=3)
    assert np.linalg.det(box.frame.cell) == pytest.approx(16 * 18.015 * 1.66053904 / 0.9, rel=1e-4)
