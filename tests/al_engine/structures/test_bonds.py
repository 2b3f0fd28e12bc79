"""Frames that have come apart: bonds by their stretch, across boundaries too."""

import itertools
import tracemalloc

import networkx as nx
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list
from hypothesis import given
from hypothesis import strategies as st

from al_engine.structures.bonds import BondGraph, Bonds, fragment_of_atom, is_fragmented, longest_bonds, made_whole
from al_engine.structures.frames import Frame

WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
CELL = np.array([[16.0, 0.0, 0.0], [6.0, 20.0, 0.0], [-4.0, 8.0, 24.0]])
BONDS = Bonds.at(Frame(numbers=[8, 1, 1], positions=WATER), np.array([[0, 1], [0, 2]]))


def water(factor, *, cell=None, shift=0.0):
    """One O-H bond stretched; wrapped into a cell if there is one."""
    positions = WATER * np.array([[1.0], [factor], [1.0]]) + shift
    if cell is None:
        return Frame(numbers=[8, 1, 1], positions=positions)
    fractional = positions @ np.linalg.inv(cell)
    return Frame(numbers=[8, 1, 1], positions=(fractional % 1.0) @ cell, cell=cell, pbc=[True] * 3)


def test_the_most_stretched_bond_counts():
    frames = [water(factor) for factor in (1.0, 0.7, 1.4, 3.0)]
    np.testing.assert_allclose(longest_bonds(frames, BONDS), [1.0, 1.0, 1.4, 3.0], rtol=1e-12)


def test_wrapping_does_not_break_a_bond():
    """The molecule lies across every face of a skewed cell; its bond has more than half of the cell left to grow."""
    cell = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [-1.0, 1.0, 10.0]])
    for factor in (1.0, 2.5):
        frames = [
            water(factor, cell=cell, shift=shift) for shift in ([-0.1, 0.0, 0.0], [8.8, 7.9, 9.9], [0.0, -0.5, 4.0])
        ]
        np.testing.assert_allclose(longest_bonds(frames, BONDS), factor, rtol=1e-12)


def test_atoms_without_bonds_do_not_come_apart():
    nothing = Bonds(pairs=np.empty((0, 2), dtype=int), lengths=np.empty(0))
    assert longest_bonds([water(9.0)], nothing).tolist() == [0.0]
    assert longest_bonds([], BONDS).tolist() == []


# -- the graph ----------------------------------------------------------------------------------------------------


def test_whole_molecules_stay_bit_for_bit(rng):
    positions = rng.uniform(0, 1, (6, 3)) * 1.5 + [20.0, -7.0, 3.0]
    bonds = np.array([[0, 1], [1, 2], [3, 4], [4, 5]])
    np.testing.assert_array_equal(made_whole(positions, bonds, CELL, np.ones(3, bool)), positions)


def test_fragments_are_numbered_by_their_first_atoms():
    bonds = np.array([[5, 0], [3, 1], [1, 6]])
    np.testing.assert_array_equal(fragment_of_atom(7, bonds), [0, 1, 2, 1, 3, 0, 1])
    np.testing.assert_array_equal(fragment_of_atom(3, np.empty((0, 2), dtype=int)), [0, 1, 2])


@st.composite
def graphs(draw):
    """Bonds drawn at random: rings, several fragments and lone atoms; no pair twice."""
    n_atoms = draw(st.integers(1, 12))
    pairs = list(itertools.combinations(range(n_atoms), 2))
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=14)) if pairs else []
    turned = [pair if draw(st.booleans()) else pair[::-1] for pair in chosen]
    return n_atoms, np.array(turned, dtype=np.int64).reshape(-1, 2)


@given(graphs())
def test_a_graph_is_that_of_networkx(drawn):
    n_atoms, pairs = drawn
    graph, theirs = BondGraph(n_atoms, pairs), nx.Graph(pairs.tolist())
    theirs.add_nodes_from(range(n_atoms))
    assert [set(around) for around in graph.neighbours] == [set(theirs[atom]) for atom in range(n_atoms)]
    fragments = graph.fragments()
    components = sorted((sorted(atoms) for atoms in nx.connected_components(theirs)), key=min)
    assert [own.atoms.tolist() for own in fragments] == components
    for own in fragments:
        np.testing.assert_array_equal(own.atoms[own.pairs], pairs[own.bonds])
    assert sorted(np.concatenate([own.bonds for own in fragments]).tolist()) == list(range(len(pairs)))
    for first, second in pairs.tolist():
        cut = theirs.copy()
        cut.remove_edge(first, second)
        assert graph.side_of(first, second) == nx.node_connected_component(cut, first)


