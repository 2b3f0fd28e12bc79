"""Clusters cut from a box: whole molecules, the nearest ones, in their nearest images."""

import itertools

import numpy as np
import pytest
from ase.geometry import get_distances

from al_engine.structures.bonds import made_whole
from al_engine.structures.clusters import ClusterCut, central_molecule, gathered, nearest_molecules, surrounded
from al_engine.structures.frames import Frame
from samplers.building.molecules import molecule_from_smiles
from samplers.building.packing import pack_box
from samplers.building.system import tiled_bonds

COUNT = 20


@pytest.fixture(scope="module")
def water_box():
    molecule = molecule_from_smiles("O", seed=1)
    positions, cell = pack_box(molecule, COUNT, density_g_per_cm3=0.8, seed=2)
    frame = Frame(numbers=np.tile(molecule.numbers, COUNT), positions=positions, cell=cell, pbc=np.ones(3, bool))
    return frame, np.repeat(np.arange(COUNT), 3), tiled_bonds(molecule, COUNT)


def scattered(frame, rng):
    """The same crystal with every atom in a random image: molecules are cut everywhere."""
    images = rng.integers(-2, 3, size=(len(frame), 3))
    return frame.with_positions(frame.positions + images @ frame.cell)


@pytest.mark.parametrize("centre", [None, np.array([0.3, -1.0, 4.0])])
def test_whole_molecules_nearest_the_centre(water_box, rng, centre):
    frame, owner, bonds = water_box
    cluster, atoms = nearest_molecules(scattered(frame, rng), owner, bonds, 3, centre=centre)
    assert not cluster.is_periodic
    assert len(cluster) == 9
    np.testing.assert_array_equal(cluster.numbers, frame.numbers[atoms])
    # Whole: inside every molecule all distances are those of the intact molecule.
    for copy in range(3):
        mine = cluster.positions[3 * copy : 3 * copy + 3]
        intact = frame.positions[atoms[3 * copy : 3 * copy + 3]]
        np.testing.assert_allclose(
            np.linalg.norm(mine[:, None] - mine, axis=-1), np.linalg.norm(intact[:, None] - intact, axis=-1), atol=1e-9
        )
    # Nearest: by ASE's minimum-image distances of the centres of mass.
    masses = np.array([15.999, 1.008, 1.008])
    centres = np.array([np.average(frame.positions[owner == m], axis=0, weights=masses) for m in range(COUNT)])
    point = 0.5 * frame.cell.sum(axis=0) if centre is None else centre
    distances = get_distances(point[None], centres, cell=frame.cell, pbc=True)[1][0]
    assert set(owner[atoms].tolist()) == set(np.argsort(distances)[:3].tolist())
    found = [np.linalg.norm(np.average(cluster.positions[3 * c : 3 * c + 3], axis=0, weights=masses)) for c in range(3)]
    np.testing.assert_allclose(sorted(found), np.sort(distances)[:3], atol=1e-9)


def test_charge_and_spin_are_the_clusters(water_box):
    cluster, _ = nearest_molecules(*water_box, 2, charge=2, unpaired_electrons=2)
    assert (cluster.charge, cluster.unpaired_electrons) == (2, 2)


def test_more_molecules_than_there_are(water_box):
    with pytest.raises(ValueError, match="21 molecules from a frame that has 20"):
        nearest_molecules(*water_box, COUNT + 1)


