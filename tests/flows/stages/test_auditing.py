"""Audits of a campaign whose parts are written by hand; committee and labels are made up."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from stage_runs import StageRuns

from al_engine import Campaign
from al_engine.campaign import names
from al_engine.campaign.audit.counts import count_findings, gap_findings
from al_engine.campaign.judged import judged_temperatures
from al_engine.campaign.labels import LabelOutcome, LabelReason, LevelOfTheory
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.scores import Labelled
from al_engine.config import StopConfig
from al_engine.config.reader import parse_config
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_frames, write_frames, write_labelled
from al_engine.files.part_file import open_part, write_part
from al_engine.selection.fates import Fate
from al_engine.selection.window import Window
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.verdict.records import IterationRecord
from al_engine.verdict.verdict import VerdictKind
from flows.cockpit.publish import iteration_markdown
from flows.pages.status import campaign_status, remarks
from flows.session.resume import first_unfinished
from flows.session.retry_labels import retry_failed_labels
from flows.stages.audits import auditing
from flows.stages.audits.judging import due_audits
from flows.stages.order import audit_steps

KELVINS = (300.0, 900.0)
FRAMES, MOLECULES = 80, 4
WATER = molecule("H2O").positions
CONFIG = """
name: audited
system: {system}
sampling: {{temperatures_kelvin: [300, 900], replicas: 4}}
training: {{members: 2}}
selection: {{lower_mev_per_ang: 100, upper_mev_per_ang: 300{cut}}}
labels: {{backend: tblite, chunk_frames: 5, force_check: {{frames: 0}}}}
stop: {{iterations: 2, acceptance: 0.1, confidence: 0.9, audit_labels: 12, audit_bad_share: 0.2}}
"""
LEVEL = LevelOfTheory("GFN2-xTB", "tblite", "0", {})


class Labels:
    """A pool whose labels have no forces; frames in `failing` have no label."""

    def __init__(self):
        self.asked, self.failing, self.stops_after = 0, (), None

    def label(self, frames, *, record=None, **_):
        outcomes = []
        for index, frame in enumerate(frames):
            if self.asked == self.stops_after:
                raise KeyboardInterrupt
            failed = self.asked in self.failing
            label = None if failed else LabelledFrame(frame, 0.0, np.zeros((len(frame), 3)))
            reason, message = (LabelReason.TIME_LIMIT, "too long") if failed else (LabelReason.OK, "")
            outcomes.append(LabelOutcome(reason, message, label, 0.0))
            self.asked += 1
            if record is not None:
                record(index, outcomes[-1])
        return outcomes


class Committee:
    """Members that agree on a force on the first atom, of a size that is given for each frame."""

    n_members = 2

    def __init__(self, errors):
        self._errors = errors

    def predict(self, frames, *, batch_size):
        del batch_size
        forces = [np.zeros((2, len(frame), 3)) for frame in frames]
        for own, error in zip(forces, self._errors, strict=True):
            own[:, 0, 0] = error
        return np.zeros((2, len(frames))), forces


def water(rng):
    return Frame(numbers=[8, 1, 1], positions=WATER + rng.normal(scale=0.02, size=WATER.shape))


def box(rng):
    """Four waters in a row, 3 Å apart."""
    shifts = np.repeat(3.0 * np.arange(MOLECULES), 3)[:, None] * [1.0, 0.0, 0.0]
    positions = np.tile(WATER, (MOLECULES, 1)) + shifts + rng.normal(scale=0.02, size=(3 * MOLECULES, 3))
    return Frame([8, 1, 1] * MOLECULES, positions, cell=np.diag([12.0, 15.0, 15.0]), pbc=[True] * 3)


class Made(StageRuns):
    """A campaign whose finished iterations are written by hand; only audits are run."""

    def __init__(self, directory, *, cut=False):
        system = "{smiles: O, molecules: 4, shape: box, density_g_per_cm3: 0.9}" if cut else "{smiles: O}"
        text = CONFIG.format(system=system, cut=", cut_molecules: 2" if cut else "")
        ledger = Ledger(directory, parse_config(text, source="test"))
        ledger.write_config()
        ledger.begin()
        super().__init__(ledger, level=LEVEL, label_pool=Labels())
        self.make, copies = (box, MOLECULES) if cut else (water, 1)
        if ledger.parts():
            return  # a copy
        whole = self.make(np.random.default_rng(0))
        with self.part(names.INITIAL_FRAMES) as root:
            write_frames(root.create_group("system"), [whole])
            write_frames(root.create_group("train"), [])
            write_frames(root.create_group("test"), [])
            if cut:
                single = Frame([8, 1, 1] * 2, np.vstack([WATER, WATER + np.array([3.0, 0.0, 0.0])]))
                write_frames(root.create_group("cluster"), [single])
            root["bonds"] = np.array([[3 * k, 3 * k + h] for k in range(copies) for h in (1, 2)])
            root["bond_lengths"] = np.full(2 * copies, 0.97)
            root["molecule_of_atom"] = np.repeat(np.arange(copies), 3)
        with self.part(names.INITIAL_DATASET) as root:
            write_labelled(root.create_group("labelled"), [label(water(np.random.default_rng(k))) for k in range(3)])
            write_labelled(root.create_group("test"), [])

    def part(self, name):
        return write_part(self.ledger.part_path(name), kind=name, key="")

    def finish(self, iteration):
        """Write an iteration: 300 K and 900 K, every tenth frame a candidate, the last frame rejected; 2 labels."""
        rng = np.random.default_rng(iteration)
        for index in range(2):
            with self.part(names.member(iteration, index)) as root:
                root["nothing"] = np.zeros(1)
        deviation = rng.uniform(0.01, 0.09, size=(2, FRAMES))
        fates = np.full((2, FRAMES), Fate.ACCURATE, dtype=np.int8)
        fates[:, ::40], deviation[:, ::40] = Fate.CORRELATED, 0.2
        fates[0, [0, 40]] = Fate.LABELLED
        n_atoms = len(self.make(rng))
        for kelvin, own in zip(KELVINS, deviation, strict=True):
            with self.part(names.sample(iteration, kelvin)) as root:
                write_frames(root.create_group("frames"), [self.make(rng) for _ in range(FRAMES)])
                root["deviation_norm"], root["deviation_component"] = own, 0.5 * own
                root["net_force_deviation"] = np.zeros(FRAMES)
                root["worst_atom"] = rng.integers(n_atoms, size=FRAMES)
                root["worst_molecule"] = np.zeros(FRAMES, dtype=int)
                root["sound"], root["step"] = np.ones(FRAMES, dtype=bool), 20 * np.arange(1, FRAMES + 1)
                root["replica"], root["slot"] = np.repeat(np.arange(4), FRAMES // 4), np.arange(4)
                root["stop_reason"] = np.array(["completed"] * 4, dtype="S")
                root["continues"] = np.zeros(4, dtype=bool)
                root.attrs["steps"] = 400
        fates = fates.ravel()
        selected = [label(self.make(rng)) for _ in range(2)]
        with self.part(names.selection(iteration)) as root:
            root["fate"], root["chosen"] = fates, np.flatnonzero(fates == Fate.LABELLED)
            root["deviation_norm"] = deviation.ravel()
            write_frames(root.create_group("selected"), [item.frame for item in selected])
            root.attrs.update(Window(100.0, 300.0).to_attributes())
        with self.part(names.labels(names.selection(iteration), 1, 2)) as root:
            write_labelled(root.create_group("labelled"), selected)
            root["reason"], root["message"] = np.array([b"ok"] * 2), np.array([b""] * 2, dtype="S400")
        with self.part(names.evaluation(iteration)) as root:
            for group in ("test", "new"):
                auditing.write_scores(root.create_group(group), Committee([]), Labelled([], np.empty(0)))
        record = IterationRecord(
            iteration, (), 2, 0, self.ledger.dataset_size() + 2, None, 20.0, 1.0, window=Window(100.0, 300.0)
        )
        with self.part(names.append(iteration)) as root:
            write_labelled(root.create_group("labelled"), selected)
            root["fate"] = fates
            root.attrs["iteration_seconds"] = 1.0
            root.attrs["record"] = record.to_json()
        temperatures = judged_temperatures(self.ledger.reader(), self.config, [iteration])
        with self.part(names.append(iteration)) as root:
            write_labelled(root.create_group("labelled"), selected)
            root["fate"] = fates
            root.attrs["fates"] = [fate.name.lower() for fate in Fate]
            root.attrs["iteration_seconds"] = 1.0
            root.attrs["record"] = replace(record, temperatures=temperatures).to_json()

    def findings(self):
        parts = {part.name: part for part in self.ledger.parts()}
        return [str(finding) for finding in (*count_findings(parts), *gap_findings(parts, self.config))]


def label(frame):
    return LabelledFrame(frame, 0.0, np.zeros((len(frame), 3)))


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Campaigns with two finished iterations, whole and cut, of which the tests change copies."""
    folder = tmp_path_factory.mktemp("originals")
    for cut in (False, True):
        campaign = Made(folder / f"cut-{cut}", cut=cut)
        for iteration in range(2):
            campaign.finish(iteration)
    return folder


