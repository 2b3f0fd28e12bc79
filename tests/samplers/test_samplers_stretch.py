"""Bond stretching: the one length times the factor, both fragments rigid."""

import numpy as np
import pytest

from al_engine.frames import Frame
from samplers.explosion import bond_lengths
from samplers.molecules import molecule_from_smiles
from samplers.stretch import smaller_fragment, stretch_random_bond, stretchable_bonds, stretched_bond


def framed(smiles):
    molecule = molecule_from_smiles(smiles, seed=1)
    return Frame(numbers=molecule.numbers, positions=molecule.positions), molecule.bonds


@pytest.mark.parametrize("smiles", ["CCO", "CC(N)=O", "O", "C1CC1C"])
@pytest.mark.parametrize("factor", [0.85, 1.7])
def test_length_is_as_drawn_and_fragments_are_rigid(smiles, factor):
    frame, bonds = framed(smiles)
    for bond in stretchable_bonds(len(frame), bonds):
        moved = stretched_bond(frame, bonds, bond, factor)
        before, after = (bond_lengths(f.positions, bonds) for f in (frame, moved))
        assert after[bond] / before[bond] == pytest.approx(factor, rel=1e-12)
        np.testing.assert_allclose(np.delete(after, bond), np.delete(before, bond), rtol=1e-12)
        fragment = smaller_fragment(len(frame), bonds, bond)
        rest = np.setdiff1d(np.arange(len(frame)), fragment)
        assert 0 < len(fragment) <= len(rest)
        np.testing.assert_array_equal(moved.positions[rest], frame.positions[rest])
        np.testing.assert_allclose(np.ptp(moved.positions[fragment] - frame.positions[fragment], axis=0), 0, atol=1e-12)
        # Along the bond: it points where it pointed.
        i, j = bonds[bond]
        direction = [f.positions[j] - f.positions[i] for f in (frame, moved)]
        np.testing.assert_allclose(np.cross(*direction), 0, atol=1e-12)


def test_ring_bonds_are_never_chosen():
    frame, bonds = framed("C1CC1C")
    ring = {b for b, (i, j) in enumerate(bonds.tolist()) if {i, j} <= {0, 1, 2}}
    assert len(ring) == 3
    assert ring.isdisjoint(stretchable_bonds(len(frame), bonds))
    with pytest.raises(ValueError, match="ring"):
        stretched_bond(frame, bonds, min(ring), 1.5)


def test_factors_and_bonds_are_drawn_evenly():
    frame, bonds = framed("CO")
    rng = np.random.default_rng(3)
    before = bond_lengths(frame.positions, bonds)
    factors, chosen = [], []
    for _ in range(1000):
        moved = stretch_random_bond(frame, bonds, shortest_factor=0.85, longest_factor=2.0, rng=rng)
        ratios = bond_lengths(moved.positions, bonds) / before
        bond = int(np.argmax(np.abs(ratios - 1)))
        chosen.append(bond)
        factors.append(ratios[bond])
    counts = np.bincount(chosen, minlength=len(bonds))
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200 * 0.8)
    assert min(factors) >= 0.85 - 1e-9
    assert max(factors) <= 2.0 + 1e-9
    assert np.mean(factors) == pytest.approx(1.425, abs=5 * (1.15 / np.sqrt(12 * 1000)))


def test_a_lone_atom_has_nothing_to_stretch(rng):
    atom = Frame(numbers=np.array([18]), positions=np.zeros((1, 3)))
    none = np.zeros((0, 2), dtype=np.int64)
    assert stretch_random_bond(atom, none, shortest_factor=0.85, longest_factor=2.0, rng=rng) is atom
