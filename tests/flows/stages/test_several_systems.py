"""Several systems in one campaign: a molecule, a pair of them, and a solution that is cut into clusters."""

from collections import Counter

import numpy as np
import pytest
from ase.units import Bohr, Hartree
from stage_runs import begun
from tblite.interface import Calculator

from al_engine import Campaign
from al_engine.campaign import names
from al_engine.campaign.audit.verify import verify
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.scores import read_test
from al_engine.config import StatePoint
from al_engine.config.reader import parse_config
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_frames, write_frames, write_labelled
from al_engine.files.part_file import open_part, write_part
from al_engine.structures.frames import Frame, LabelledFrame
from flows.cockpit.publish import iteration_markdown
from flows.evaluation.verb import evaluate
from flows.pages.display import Display
from flows.pages.status import campaign_status
from flows.session.preflight import preflight
from flows.session.retry_labels import retry_failed_labels

TEXT = """
name: several
seed: 7
systems:
- {name: single, smiles: CO}
- {name: pair, smiles: CO, molecules: 2, temperatures_kelvin: [300], initial: {frames: 10, source: anneal}}
- name: salty
  species: [{smiles: CO, count: 5}, {smiles: '[Na+]'}, {smiles: '[Cl-]'}]
  shape: box
  density_g_per_cm3: 0.8
  cut_molecules: 3
  temperatures_kelvin: [400]
initial: {frames: 12, test_frames: 6, duration_ps: 0.5}
model:
  short: {cutoff_ang: 4.0, channels: 8, l_max: 1, radial_mlp: [16]}
  long: {cutoff_ang: 6.0, channels: 4, l_max: 0, radial_mlp: []}
training: {updates: 60, validation_interval: 20, members: 2}
sampling: {temperatures_kelvin: [300, 900], replicas: 3, steps: 60, stride_steps: 10, cost_share: 0}
selection: {max_labels: 10, lower_mev_per_ang: 250, upper_mev_per_ang: 1.0e+4}
labels: {backend: tblite, chunk_frames: 20}
stop: {iterations: 1, acceptance: 0.9, confidence: 0.6, verdicts: 1, judge_first: true, max_rejected_share: 1.0,
       max_stopped_share: 1.0, audit_labels: 8}
"""
POINTS = [
    StatePoint("single", 300.0),
    StatePoint("single", 900.0),
    StatePoint("pair", 300.0),
    StatePoint("salty", 400.0),
]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """After one iteration."""
    with begun(tmp_path_factory.mktemp("systems") / "several", TEXT) as campaign:
        campaign.iteration(0)
        yield campaign


def composition(frame):
    return Counter(frame.numbers.tolist())


def test_each_system_has_its_own_initial_set_and_test_set(campaign):
    with open_part(campaign.ledger.part_path(names.INITIAL_DATASET)) as root:
        assert root.attrs["systems"].tolist() == ["single", "pair", "salty"]
        assert np.bincount(root["system"][()]).tolist() == [12, 10, 12]
    test = read_test(campaign.ledger.reader(), campaign.config)
    assert np.bincount(test.system).tolist() == [6, 6, 6]
    assert {len(item) for item, system in zip(test.frames, test.system, strict=True) if system == 1} == {12}
    for item, interior, system in zip(test.frames, test.interior, test.system, strict=True):
        assert interior.all() == (system < 2)  # only the clusters of the solution were cut from something
        assert len(interior) == len(item)


def test_each_state_point_is_sampled_with_its_own_system(campaign):
    for point in POINTS:
        with open_part(campaign.ledger.part_path(names.sample(0, point.temperature_kelvin, point.system))) as root:
            frames = read_frames(root["frames"], rows=np.array([0]))
            assert root.attrs["temperature_kelvin"] == point.temperature_kelvin
        with open_part(campaign.ledger.part_path(names.initial_frames(point.system))) as root:
            assert composition(frames[0]) == composition(read_frames(root["system"])[0])
    record = campaign.ledger.history()[0]
    assert [t.point for t in record.temperatures] == POINTS
    assert sum(t.counts.sampled for t in record.temperatures) == record.counts.sampled
    assert [errors.system for errors in record.systems] == ["single", "pair", "salty"]
    assert all(errors.test_force_mae_mev_per_ang > 0 for errors in record.systems)