@pytest.fixture
def made(tmp_path, originals, monkeypatch):
    """A campaign with two finished iterations that lacks nothing but an audit, and the committee's errors."""

    def make(directory="run", *, bad=0, cut=False):
        expect(bad=bad)
        return Made(shutil.copytree(originals / f"cut-{cut}", tmp_path / directory), cut=cut)

    def expect(*, bad, labelled=12):
        errors = np.linspace(0.01, 0.09, labelled)
        errors[:bad] = 0.5
        monkeypatch.setattr(auditing, "load_committee", lambda *_, **__: Committee(errors))

    make.expect = expect
    return make


def stored(campaign, name, *datasets):
    with open_part(campaign.ledger.part_path(name)) as root:
        return [root[dataset][()] for dataset in datasets]


def test_a_passed_audit_proves_convergence_and_adds_no_training_data(made):
    campaign = made(bad=2)
    digest, size = campaign.ledger.dataset_digest(), campaign.ledger.dataset_size()
    assert due_audits(campaign.ledger, 2) == [1]
    assert due_audits(campaign.ledger, 1) == []
    verdict = campaign.judge(2)
    assert verdict.kind is VerdictKind.CONVERGED
    assert "2 of 12 accurate frames that were drawn at random" in verdict.evidence
    assert "of GFN2-xTB on every atom" in verdict.evidence
    assert (campaign.ledger.dataset_digest(), campaign.ledger.dataset_size()) == (digest, size)
    assert campaign.ledger.verdict() == verdict
    assert due_audits(campaign.ledger, 2) == []
    assert campaign.findings() == []
    asked = campaign.label_pool.asked
    assert campaign.judge(2) == verdict
    assert campaign.label_pool.asked == asked == 12


