"""Stresses of whole boxes: labelled, compared with finite differences, stored, trained on and reported."""

from contextlib import nullcontext
from dataclasses import replace

import ase.io
import h5py
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from stage_runs import begun
from tblite.ase import TBLite

from al_engine.campaign import names
from al_engine.campaign.export import export_labels
from al_engine.config.reader import parse_config, validate_config
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_labelled, write_labelled
from al_engine.files.part_file import open_part
from al_engine.structures.frames import dataset_digest
from flows.cockpit.publish import iteration_markdown
from flows.session.preflight import preflight
from flows.stages.labels.labelling import label_cache
from models import load_committee

TEXT = """
name: water
seed: 3
system: {smiles: O, molecules: 3, shape: box, density_g_per_cm3: 0.3}
initial: {frames: 8, test_frames: 2, duration_ps: 0.5}
model:
  short: {cutoff_ang: 3.5, channels: 8, l_max: 1, radial_mlp: [16]}
  long: {cutoff_ang: 5.0, channels: 4, l_max: 0, radial_mlp: []}
training: {updates: 40, validation_interval: 20, members: 2}
sampling: {temperatures_kelvin: [300], replicas: 2, steps: 20, stride_steps: 10, cost_share: 0}
selection: {max_labels: 3, upper_mev_per_ang: 1.0e+4}
labels: {backend: tblite, chunk_frames: 20, cell_check: {max_height_ang: 0}, force_check: {frames: 1}}
"""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """After one iteration."""
    with begun(tmp_path_factory.mktemp("stress") / "water", TEXT) as campaign:
        campaign.iteration(0)
        yield campaign


def test_every_label_of_a_box_has_the_stress_of_tblite(campaign):
    data = campaign.ledger.dataset()
    assert all(item.stress is not None for item in data)
    for item in data[::4]:
        atoms = item.frame.to_atoms()
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        assert np.allclose(item.stress, atoms.get_stress(voigt=False), atol=2e-6)


def test_it_was_compared_with_finite_differences(campaign):
    for source in (names.INITIAL_FRAMES, names.selection(0)):
        for path in campaign.ledger.label_parts(source)[:1]:
            with open_part(path) as root:
                assert "worst_stress_gpa" in str(root.attrs["force_check"])
                assert ", a stress within 0.0" in str(root.attrs["summary"])


def test_the_error_on_the_test_set_is_that_of_the_committee(campaign):
    record = campaign.ledger.history()[0]
    with open_part(campaign.ledger.part_path(names.evaluation(0))) as root:
        reference, predicted = root["test/stress_reference"][()], root["test/stress_predicted"][()]
        positions = root["test/n_atoms"][()]
    assert len(positions) == 2
    assert record.test_stress_mae_gpa == pytest.approx(160.21766 * np.abs(predicted - reference).mean(), rel=1e-5)
    with open_part(campaign.ledger.part_path(names.INITIAL_DATASET)) as root:
        first = read_labelled(root["test"])[0]
    atoms = first.frame.to_atoms()
    atoms.calc = load_committee(campaign.ledger.directory)
    assert np.allclose(atoms.get_stress(voigt=False), predicted[0], atol=1e-7)
    assert "stress MAE on the test set" in iteration_markdown(campaign.ledger, 0)


def test_it_is_part_of_the_data_sets_digest_and_of_exports(campaign, tmp_path):
    data = campaign.ledger.dataset()
    assert campaign.ledger.dataset_digest() == dataset_digest(data)
    export_labels(campaign.ledger.directory, tmp_path / "all.xyz", file_format="extxyz")
    exported = ase.io.read(tmp_path / "all.xyz", ":")
    assert np.allclose(exported[3].get_stress(voigt=False), data[3].stress, atol=1e-7)


def test_the_cache_keeps_it(campaign):
    ledger = campaign.ledger
    with label_cache(ledger.directory, ledger.config, campaign.level) as cache:
        data = ledger.dataset()[:3]
        found = cache.find([item.frame for item in data])
    assert [found[k].labelled.content_hash() for k in range(3)] == [item.content_hash() for item in data]


def test_a_campaign_that_began_without_stresses_goes_on_without(campaign):
    values = campaign.config.model_dump(mode="json")
    del values["labels"]["stress"], values["training"]["stress_weight"]
    old = validate_config(values, source="test", begun=True)
    assert (old.labels.stress, old.training.stress_weight) == (False, 0.0)
    assert "stress_weight" not in old.training.key_values()
    new = validate_config(values, source="test")
    assert (new.labels.stress, new.training.stress_weight) == (True, 10.0)


def test_older_files_have_no_stress(tmp_path, campaign):
    data = campaign.ledger.dataset()[:2]
    with h5py.File(tmp_path / "a.h5", "w") as root:
        write_labelled(root.create_group("old"), [replace(item, stress=None) for item in data])
        write_labelled(root.create_group("mixed"), [data[0], replace(data[1], stress=None)])
        assert "stress" not in root["old"]
        assert [item.stress for item in read_labelled(root["old"])] == [None, None]
        first, second = read_labelled(root["mixed"])
    assert np.array_equal(first.stress, data[0].stress)
    assert second.stress is None


@pytest.mark.parametrize(("factor", "refused"), [(1.0, False), (-1.0, True), (160.21766, True)])
def test_a_users_stress_is_compared_with_the_campaigns_energies(factor, refused, campaign, tmp_path):
    images = []
    for item in campaign.ledger.dataset()[:3]:
        atoms = item.frame.to_atoms()
        results = {"energy": item.energy, "forces": item.forces, "stress": factor * item.stress}
        atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    ase.io.write(tmp_path / "mine.xyz", images)
    config = parse_config(TEXT + "data: [{file: mine.xyz}]\n", source="test")
    with pytest.raises(InputError, match=r"not the derivative .* GPa") if refused else nullcontext():
        preflight(config, base_dir=tmp_path)