def test_every_system_gets_labels_that_are_gfn2s(campaign):
    """Of its whole frames, or of clusters with the charges of their ions."""
    data = campaign.ledger.dataset()
    for item in data[:: len(data) // 12]:
        frame = item.frame
        calculator = Calculator(
            "GFN2-xTB", frame.numbers, frame.positions / Bohr, frame.charge, frame.unpaired_electrons
        )
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
        assert item.energy == pytest.approx(Hartree * result.get("energy"), abs=1e-5)
        forces = -Hartree / Bohr * result.get("gradient")
        assert np.abs(item.forces - forces).max() < 1e-3
    with open_part(campaign.ledger.part_path(names.selection(0))) as root:
        chosen = Counter(POINTS[part].system for part in root["source"][()][root["chosen"][()], 0].tolist())
    assert sum(chosen.values()) == 10
    assert set(chosen) == {"single", "pair", "salty"}


def test_the_verdict_and_the_pages_know_the_systems(campaign):
    state = campaign_status(campaign.ledger.directory)
    assert [row["system"] for row in state["iterations"][0]["temperatures"]] == [point.system for point in POINTS]
    page = iteration_markdown(campaign.ledger, 0)
    assert "| salty, 400 K |" in page
    assert "force MAE on its test set" in page
    sampled = Counter(atoms.info["system"] for atoms in Campaign(campaign.ledger.directory).frames())
    assert sampled == {
        name: sum(t.counts.sampled for t in campaign.ledger.history()[0].temperatures if t.system == name)
        for name in ("single", "pair", "salty")
    }


def test_lost_labels_of_a_system_are_rebuilt_from_the_data_set(campaign):
    ledger = campaign.ledger
    assert verify(ledger.directory, repaired=False)[0]["sound"]
    path = ledger.part_path("initial-pair-labels-00001-00016")
    before = path.read_bytes()
    path.unlink()
    assert not verify(ledger.directory, repaired=False)[0]["sound"]
    verify(ledger.directory, repaired=True)
    assert verify(ledger.directory, repaired=False)[0]["sound"]
    with open_part(path) as root:
        assert {len(frame) for frame in read_frames(root["labelled"])} == {12}
    path.write_bytes(before)


def test_an_evaluation_of_one_system_names_it(campaign, tmp_path):
    directory, options = campaign.ledger.directory, {"steps": 20, "replicas": 2}

    def run(what, **given):
        return evaluate(directory, what, output=tmp_path, options=given, display=Display(quiet=True))

    errors, text = run("errors")
    assert {(row["system"], row["kelvin"]) for row in errors["temperatures"]} >= {("salty", 400.0), ("pair", 300.0)}
    assert "salty, 400 K" in text
    with pytest.raises(InputError, match="name one with --system: single, pair, salty"):
        run("stability", **options)
    with pytest.raises(InputError, match=r"--system liquid: .* has the systems single, pair, salty"):
        run("stability", system="liquid", **options)
    answer, _ = run("stability", system="pair", **options)
    assert answer["system"] == "pair"
    assert answer["replicas"] == 2


def test_an_error_of_a_system_names_it(tmp_path):
    text = "name: two\nsystems: [{name: good, smiles: O}, {name: bad, smiles: '[He]'}]\nlabels: {backend: tblite}\n"
    with pytest.raises(InputError, match=r"^bad: .* is a single atom"):
        preflight(parse_config(text, source="test"), base_dir=tmp_path)


def test_failed_labels_of_any_system_are_tried_again(tmp_path):
    text = "name: two\nsystems: [{name: a, smiles: O}, {name: b, smiles: O}]\nlabels: {backend: tblite}\n"
    ledger = Ledger(tmp_path, parse_config(text, source="test"))
    ledger.begin()
    frames = [Frame([8, 1, 1], np.eye(3) + 0.01 * k) for k in range(3)]
    for name, reasons in (("a", ["ok", "ok", "ok"]), ("b", ["ok", "time_limit", "ok"])):
        source = names.initial_frames(name)
        with write_part(ledger.part_path(source), kind="", key="") as root:
            write_frames(root.create_group("train"), frames[:2])
            write_frames(root.create_group("test"), frames[2:])
        with write_part(ledger.part_path(names.labels(source, 1, 3)), kind="", key="") as root:
            sound = [frame for frame, reason in zip(frames, reasons, strict=True) if reason == "ok"]
            write_labelled(root.create_group("labelled"), [LabelledFrame(frame, 1.0, np.eye(3)) for frame in sound])
            root["reason"] = np.array(reasons, dtype="S")
    said = list(retry_failed_labels(ledger))
    assert any("1 failed labels of the initial set are tried again" in line for line in said)
    assert not ledger.part_path("initial-b-labels-00001-00003").exists()
    assert ledger.part_path("initial-b-labels-00001-00003").with_suffix(".journal").exists()
    assert ledger.part_path("initial-a-labels-00001-00003").exists()