def test_drawn_frames_are_accurate_ones_of_the_judged_iterations(made):
    campaign = made()
    campaign.judge(2)
    source, index, kelvins = stored(campaign, names.audit(1), "source", "index", "temperature_kelvin")
    assert np.unique(kelvins, return_counts=True)[1].tolist() == [6, 6]
    assert set(source[:, 0]) == {0, 1}
    assert len(np.unique(source, axis=0)) == 12
    (fates,) = stored(campaign, names.audited(1), "fate")
    assert fates.tolist() == [Fate.AUDITED] * 12
    with open_part(campaign.ledger.part_path(names.audit(1))) as root:
        selected, deviation = read_frames(root["selected"]), root["deviation_norm"][()]
    for frame, own, (iteration, part, row), number in zip(selected, deviation, source, index, strict=True):
        assert stored(campaign, names.append(iteration), "fate")[0][number] == Fate.ACCURATE
        assert number == FRAMES * part + row
        with open_part(campaign.ledger.part_path(names.sample(iteration, KELVINS[part]))) as root:
            assert root["deviation_norm"][row] == own
            np.testing.assert_array_equal(read_frames(root["frames"], rows=[row])[0].positions, frame.positions)


def test_scripts_find_audited_frames_by_their_fate(made):
    campaign = made()
    campaign.judge(2)
    found = list(Campaign(campaign.ledger.directory).frames(fate="audited"))
    source, _ = stored(campaign, names.audit(1), "source", "index")
    places = {(atoms.info["iteration"], KELVINS.index(atoms.info["temperature_kelvin"])) for atoms in found}
    assert len(found) == 12
    assert places == {tuple(place) for place in source[:, :2].tolist()}


