"""Bond stretching: the lengths times the factors, all fragments rigid, nothing on top of anything."""

import itertools

import numpy as np
import pytest
from ase.data import covalent_radii

from al_engine.structures.bonds import bond_lengths
from al_engine.structures.frames import Frame
from al_engine.structures.periodic import nearest_image
from samplers.building.molecules import molecule_from_smiles
from samplers.initial.stretch import collides, movable_fragments, stretch_random_bonds, stretched_bond

FACTORS = {"shortest_factor": 0.85, "longest_factor": 2.0}


def framed(smiles):
    molecule = molecule_from_smiles(smiles, seed=1)
    frame = Frame(numbers=molecule.numbers, positions=molecule.positions)
    return frame, molecule.bonds, movable_fragments(len(frame), molecule.bonds)


@pytest.mark.parametrize("smiles", ["CCO", "CC(N)=O", "O", "C1CC1C"])
@pytest.mark.parametrize("factor", [0.85, 1.7])
def test_a_stretched_bond_has_the_wanted_length_and_rigid_fragments(smiles, factor):
    frame, bonds, fragments = framed(smiles)
    for bond, fragment in fragments.items():
        moved = stretched_bond(frame, bonds[bond], fragment, factor)
        before, after = (bond_lengths(f.positions, bonds) for f in (frame, moved))
        assert after[bond] / before[bond] == pytest.approx(factor, rel=1e-12)
        np.testing.assert_allclose(np.delete(after, bond), np.delete(before, bond), rtol=1e-12)
        rest = np.setdiff1d(np.arange(len(frame)), fragment)
        assert 0 < len(fragment) <= len(rest)
        np.testing.assert_array_equal(moved.positions[rest], frame.positions[rest])
        np.testing.assert_allclose(np.ptp(moved.positions[fragment] - frame.positions[fragment], axis=0), 0, atol=1e-12)
        # Along the bond: it points where it pointed.
        i, j = bonds[bond]
        direction = [f.positions[j] - f.positions[i] for f in (frame, moved)]
        np.testing.assert_allclose(np.cross(*direction), 0, atol=1e-12)


def test_ring_bonds_have_no_fragment():
    _, bonds, fragments = framed("C1CC1C")
    ring = {b for b, (i, j) in enumerate(bonds.tolist()) if {i, j} <= {0, 1, 2}}
    assert len(ring) == 3
    assert set(fragments) == set(range(len(bonds))) - ring


def test_factors_and_bonds_are_drawn_evenly():
    frame, bonds, fragments = framed("CO")
    rng = np.random.default_rng(3)
    before = bond_lengths(frame.positions, bonds)
    factors, chosen = [], []
    for _ in range(1000):
        moved, stretched = stretch_random_bonds(frame, bonds, fragments, count=1, rng=rng, **FACTORS)
        ratios = bond_lengths(moved.positions, bonds) / before
        bond = int(np.argmax(np.abs(ratios - 1)))
        assert stretched == (bond,)
        chosen.append(bond)
        factors.append(ratios[bond])
    counts = np.bincount(chosen, minlength=len(bonds))
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200 * 0.8)
    assert min(factors) >= 0.85 - 1e-9
    assert max(factors) <= 2.0 + 1e-9
    assert np.mean(factors) == pytest.approx(1.425, abs=5 * (1.15 / np.sqrt(12 * 1000)))


@pytest.mark.parametrize("count", [2, 3, 100])
def test_several_bonds_each_once_and_the_rest_rigid(count, rng):
    frame, bonds, fragments = framed("CCO")
    for _ in range(20):
        moved, stretched = stretch_random_bonds(frame, bonds, fragments, count=count, rng=rng, **FACTORS)
        assert len(set(stretched)) == len(stretched)
        assert 0 < len(stretched) <= min(count, len(bonds))
        ratios = bond_lengths(moved.positions, bonds) / bond_lengths(frame.positions, bonds)
        np.testing.assert_allclose(np.delete(ratios, stretched), 1, rtol=1e-12)
        changed = ratios[list(stretched)]
        assert (np.abs(changed - 1) > 1e-6).all()
        assert ((changed > 0.85 - 1e-9) & (changed < 2.0 + 1e-9)).all()