def test_made_whole_undoes_any_scatter(water_box, rng):
    frame, _, bonds = water_box
    cut = scattered(frame, rng)
    whole = made_whole(cut.positions, bonds, frame.cell, frame.pbc)
    for i, j in bonds:
        expected = frame.positions[i] - frame.positions[j]
        np.testing.assert_allclose(whole[i] - whole[j], expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_nearest_whole_molecules_of_random_boxes(seed):
    """Bent triatomics in skewed, small and elongated cells, cut everywhere: against all images within seven cells."""
    rng = np.random.default_rng(seed)
    count, wanted = int(rng.integers(3, 9)), 3
    cell = np.diag(rng.uniform(5, 12, 3)) @ (np.eye(3) + np.tril(rng.uniform(-0.6, 0.6, (3, 3)), -1))
    shape = np.array([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [-0.3, 1.2, 0.0]])
    turns = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    intact = (rng.uniform(size=(count, 3)) @ cell)[:, None] + shape @ turns
    numbers, owner = np.tile([8, 6, 1], count), np.repeat(np.arange(count), 3)
    bonds = np.concatenate([[[3 * m, 3 * m + 1], [3 * m, 3 * m + 2]] for m in range(count)])
    frame = Frame(numbers=numbers, positions=intact.reshape(-1, 3), cell=cell, pbc=np.ones(3, bool))
    cut = ClusterCut(molecules=wanted, charge=0, unpaired_electrons=0, molecule_of_atom=owner, bonds=bonds)
    masses = np.array([15.999, 12.011, 1.008])
    centres = np.average(intact, axis=1, weights=masses)
    images = np.array(list(itertools.product(range(-3, 4), repeat=3))) @ cell
    for molecule in range(count):
        distances = np.linalg.norm(centres[:, None] + images - centres[molecule], axis=2).min(axis=1)
        cluster, atoms = cut.around(scattered(frame, rng), molecule)
        parts = cluster.positions.reshape(wanted, 3, 3)
        assert set(owner[atoms].tolist()) == set(np.argsort(distances, kind="stable")[:wanted].tolist())
        assert molecule in owner[atoms]
        found = np.linalg.norm(np.average(parts, axis=1, weights=masses), axis=1)
        np.testing.assert_allclose(found, distances[owner[atoms[::3]]], atol=1e-9)
        # Whole and not turned: every molecule is the intact one, moved.
        for part, mine in zip(parts, atoms.reshape(-1, 3), strict=True):
            np.testing.assert_allclose(part - part[0], (frame.positions[mine] - frame.positions[mine[0]]), atol=1e-9)


@pytest.mark.parametrize("skewed", [False, True])
def test_a_wrapped_cluster_is_gathered(rng, skewed):
    """A chain of small molecules, longer than half the cell along its diagonal, cut by all boundaries."""
    cell = np.array([[14.0, 0, 0], [4.0 * skewed, 13.0, 0], [-3.0 * skewed, 5.0 * skewed, 12.0]])
    pbc = np.ones(3, dtype=bool)
    centres = np.cumsum(rng.normal(size=(6, 3)) + np.array([1.6, 1.4, 1.2]), axis=0)
    cluster = (centres[:, None] + 0.4 * rng.normal(size=(6, 3, 3))).reshape(-1, 3)
    fragments = np.repeat(np.arange(6), 3)
    shifts = np.repeat(rng.integers(-2, 3, size=(6, 3)), 3, axis=0) @ cell
    found = gathered(cluster + shifts, fragments, cell, pbc)
    np.testing.assert_allclose(found - found[0], cluster - cluster[0], atol=1e-10)


@pytest.mark.parametrize("seed", range(12))
def test_surrounded_atoms_have_all_neighbours_of_the_box(seed):
    """Random boxes, also smaller than the cut-off: every image of every atom that is near is looked for by hand."""
    rng = np.random.default_rng(seed)
    count, wanted, cutoff = int(rng.integers(8, 30)), int(rng.integers(2, 8)), float(rng.uniform(1.0, 4.0))
    cell = np.diag(rng.uniform(4, 9, 3)) @ (np.eye(3) + np.tril(rng.uniform(-0.5, 0.5, (3, 3)), -1))
    owner, numbers = np.repeat(np.arange(count), 2), np.tile([8, 1], count)
    centres = rng.uniform(size=(count, 3)) @ cell
    positions = np.stack([centres, centres + np.array([0.6, 0.3, 0.0])], axis=1).reshape(-1, 3)
    frame = Frame(numbers=numbers, positions=positions, cell=cell, pbc=np.ones(3, bool))
    bonds = np.arange(2 * count).reshape(-1, 2)
    cut = ClusterCut(molecules=wanted, charge=0, unpaired_electrons=0, molecule_of_atom=owner, bonds=bonds)
    centre = int(rng.integers(count))
    cluster, atoms = cut.around(scattered(frame, rng), centre)
    found = surrounded(frame, cluster, atoms, cutoff_ang=cutoff)
    origin = cluster.positions[0] - positions[atoms[0]]  # the box as the cluster sees it
    images = np.array(list(itertools.product(range(-4, 5), repeat=3))) @ cell
    everywhere = (positions[:, None] + origin + images).reshape(-1, 3)
    for atom, position in enumerate(cluster.positions):
        near = everywhere[np.linalg.norm(everywhere - position, axis=1) < cutoff]
        missing = [p for p in near if np.linalg.norm(cluster.positions - p, axis=1).min() > 1e-6]
        assert found[atom] == (not missing)


def test_the_middle_of_a_large_cluster_is_surrounded_and_its_surface_is_not(water_box):
    frame, owner, bonds = water_box
    cut = ClusterCut(molecules=12, charge=0, unpaired_electrons=0, molecule_of_atom=owner, bonds=bonds)
    cluster, atoms = cut.around(frame, 3)
    distance = np.linalg.norm(cluster.positions, axis=1)
    found = surrounded(frame, cluster, atoms, cutoff_ang=2.5)
    assert found.any()
    assert not found.all()
    assert distance[found].mean() < distance[~found].mean()
    assert surrounded(frame, cluster, atoms, cutoff_ang=0.5).all()
    assert not surrounded(frame, cluster, atoms, cutoff_ang=8.0).any()


@pytest.mark.parametrize("molecule", [0, 7, COUNT - 1])
def test_the_central_molecule_is_found_again(water_box, rng, molecule):
    frame, owner, bonds = water_box
    cut = ClusterCut(molecules=5, charge=0, unpaired_electrons=0, molecule_of_atom=owner, bonds=bonds)
    cluster, atoms = cut.around(scattered(frame, rng), molecule)
    np.testing.assert_array_equal(central_molecule(cluster, 5), owner[atoms] == molecule)
    # A frame that was not cut around a molecule has none.
    assert central_molecule(cluster.with_positions(cluster.positions + 0.01), 5) is None
    assert central_molecule(frame, COUNT) is None
    assert central_molecule(cluster, 4) is None