def test_the_frames_of_a_failed_audit_join_the_data_set(made):
    campaign = made(bad=3)
    size = campaign.ledger.dataset_size()
    assert campaign.judge(2) is None
    assert campaign.ledger.dataset_size() == size + 12
    assert campaign.ledger.dataset_before(2)[-1] == names.audited(1)
    drawn = {frame.content_hash() for frame in frames_of(campaign, 1)}
    assert drawn == {item.frame.content_hash() for item in campaign.ledger.dataset()[-12:]}
    assert campaign.findings() == []
    campaign.finish(2)
    assert campaign.judge(3) is None  # one iteration since the failed audit
    assert due_audits(campaign.ledger, 3) == []
    campaign.finish(3)
    made.expect(bad=0)
    verdict = campaign.judge(4)
    assert verdict.kind is VerdictKind.CONVERGED
    assert "iterations 2 to 3" in verdict.evidence
    assert set(stored(campaign, names.audit(3), "source")[0][:, 0]) == {2, 3}
    assert campaign.findings() == []


def frames_of(campaign, iteration):
    with open_part(campaign.ledger.part_path(names.audit(iteration))) as root:
        return read_frames(root["selected"])


@pytest.mark.parametrize("labels_before_the_stop", [0, 3, 5, 11])
def test_an_interrupted_audit_ends_as_one_that_was_left_alone(made, labels_before_the_stop):
    alone, struck = made("alone", bad=3), made("struck", bad=3)
    alone.judge(2)
    struck.label_pool.stops_after = labels_before_the_stop
    with pytest.raises(KeyboardInterrupt):
        struck.judge(2)
    resumed = StageRuns(Ledger.open(struck.ledger.directory), level=LEVEL, label_pool=Labels())
    resumed.ledger.begin()
    assert first_unfinished(resumed.ledger) == 2
    assert resumed.judge(2) is None
    assert resumed.label_pool.asked == 12 - labels_before_the_stop
    assert resumed.ledger.dataset_digest() == alone.ledger.dataset_digest()
    ended = {part.name: part.content_hash for part in resumed.ledger.parts()}
    assert ended == {part.name: part.content_hash for part in alone.ledger.parts()}


def test_an_audit_that_has_begun_keeps_its_rules(made):
    campaign = made(bad=3)
    steps = audit_steps(campaign.ledger, LEVEL, 1)
    campaign.run_all([next(steps)])
    campaign.ledger.config = campaign.config.model_copy(update={"stop": StopConfig(audit_labels=0)})
    assert due_audits(campaign.ledger, 2) == [1]
    campaign.judge(2)
    assert len(frames_of(campaign, 1)) == 12
    digest = campaign.ledger.dataset_digest()
    campaign.ledger.config = campaign.config.model_copy(
        update={"stop": StopConfig(audit_labels=30, audit_bad_share=0.9)}
    )
    campaign.run_all(audit_steps(campaign.ledger, LEVEL, 1))  # nothing to do
    assert campaign.ledger.dataset_digest() == digest


@pytest.mark.parametrize("lost", [names.audit(1), names.audited(1), names.labels(names.audit(1), 6, 10)])
def test_a_lost_part_of_an_earlier_audit_is_named_and_made_again(made, lost):
    campaign = made(bad=3)
    campaign.judge(2)
    campaign.finish(2)
    digest = campaign.ledger.dataset_digest()
    campaign.ledger.part_path(lost).unlink()
    if "labels" not in lost:
        assert any(lost in finding for finding in campaign.findings())
    assert due_audits(campaign.ledger, 3) == [1]
    assert campaign.judge(3) is None
    assert campaign.ledger.dataset_digest() == digest
    assert campaign.findings() == []


def test_an_iteration_that_the_next_has_left_behind_is_not_audited(made):
    """The next iteration trains on the data set as it is."""
    campaign = made()
    with campaign.part(names.member(2, 0)) as root:
        root["nothing"] = np.zeros(1)
    assert due_audits(campaign.ledger, 2) == []
    assert campaign.judge(2) is None


def test_counts_that_disagree_are_found(made):
    campaign = made(bad=3)
    campaign.judge(2)
    with open_part(campaign.ledger.part_path(names.audited(1))) as root:
        text, scores = str(root.attrs["audit"]), {name: value[()] for name, value in root["scores"].items()}
    with campaign.part(names.audited(1)) as root:
        write_labelled(root.create_group("labelled"), [])
        group = root.create_group("scores")
        for name, value in scores.items():
            group[name] = value
        root["fate"] = np.full(11, Fate.AUDITED, dtype=np.int8)
        root.attrs["audit"] = text
    found = "\n".join(campaign.findings())
    assert "number of frames that join the data set is 0; by the other parts it should be 12" in found
    assert "number of frames with the fate `audited` is 11" in found