@given(graphs(), st.integers(0, 2**32 - 1))
def test_steps_add_up_along_bonds(drawn, seed):
    """Where steps are differences of a quantity of the atoms, which way is taken does not matter."""
    n_atoms, pairs = drawn
    values = np.random.default_rng(seed).integers(-3, 4, (n_atoms, 3))
    sums = BondGraph(n_atoms, pairs).summed_steps(values[pairs[:, 1]] - values[pairs[:, 0]])
    owner = fragment_of_atom(n_atoms, pairs)
    first = np.unique(owner, return_index=True)[1]
    np.testing.assert_array_equal(sums, values - values[first[owner]])


# -- exchanged partners -------------------------------------------------------------------------------------------


def two_waters(distance, *, exchanged):
    """Two waters; with two protons exchanged, each proton is as far from its oxygen as the molecules are apart."""
    positions = np.concatenate([WATER, WATER + np.array([0.0, 0.0, distance])])
    if exchanged:
        positions[[1, 4]] = positions[[4, 1]]
    return Frame(numbers=[8, 1, 1, 8, 1, 1], positions=positions)


PAIR = Bonds.at(two_waters(3.0, exchanged=False), np.array([[0, 1], [0, 2], [3, 4], [3, 5]]))


def broken(bonds, frame):
    """Whether bonds longer than twice their length have broken."""
    return bonds.have_broken(frame, longest_of(bonds, frame) > 2.0)


def longest_of(bonds, frame):
    return bonds.lengths_in(frame, bonds.shifts_in(frame)) / bonds.lengths


def test_exchanged_protons_break_no_bond():
    for distance in (3.0, 8.0):
        assert not broken(PAIR, two_waters(distance, exchanged=True))
        assert not broken(PAIR, two_waters(distance, exchanged=False))


def test_a_neighbour_may_be_a_periodic_image():
    boxed = two_waters(3.0, exchanged=True)
    positions = boxed.positions.copy()
    positions[4] += [12.0, 0.0, 0.0]
    frame = Frame(numbers=boxed.numbers, positions=positions, cell=12.0 * np.eye(3), pbc=[True] * 3)
    assert not PAIR.have_broken(frame, np.array([True, False, False, False]))


def formic_acid(*, tautomer):
    """Formic acid of ASE's G2 set; with `tautomer`, the bonds are those of a proton on the other oxygen."""
    atoms = molecule("HCOOH")  # O, C, O, H, H: the first H is bonded to the first O
    pairs = np.array([(1, 0), (1, 2), (1, 4), (2 if tautomer else 0, 3)])
    return Frame(numbers=atoms.numbers, positions=atoms.positions), Bonds(pairs=pairs, lengths=np.ones(4))


def test_a_proton_that_has_moved_within_its_molecule_is_no_fragment():
    frame, bonds = formic_acid(tautomer=True)
    assert longest_bonds([frame], bonds)[0] > 1.6
    assert not is_fragmented(frame, bonds, 1.6)


def test_a_bond_that_is_too_long_and_no_other_is_fragmented():
    frame, bonds = formic_acid(tautomer=False)
    assert not is_fragmented(frame, bonds, 1.6)
    assert is_fragmented(frame, bonds, 1.2)  # C=O is longer than that, and bonded


def test_an_atom_that_was_lost_is_a_fragment():
    lost = two_waters(8.0, exchanged=False).positions.copy()
    lost[1] += [4.0, 0.0, 0.0]
    assert broken(PAIR, Frame(numbers=[8, 1, 1, 8, 1, 1], positions=lost))


def test_hydronium_and_hydroxide_are_other_molecules():
    moved = two_waters(8.0, exchanged=False).positions.copy()
    moved[1] = moved[3] + [-0.24, -0.93, 0.0]
    assert broken(PAIR, Frame(numbers=[8, 1, 1, 8, 1, 1], positions=moved))


