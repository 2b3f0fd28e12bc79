"""Kinds of bonds agree with RDKit's canonical ranking, and scans take a bond of each kind."""

import numpy as np
import pytest

from al_engine.structures.bonds import bond_lengths
from al_engine.structures.frames import Frame
from samplers.building.molecules import molecule_from_smiles
from samplers.building.system import tiled_bonds
from samplers.initial.file_frames import _graph
from samplers.probes.bond_kinds import atom_classes, bond_kinds
from samplers.probes.bond_scan import bond_scan

PERFLUOROTRIBUTYLAMINE = "N(" + ")(".join(["C(F)(F)" * 3 + "C(F)(F)F"] * 2) + ")" + "C(F)(F)" * 3 + "C(F)(F)F"


def same_partition(first, second):
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    return len(pairs) == len(set(first.tolist())) == len(set(second.tolist()))


@pytest.mark.parametrize("smiles", ["CCO", "c1ccccc1C", "CC(C)CC(N)=O", "FC(F)(F)CBr", PERFLUOROTRIBUTYLAMINE])
def test_classes_are_rdkits(smiles):
    from rdkit import Chem

    molecule = molecule_from_smiles(smiles, seed=1)
    graph = _graph(molecule.numbers, molecule.bonds)  # without bond orders, which ours does not look at either
    expected = np.array(Chem.CanonicalRankAtoms(graph, breakTies=False, includeChirality=False))
    assert same_partition(atom_classes(molecule.numbers, molecule.bonds), expected)


def test_the_kinds_of_perfluorotributylamine():
    molecule = molecule_from_smiles(PERFLUOROTRIBUTYLAMINE, seed=1)
    kinds = bond_kinds(molecule.numbers, molecule.bonds, limit=100)
    counts = sorted((kind.elements, kind.count) for kind in kinds)
    assert counts == [("C-C", 3)] * 3 + [("C-F", 6)] * 3 + [("C-F", 9), ("C-N", 3)]
    three = bond_kinds(np.tile(molecule.numbers, 3), tiled_bonds(molecule, 3), limit=100)
    assert [(kind.name, kind.count) for kind in three] == [(kind.name, 3 * kind.count) for kind in kinds]
    few = bond_kinds(molecule.numbers, molecule.bonds, limit=4)
    assert sorted(kind.elements for kind in few) == ["C-C", "C-F", "C-F", "C-N"]
    assert max(kind.count for kind in few) == 9


def test_ring_bonds_are_no_kind():
    molecule = molecule_from_smiles("C1CC1C", seed=1)
    names = {kind.name for kind in bond_kinds(molecule.numbers, molecule.bonds, limit=100)}
    assert "C2-C3" in names
    assert names.isdisjoint({"C0-C1", "C1-C2", "C0-C2"})


def test_a_scan_has_the_wanted_lengths():
    molecule = molecule_from_smiles("CCO", seed=1)
    frame = Frame(molecule.numbers, molecule.positions)
    factors = np.linspace(0.85, 2.0, 7)
    for kind in bond_kinds(molecule.numbers, molecule.bonds, limit=100):
        scan = bond_scan(frame, kind, 1.3, factors)
        lengths = [bond_lengths(step.positions, kind.pair[None])[0] for step in scan]
        np.testing.assert_allclose(lengths, 1.3 * factors, rtol=1e-12)


def test_a_scan_leaves_out_frames_with_collisions():
    positions = np.array([[0, 0, 0], [0.74, 0, 0], [1.6, 0, 0], [2.34, 0, 0]], dtype=float)
    frame = Frame(np.ones(4, dtype=int), positions)
    (kind,) = bond_kinds(frame.numbers, np.array([[0, 1], [2, 3]]), limit=1)
    assert kind.count == 2
    scan = bond_scan(frame, kind, 0.74, [1.0, 1.2, 2.0])
    assert [step is None for step in scan] == [False, False, True]