def test_failed_labels_are_counted_told_and_tried_again(made):
    campaign = made()
    campaign.label_pool.failing = (2, 7)
    made.expect(bad=3, labelled=10)
    assert campaign.judge(2) is None
    assert campaign.ledger.label_failures() == 2
    assert campaign.ledger.dataset_size() == 3 + 4 + 10
    assert campaign.findings() == []
    assert (
        "2 audit labels failed, which count as above it, `time_limit`: too long" in campaign.ledger.audit(1).statement()
    )
    said = list(retry_failed_labels(campaign.ledger))
    assert any("1 failed labels of the audit of iteration 1 are tried again" in line for line in said)
    assert any(line.startswith("iter001-audited is made again") for line in said)
    made.expect(bad=3)
    campaign.label_pool = Labels()
    assert campaign.judge(2) is None
    assert campaign.label_pool.asked == 2
    assert (campaign.ledger.label_failures(), campaign.ledger.dataset_size()) == (0, 3 + 4 + 12)
    with pytest.raises(InputError, match="no label of the audit of iteration 1"):
        list(retry_failed_labels(campaign.ledger))


def test_status_and_page_show_the_audit(made):
    campaign = made(bad=3)
    assert campaign_status(campaign.ledger.directory)["audit"] is None
    assert "no audit labels of iteration 1" in iteration_markdown(campaign.ledger, 1)
    campaign.judge(2)
    status = campaign_status(campaign.ledger.directory)
    assert (status["audit"]["iteration"], status["audit"]["overall"]["bad"]) == (1, 3)
    assert not status["audit"]["passed"]
    (line,) = [line for line in remarks(status) if line.startswith("audit of iteration 1")]
    assert "failed, its frames joined the data set: 3 of 12 accurate frames" in line
    page = iteration_markdown(campaign.ledger, 1)
    assert "## Audit" in page
    assert "| 300 K | 6 | 3 |" in page
    assert "Not converged: 3 of 12 audited accurate frames" in page


@pytest.mark.parametrize(("central", "passed"), [(True, False), (False, True)])
def test_of_clusters_the_interior_is_compared(made, monkeypatch, central, passed):
    """An error on an atom of the surface, where the box has no surface, is not an error of the force field."""
    campaign = made(cut=True)
    campaign.run_all([next(audit_steps(campaign.ledger, LEVEL, 1))])
    atoms, centres, interior, n_atoms = stored(
        campaign, names.audit(1), *(f"selected/{name}" for name in ("atom", "centre_molecule", "interior", "n_atoms"))
    )
    assert n_atoms.tolist() == [6] * 12
    assert (interior == (atoms // 3 == np.repeat(centres, 6))).all()
    assert interior.reshape(12, 6).sum(axis=1).tolist() == [3] * 12

    class OnOneMolecule(Committee):
        def predict(self, frames, *, batch_size):
            energies, forces = super().predict(frames, batch_size=batch_size)
            for own, mask in zip(forces, interior.reshape(12, 6), strict=True):
                own[:, :, 0] = np.where(mask == central, 0.5, 0.0)
            return energies, forces

    monkeypatch.setattr(auditing, "load_committee", lambda *_, **__: OnOneMolecule(np.zeros(12)))
    campaign.judge(2)
    assert campaign.ledger.audit(1).passed == passed
    worst, error = stored(campaign, names.audited(1), "scores/interior/force_error_atom", "scores/interior/force_error")
    assert interior.reshape(12, 6)[np.arange(12), worst].all()
    np.testing.assert_allclose(error, 0.5 if central else 0.0)
    assert "atoms that stand for the box" in campaign.ledger.audit(1).claim()


def test_other_seeds_draw_other_frames(made, tmp_path):
    campaign = made()
    campaign.run_all([next(audit_steps(campaign.ledger, LEVEL, 1))])
    again = shutil.copytree(campaign.ledger.directory, tmp_path / "again")
    (again / "parts" / "iter001-audit.h5").unlink()
    ledger = Ledger(again, campaign.config.model_copy(update={"seed": 1}))
    ledger.write_index(None)  # jobs take the config of the run from the index
    other = StageRuns(ledger, level=LEVEL, label_pool=Labels())
    other.run_all([next(audit_steps(ledger, LEVEL, 1))])
    assert (stored(campaign, names.audit(1), "source")[0] != stored(other, names.audit(1), "source")[0]).any()
