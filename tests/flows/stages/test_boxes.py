"""A campaign on a box at constant pressure whose labels are of clusters cut from it, stage by stage in this process."""

import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from stage_runs import begun

from al_engine.campaign import names
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.scores import read_new, read_scored
from al_engine.config.reader import parse_config
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_frames
from al_engine.files.part_file import open_part, write_part
from al_engine.selection.cutting import Cutting
from al_engine.selection.fates import Fate
from al_engine.structures.periodic import shortest_image
from flows.cockpit.publish import iteration_markdown
from flows.session.preflight import preflight
from flows.stages.search.selection_inputs import point_cuttings
from models import load_committee
from samplers.dynamics.barostat import volume

torch.set_num_threads(1)

MOLECULES, CUT = 10, 3
BOX = """
name: box
seed: 4
system: {smiles: O, molecules: 10, shape: box, density_g_per_cm3: 0.9}
initial: {frames: 10, test_frames: 4, duration_ps: 0.2, hot_kelvin: 500, stretch: {share: 0.2}}
model:
  short: {cutoff_ang: 3.5, channels: 4, l_max: 1, radial_mlp: [8]}
  long: {cutoff_ang: 5.0, channels: 2, l_max: 0, radial_mlp: []}
training: {optimizer: adam, updates: 20, validation_interval: 10, members: 2}
sampling: {temperatures_kelvin: [300, 500], replicas: 2, steps: 100, stride_steps: 20, timestep_fs: 0.1, cost_share: 0,
  pressure_bar: 2000, stop_deviation_mev_per_ang: 1.0e+6}
selection: {lower_mev_per_ang: 0.001, upper_mev_per_ang: 1.0e+6, max_labels: 6, cut_molecules: 3}
labels: {backend: tblite, chunk_frames: 20}
stop: {max_iterations: 1}
"""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """One iteration of the campaign."""
    with begun(tmp_path_factory.mktemp("box"), BOX) as campaign:
        assert campaign.iteration(0) is not None
    return campaign.ledger


def of_part(ledger, name, group):
    with open_part(ledger.part_path(name)) as root:
        return read_frames(root[group])


def test_whole_clusters_are_labelled(ledger):
    """Initial set, test set and new labels: exactly so many waters, none cut through."""
    test = of_part(ledger, names.INITIAL_DATASET, "test")
    labelled = [item.frame for item in ledger.dataset()]
    assert len(labelled) == 10 + 6
    with open_part(ledger.part_path(names.INITIAL_FRAMES)) as root:
        stretched = root["train/stretched"][()]
    assert stretched.sum() == 2
    for index, frame in enumerate(labelled + test):
        assert not frame.is_periodic
        assert (frame.charge, frame.unpaired_electrons) == (0, 0)
        np.testing.assert_array_equal(frame.numbers, np.tile([8, 1, 1], CUT))
        waters = frame.positions.reshape(CUT, 3, 3)
        bonds = np.linalg.norm(waters[:, 1:] - waters[:, :1], axis=2)
        assert bonds.min() > 0.6
        assert bonds.max() < (2.1 if index < 10 and stretched[index] else 1.4)


def test_dynamics_runs_whole_boxes_that_breathe(ledger):
    starts = of_part(ledger, names.INITIAL_FRAMES, "starts")
    assert len(starts) == 10
    for kelvin in ledger.config.sampling.temperatures_kelvin:
        frames = of_part(ledger, names.sample(0, kelvin), "frames")
        assert len(frames) == 2 * 5  # two replicas, five strides
        assert all(frame.pbc.all() and len(frame) == 3 * MOLECULES for frame in (*frames, *starts))
        assert len({volume(frame) for frame in frames}) > 1
        final = of_part(ledger, names.sample(0, kelvin), "final")
        assert {volume(frame) for frame in final} <= {volume(frame) for frame in frames}


def test_energies_are_the_models_in_the_cells_that_the_frames_carry(ledger):
    """Neighbour lists follow the cell through moves that are accepted and moves that are not."""
    committee = load_committee(ledger.directory).committee
    with open_part(ledger.part_path(names.sample(0, 300.0))) as root:
        frames, energies, driver = read_frames(root["frames"]), root["energy"][()], int(root.attrs["driver"])
    np.testing.assert_allclose(energies, committee.predict(frames)[0][driver], rtol=0, atol=1e-4)
    with_other_cell = [replace(frame, cell=1.01 * frame.cell) for frame in frames]
    assert np.abs(energies - committee.predict(with_other_cell)[0][driver]).min() > 1e-3  # it would show


