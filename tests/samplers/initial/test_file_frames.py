"""A user's trajectory, in its own order of atoms, wrapped into its cell: the system's frames all the same."""

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.distance import pdist

from al_engine.config import SystemConfig
from al_engine.errors import InputError
from al_engine.structures.bonds import bond_lengths
from al_engine.structures.clusters import nearest_molecules
from al_engine.structures.frames import Frame
from samplers.building.system import boxed, build_system
from samplers.initial.file_frames import frames_of_file, in_system_order, molecules_in


def system_of(smiles="CCO", **more):
    return build_system(SystemConfig(smiles=smiles, density_g_per_cm3=0.7, **more), base_dir=Path(), seed=1)


def shuffled(box, rng, *, heat_ang=0.0):
    """The box as another program has it: atoms in another order, every atom in the cell, hot."""
    order = rng.permutation(len(box.frame))
    moved = box.frame.positions + rng.normal(0, 1, box.frame.positions.shape) * heat_ang
    wrapped = moved - np.floor(moved @ np.linalg.inv(box.frame.cell)) @ box.frame.cell
    frame = box.frame
    return Frame(numbers=frame.numbers[order], positions=wrapped[order], cell=frame.cell, pbc=frame.pbc), order


@pytest.mark.parametrize("smiles", ["CCO", "C1CC1C", "N(C(F)(F)F)(C(F)(F)F)C(F)(F)F"])
def test_clusters_are_cut_from_a_box_in_any_order(smiles, rng):
    system = system_of(smiles, molecules=3)
    box = boxed(system, 8, seed=2)
    frame, _ = shuffled(box, rng)
    (found,) = in_system_order([frame], system, "mine.xyz")
    expected, _ = nearest_molecules(box.frame, box.molecules.copy_of_atom, box.bonds.pairs, 3)
    assert not found.is_periodic
    np.testing.assert_array_equal(found.numbers, system.frame.numbers)
    lengths = [bond_lengths(f.positions, system.bonds.pairs) for f in (found, expected)]
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=0.02)  # like atoms may have changed places
    for z in set(found.numbers.tolist()):  # the same atoms at the same places, whichever of a kind is called which
        ours, theirs = (f.positions[f.numbers == z] for f in (found, expected))
        nearest = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
        assert sorted(nearest.argmin(axis=1).tolist()) == list(range(len(ours)))
        assert nearest.min(axis=1).max() < 1e-9


@pytest.mark.parametrize(
    "given",
    [
        {"smiles": "O", "molecules": 4},
        {"species": [{"smiles": "[Na+]"}, {"smiles": "CC(=O)[O-]"}, {"smiles": "O", "count": 3}]},
    ],
)
def test_a_cluster_that_its_cell_has_wrapped_is_put_together(given, rng, tmp_path):
    """As plane-wave programs write clusters; as frames, and as the structure of a campaign."""
    system = build_system(SystemConfig(**given), base_dir=Path(), seed=1)
    cell = 18.0 * np.eye(3)
    wrapped = np.mod(system.frame.positions + np.array([0.5, 17.5, 9.0]), 18.0)
    order = rng.permutation(len(wrapped))
    frame = Frame(numbers=system.frame.numbers[order], positions=wrapped[order], cell=cell, pbc=np.ones(3, bool))
    (found,) = in_system_order([frame], system, "mine.xyz")
    assert not found.is_periodic
    np.testing.assert_array_equal(found.numbers, system.frame.numbers)
    ase.io.write(tmp_path / "cell.xyz", frame.to_atoms())
    read = build_system(SystemConfig(structure="cell.xyz", shape="cluster"), base_dir=tmp_path, seed=1).frame
    assert not read.is_periodic
    for one in (found, read):
        expected, ours = (np.sort(pdist(each.positions)) for each in (system.frame, one))
        np.testing.assert_allclose(ours, expected, atol=1e-5)
        assert np.abs(one.positions.mean(axis=0)).max() < 1e-6


