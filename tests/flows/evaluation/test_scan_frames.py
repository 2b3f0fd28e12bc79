"""Which frames bonds are stretched in: the coldest test frames, as they are labelled, or one molecule of each."""

from pathlib import Path

import numpy as np
import pytest

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.config import CampaignConfig, SystemConfig
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import write_frames
from al_engine.files.part_file import write_part
from al_engine.structures.bonds import bond_lengths
from flows.evaluation.scan_frames import scan_subject
from samplers.building.clusters import cluster_of
from samplers.building.system import build_system

KELVINS = [900.0, 300.0, 500.0, 300.0]


def ledger_of(directory, system, test, *, kelvins=KELVINS):
    """A campaign with its initial frames, of which the test frames and the topology are looked at."""
    config = CampaignConfig(name="made", system=SystemConfig(smiles="CO"))
    ledger = Ledger(directory, config)
    ledger.begin()
    with write_part(ledger.part_path(names.INITIAL_FRAMES), kind=names.INITIAL_FRAMES, key="k") as root:
        write_frames(root.create_group("system"), [system.frame])
        root["bonds"], root["bond_lengths"] = system.bonds.pairs, system.bonds.lengths
        root["molecule_of_atom"] = system.molecules.copy_of_atom
        write_frames(root.create_group("test"), test)
        root["test/temperature_kelvin"] = np.array(kelvins)
    return ledger


def system_of(molecules, **more):
    return build_system(SystemConfig(smiles="CCO", molecules=molecules, **more), base_dir=Path(), seed=1)


def moved(frame, shift):
    return frame.with_positions(frame.positions + shift)


def test_the_coldest_frames_come_first(tmp_path):
    system = system_of(2)
    ledger = ledger_of(tmp_path, system, [moved(system.frame, k) for k in range(4)])
    found = scan_subject(ledger, of="system", count=3)
    starts = [frame.positions[0, 0] - system.frame.positions[0, 0] for frame in found.frames]
    np.testing.assert_allclose(starts, [1, 3, 2])
    np.testing.assert_array_equal(found.bonds, system.bonds.pairs)
    np.testing.assert_array_equal(found.lengths, system.bonds.lengths)


def test_one_molecule_of_a_cluster(tmp_path):
    system = system_of(3, charge=3, unpaired_electrons=3)
    found = scan_subject(ledger_of(tmp_path, system, [system.frame] * 4), of="molecule", count=2)
    for frame in found.frames:
        np.testing.assert_array_equal(frame.numbers, system.molecule.numbers)
        assert (frame.charge, frame.unpaired_electrons) == (1, 1)
        np.testing.assert_allclose(bond_lengths(frame.positions, found.bonds), found.lengths, rtol=0.01)


def test_charges_that_do_not_divide_are_refused(tmp_path):
    system = system_of(2, charge=1, unpaired_electrons=1)
    with pytest.raises(InputError, match=r"--of molecule: \+1 e and 1 unpaired .* do not divide among 2"):
        scan_subject(ledger_of(tmp_path, system, [system.frame] * 4), of="molecule", count=1)


def test_clusters_cut_from_a_box_have_the_bonds_of_so_many_molecules(tmp_path):
    box = system_of(6, shape="box", density_g_per_cm3=0.6)
    cluster = cluster_of(box, 2)
    found = scan_subject(ledger_of(tmp_path, box, [cluster.frame] * 4), of="system", count=2)
    np.testing.assert_array_equal(found.bonds, cluster.bonds.pairs)
    assert not found.frames[0].is_periodic


def test_a_boxs_molecules_are_made_whole(tmp_path):
    box = system_of(6, shape="box", density_g_per_cm3=0.6)
    wrapped = box.frame.to_atoms()
    wrapped.wrap()
    test = [box.frame.with_positions(wrapped.positions)] * 4
    assert bond_lengths(test[0].positions, box.bonds.pairs).max() > 3.0
    found = scan_subject(ledger_of(tmp_path, box, test), of="system", count=1)
    np.testing.assert_allclose(bond_lengths(found.frames[0].positions, found.bonds), found.lengths, rtol=0.01)


def test_frames_of_something_else_are_no_subject(tmp_path):
    system, other = system_of(2), build_system(SystemConfig(smiles="CO"), base_dir=Path(), seed=1)
    with pytest.raises(InputError, match="no test frame consists of"):
        scan_subject(ledger_of(tmp_path, system, [other.frame] * 4), of="system", count=1)