def crowded():
    """Two hydrogen molecules head to head: stretched inwards, the inner atoms would meet."""
    positions = np.array([[0, 0, 0], [0.74, 0, 0], [1.6, 0, 0], [2.34, 0, 0]], dtype=float)
    return Frame(numbers=np.ones(4, dtype=int), positions=positions), np.array([[0, 1], [3, 2]])


def test_atoms_on_top_of_each_other_are_drawn_anew(rng):
    frame, bonds = crowded()
    fragments = movable_fragments(4, bonds)
    contact = 2 * covalent_radii[1]
    apart = stretched_bond(frame, bonds[0], fragments[0], 1.2)
    onto = stretched_bond(frame, bonds[0], fragments[0], 1.5)
    assert not collides(frame, apart, bonds[0], fragments[0])
    assert collides(frame, onto, bonds[0], fragments[0])
    factors = []
    for _ in range(200):
        moved, stretched = stretch_random_bonds(frame, bonds, fragments, count=2, rng=rng, **FACTORS)
        assert stretched
        assert np.linalg.norm(moved.positions[1] - moved.positions[2]) >= contact
        factors += (bond_lengths(moved.positions, bonds) / 0.74).tolist()
    assert max(factors) < 1 + (0.86 - contact) / 0.74 + 0.15 + 1e-9  # the other bond shortened, at most, to 0.85
    assert min(factors) >= 0.85 - 1e-9


def test_a_frame_in_which_every_stretch_collides_is_unchanged(rng):
    frame, bonds = crowded()
    moved, stretched = stretch_random_bonds(
        frame, bonds, movable_fragments(4, bonds), count=2, shortest_factor=1.7, longest_factor=2.2, rng=rng
    )
    assert stretched == ()
    assert moved is frame


def test_collisions_are_seen_across_a_periodic_boundary():
    """An atom that moves out of the cell collides with the atom at the opposite face."""
    positions = np.array([[3.0, 0, 0], [3.74, 0, 0], [0.5, 0, 0], [1.24, 0, 0]])
    frame = Frame(numbers=np.ones(4, dtype=int), positions=positions, cell=5.0 * np.eye(3), pbc=np.ones(3, dtype=bool))
    pair, moving = np.array([0, 1]), np.array([1])
    assert collides(frame, stretched_bond(frame, pair, moving, 3.0), pair, moving)
    alone = Frame(numbers=frame.numbers, positions=positions)
    assert not collides(alone, stretched_bond(alone, pair, moving, 3.0), pair, moving)


def collides_by_all_pairs(before, after, pair, moving):
    """The definition, over every pair of an atom that moved and an atom that stayed."""
    staying = np.setdiff1d(np.arange(len(before)), moving)
    for i, j in itertools.product(moving, staying):
        now, then = (
            np.linalg.norm(nearest_image(frame.positions[i] - frame.positions[j], frame.cell, frame.pbc))
            for frame in (after, before)
        )
        bonded = {int(i), int(j)} == {int(atom) for atom in pair}
        if not bonded and now < covalent_radii[before.numbers[[i, j]]].sum() and now < then:
            return True
    return False


@pytest.mark.parametrize("periodic", [False, True])
def test_collisions_are_those_of_all_pairs(periodic, rng):
    found = []
    for _ in range(200):
        cell = (np.diag(rng.uniform(3.0, 6.0, 3)) + np.tril(rng.uniform(-1.0, 1.0, (3, 3)), -1)) * periodic
        frame = Frame(
            numbers=rng.choice([1, 6, 53], 8), positions=rng.uniform(0, 5.0, (8, 3)), cell=cell, pbc=[periodic] * 3
        )
        moving = np.sort(rng.choice(8, 3, replace=False))
        pair = np.array([moving[0], np.setdiff1d(np.arange(8), moving)[0]])
        moved = stretched_bond(frame, pair, moving, rng.uniform(0.85, 2.0))
        found.append(collides(frame, moved, pair, moving))
        assert found[-1] == collides_by_all_pairs(frame, moved, pair, moving)
    assert 20 < sum(found) < 180


def test_a_lone_atom_has_no_bond_to_stretch(rng):
    atom = Frame(numbers=np.array([18]), positions=np.zeros((1, 3)))
    none = np.zeros((0, 2), dtype=np.int64)
    assert stretch_random_bonds(atom, none, {}, count=1, rng=rng, **FACTORS) == (atom, ())