@pytest.mark.parametrize(
    ("solute", "missing", "info"),
    [
        ("[O-]S(=O)(=O)[O-]", "ions, and states no charge", {"charge": -2}),
        ("[Mg+2]", "ions, and states no charge", {"charge": 2}),
        ("O=O", "unpaired electrons, and does not state", {"unpaired_electrons": 2}),
        ("CO", None, {}),
    ],
)
def test_a_frame_of_other_size_says_what_an_ion_or_radical_needs(solute, missing, info, tmp_path):
    """Its number of electrons is even in any case, so that a label of the wrong state would not fail."""

    def hydrated(count):
        spin = {"unpaired_electrons": 2} if solute == "O=O" else {}
        species = [{"smiles": solute, **spin}, {"smiles": "O", "count": count}]
        return build_system(SystemConfig(species=species), base_dir=Path(), seed=1)

    system, smaller = hydrated(3), hydrated(2).frame
    bare = Atoms(smaller.numbers, smaller.positions)
    ase.io.write(tmp_path / "mine.xyz", bare)
    if missing is not None:
        with pytest.raises(InputError, match=missing):
            frames_of_file(tmp_path / "mine.xyz", system, system)
    bare.info.update(info)
    ase.io.write(tmp_path / "mine.xyz", bare)
    (frame,) = frames_of_file(tmp_path / "mine.xyz", system, system).frames
    assert (frame.charge, frame.unpaired_electrons) == (info.get("charge", 0), info.get("unpaired_electrons", 0))


def test_frames_of_the_same_elements_may_have_another_order_of_atoms(rng):
    """As in files that are sorted by elements: the hydrogen atoms of two molecules have changed places."""
    system = system_of("O", molecules=3)
    frame = system.frame
    swapped = np.arange(9)
    swapped[[1, 2, 4, 5]] = [4, 5, 1, 2]
    other = replace(frame, positions=frame.positions[swapped] + rng.normal(scale=0.01, size=(9, 3)))
    for found in in_system_order([frame, other], system, "mine.xyz"):
        assert np.abs(bond_lengths(found.positions, system.bonds.pairs) - system.bonds.lengths).max() < 0.1


def test_the_order_found_once_holds_for_frames_that_show_no_molecules():
    """So hot that bonds look broken: the order is that of the frames where they do not."""
    system = system_of(molecules=2)
    box = boxed(system, 6, seed=2)
    cold, order = shuffled(box, np.random.default_rng(5))
    hot, same = shuffled(box, np.random.default_rng(5), heat_ang=0.15)
    np.testing.assert_array_equal(order, same)
    assert molecules_in(hot, system.molecule) is None
    with pytest.raises(InputError, match=r"frame 0 \(C12H36O6\) is periodic and holds 0 molecules of SMILES 'CCO'"):
        in_system_order([hot], system, "mine.xyz")
    found = in_system_order([hot, cold], system, "mine.xyz")
    for frame in found:
        np.testing.assert_array_equal(frame.numbers, system.frame.numbers)
    assert np.abs(bond_lengths(found[0].positions, system.bonds.pairs) - system.bonds.lengths).max() < 0.9


def test_a_boxs_own_frames_are_ordered_and_whole(rng):
    system = system_of(molecules=8, shape="box")
    frame, _ = shuffled(system, rng)
    (found,) = in_system_order([frame], system, "mine.xyz")
    np.testing.assert_array_equal(found.numbers, system.frame.numbers)
    np.testing.assert_array_equal(found.cell, system.frame.cell)
    np.testing.assert_allclose(bond_lengths(found.positions, system.bonds.pairs), system.bonds.lengths, rtol=0.02)


def test_clusters_are_put_in_order_and_frames_of_other_atoms_are_unchanged(rng):
    system, other = system_of(molecules=2), system_of("CO")
    order = rng.permutation(len(system.frame))
    mixed = Frame(numbers=system.frame.numbers[order], positions=system.frame.positions[order])
    found = in_system_order([mixed, other.frame, system.frame], system, "mine.xyz")
    np.testing.assert_array_equal(found[0].numbers, system.frame.numbers)
    np.testing.assert_allclose(bond_lengths(found[0].positions, system.bonds.pairs), system.bonds.lengths, rtol=0.02)
    assert found[1] is other.frame


def test_a_box_of_too_few_or_other_molecules_is_refused():
    system = system_of(molecules=3)
    few = boxed(system, 2, seed=2).frame
    with pytest.raises(InputError, match=r"is periodic and holds 2 molecules .* a cluster of 3 cannot be cut"):
        in_system_order([few], system, "mine.xyz")
    isomer = boxed(system_of("COC"), 4, seed=2).frame
    with pytest.raises(InputError, match="holds 0 molecules"):
        in_system_order([isomer], system, "mine.xyz")