def test_an_excess_proton_may_be_anywhere_between_its_waters():
    """It has left its first water long ago; of the two it is between now, it belongs to the nearer one."""
    along_z = np.array([0.0, 0.0, 1.0])
    start = np.concatenate([WATER, WATER + 6.0 * along_z, WATER + 8.4 * along_z, [[0.0, -0.96, 0.0]]])
    numbers = [8, 1, 1] * 3 + [1]
    pairs = np.array([[0, 1], [0, 2], [0, 9], [3, 4], [3, 5], [6, 7], [6, 8]])
    bonds = Bonds.at(Frame(numbers=numbers, positions=start), pairs)
    for along in (1.0, 1.13, 1.2, 1.27, 1.4):
        moved = start.copy()
        moved[9] = start[3] + [0.0, 0.0, along]
        assert not broken(bonds, Frame(numbers=numbers, positions=moved))
    between = start.copy()
    between[9] = start[3] + [0.0, 3.0, 0.0]
    assert broken(bonds, Frame(numbers=numbers, positions=between))


@pytest.mark.parametrize("name", ["C6H6", "cyclobutane"])
def test_a_ring_that_has_opened_is_broken_although_it_is_one_piece(name):
    atoms = molecule(name)
    first, second = neighbor_list("ij", atoms, {("C", "C"): 1.7, ("C", "H"): 1.2})
    pairs = np.stack([first, second], axis=1)[first < second]
    bonds = Bonds.at(Frame.from_atoms(atoms), pairs)
    assert not is_fragmented(Frame.from_atoms(atoms), bonds, 1.6)
    ring = pairs[(atoms.numbers[pairs] == 6).all(axis=1)][0]
    towards = atoms.positions[ring[1]] - atoms.positions[ring[0]]
    own = [ring[1], *second[(first == ring[1]) & (atoms.numbers[second] == 1)]]
    atoms.positions[own] += 1.2 * towards
    assert fragment_of_atom(len(atoms), pairs).max() == 0
    assert is_fragmented(Frame.from_atoms(atoms), bonds, 1.6)


def test_a_sodium_ion_beside_water_hinders_no_exchange():
    exchanged = two_waters(3.0, exchanged=True)
    numbers = np.append(exchanged.numbers, 11)
    with_ion = Frame(numbers=numbers, positions=np.vstack([exchanged.positions, [-1.4, -1.8, 0.0]]), charge=1)
    assert not broken(PAIR, with_ion)


def test_bonds_across_the_boundary_of_a_crystal_have_the_length_of_all_others():
    silicon = bulk("Si", cubic=True)
    first, second = neighbor_list("ij", silicon, 2.5)
    pairs = np.unique(np.stack([first, second], axis=1)[first < second], axis=0)
    frame = Frame.from_atoms(silicon)
    bonds = Bonds.at(frame, pairs)
    np.testing.assert_allclose(bonds.lengths, 5.43 * np.sqrt(3) / 4)
    np.testing.assert_allclose(bonds.lengths_in(frame, bonds.shifts_in(frame)), bonds.lengths)
    apart = silicon.positions.copy()
    apart[pairs[0, 1]] += 30.0 * (apart[pairs[0, 1]] - apart[pairs[0, 0]])
    lengths = bonds.lengths_in(frame.with_positions(apart), bonds.shifts_in(frame))
    assert lengths[0] > 60.0  # an atom that has flown through its own image is not near again


def test_a_large_box_is_looked_through_in_linear_memory(rng):
    count = 3000
    side = 31.0
    oxygens = rng.uniform(0, side, (count, 3))
    positions = (oxygens[:, None] + WATER).reshape(-1, 3)
    pairs = (3 * np.arange(count)[:, None, None] + np.array([[0, 1], [0, 2]])).reshape(-1, 2)
    frame = Frame(numbers=[8, 1, 1] * count, positions=positions, cell=side * np.eye(3), pbc=[True] * 3)
    bonds = Bonds.at(frame, pairs)
    tracemalloc.start()
    bonds.have_broken(frame, np.arange(len(pairs)) == 0)
    assert tracemalloc.get_traced_memory()[1] < 300e6  # all pairs would take 2 GB
    tracemalloc.stop()