def test_every_cluster_is_known_by_the_box_it_was_cut_from(ledger):
    """Around the molecule with the worst atom, its molecules are nearer to it than all others of the box."""
    masses = np.array([15.999, 1.008, 1.008])
    with open_part(ledger.part_path(names.selection(0))) as root:
        clusters, chosen = read_frames(root["selected"]), root["chosen"][()]
        source, worst = root["source"][()], root["worst_atom"][()]
        atoms = root["selected/atom"][()].reshape(len(clusters), -1)
        centres = root["selected/centre_molecule"][()]
    assert len(clusters) == 6
    boxes = [of_part(ledger, names.sample(0, kelvin), "frames") for kelvin in (300.0, 500.0)]
    for cluster, index, own, centre in zip(clusters, chosen, atoms, centres, strict=True):
        box = boxes[source[index, 0]][source[index, 1]]
        assert centre == worst[index] // 3
        middles = np.average(box.positions.reshape(-1, 3, 3), axis=1, weights=masses)
        vectors = shortest_image(middles - middles[centre], box.cell, box.pbc)
        nearest = np.sort(np.argsort(np.linalg.norm(vectors, axis=1))[:CUT])
        np.testing.assert_array_equal(own[::3] // 3, nearest)
        found = np.average(cluster.positions.reshape(CUT, 3, 3), axis=1, weights=masses)
        np.testing.assert_allclose(found, vectors[nearest], atol=1e-9)


def test_clusters_are_scored_where_they_stand_for_the_box(ledger):
    """In clusters of three waters that is the central molecule; the record has its error, `forces_*` have all atoms."""
    with open_part(ledger.part_path(names.selection(0))) as root:
        own, centres = root["selected/atom"][()], root["selected/centre_molecule"][()]
        interior = root["selected/interior"][()]
    np.testing.assert_array_equal(interior, own // 3 == np.repeat(centres, 3 * CUT))
    with open_part(ledger.part_path(names.evaluation(0))) as root:
        for name, frames in (("new", 6), ("test", 4)):
            inside = root[name]["interior/atoms"][()]
            assert inside.reshape(frames, CUT, 3).all(axis=2).sum(axis=1).tolist() == [1] * frames
            wrong = root[name]["forces_predicted"][()] - root[name]["forces_reference"][()]
            largest = np.linalg.norm(wrong[inside], axis=1).reshape(frames, 3).max(axis=1)
            np.testing.assert_allclose(read_scored(root[name], "norm").error, largest)
            assert (largest <= root[name]["force_error"][()]).all()
            if name == "new":
                np.testing.assert_array_equal(inside, interior)
                mae = 1e3 * np.abs(wrong[inside]).mean()
    assert ledger.history()[0].error_before_training_mev_per_ang == pytest.approx(mae)
    assert "the atoms that stand for the box" in iteration_markdown(ledger, 0)


def test_a_selection_of_an_earlier_version_has_the_central_molecules(ledger, tmp_path):
    """Its part lacks the interior; the central molecules follow from the indices of the atoms."""
    expected = read_new(ledger.reader(), ledger.config, 0).interior
    shutil.copytree(ledger.parts_directory, tmp_path / "parts")
    part = tmp_path / "parts" / f"{names.selection(0)}.h5"
    with open_part(ledger.part_path(names.selection(0))) as root:
        part.unlink()
        with write_part(part, kind="", key="") as old:
            for name in root:
                root.copy(name, old)
            del old["selected/interior"]
    earlier = PartReader(tmp_path, ledger.reader().names)
    for found, atoms in zip(read_new(earlier, ledger.config, 0).interior, expected, strict=True):
        np.testing.assert_array_equal(found, atoms)


def test_fates_are_those_of_the_boxes(ledger):
    with h5py.File(ledger.part_path(names.append(0))) as root:
        fates = root["fate"][()]
    assert len(fates) == 20
    assert (fates == Fate.LABELLED).sum() == 6


def test_centres_drawn_by_lot_differ_from_the_worst(ledger):
    frames = of_part(ledger, names.sample(0, 300.0), "frames")
    cutting = point_cuttings(ledger.reader(), ledger.config, ledger.config.state_points)[0]
    by_lot = Cutting(bonds=cutting.bonds, cut=cutting.cut, centre="random", seed=1)
    common = {
        "iteration": 0,
        "worst_atom": np.zeros(len(frames), dtype=int),
        "worst_molecule": np.full(len(frames), 4),
        "by_net_force": np.arange(len(frames)) % 2 == 1,
    }
    everywhere = [by_lot.apply(frames, np.arange(len(frames)), **common) for _ in range(2)]
    drawn = [one.molecule for one in everywhere[0]]
    assert drawn == [one.molecule for one in everywhere[1]]
    assert len(set(drawn)) > 3
    # One frame's lot does not hang on which others are candidates.
    alone = by_lot.apply(
        frames[3:4], np.array([3]), **{k: v if k == "iteration" else v[3:4] for k, v in common.items()}
    )
    assert alone[0].molecule == drawn[3]
    for one in everywhere[0]:
        assert one.atoms[one.focus] == (0 if 0 in one.atoms else 3 * one.molecule)
    surest = cutting.apply(frames, np.arange(len(frames)), **common)
    assert [one.molecule for one in surest] == [4 if k % 2 else 0 for k in range(len(frames))]


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("{smiles: 'CO', molecules: 8, charge: 4, shape: box, density_g_per_cm3: 0.5}", "does not divide"),
        (
            "{smiles: '[OH]', molecules: 8, unpaired_electrons: 0, shape: box, density_g_per_cm3: 0.5}",
            "cut another number of molecules",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_at_once(tmp_path, system, message):
    config = parse_config(f"name: odd\nsystem: {system}\nselection: {{cut_molecules: 3}}\n", source="test")
    with pytest.raises(InputError, match=message):
        preflight(config, base_dir=tmp_path)


def test_charge_of_a_cluster_is_its_molecules(tmp_path):
    text = "name: ions\nsystem: {smiles: 'C[NH3+]', molecules: 8, shape: box, density_g_per_cm3: 0.5}\n"
    checked = preflight(parse_config(text + "selection: {cut_molecules: 3}\n", source="test"), base_dir=tmp_path)
    assert (checked.systems[0].system.frame.charge, checked.systems[0].labelled.frame.charge) == (8, 3)
    assert not checked.systems[0].labelled.frame.is_periodic
