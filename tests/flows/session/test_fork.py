"""Campaigns that go on: forks share the past, frames of simulations are labelled, exports say where they come from."""

import json
import re
import shlex
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import read, write
from stage_runs import StageRuns
from tblite.ase import TBLite
from typer.testing import CliRunner

from al_engine import Campaign
from al_engine.campaign import names
from al_engine.campaign.audit.counts import count_findings
from al_engine.campaign.card import card_of
from al_engine.campaign.ledger import Ledger
from al_engine.config import CampaignConfig, is_mutable, is_within
from al_engine.config.reader import how_to_have, key_paths
from al_engine.errors import InputError
from flows.cli.app import app
from flows.compute.stage_call import InlineExecutor, run_stages
from flows.pages.display import Display
from flows.session.fork import OF_THE_PAST, fork
from flows.session.harvest import harvest
from flows.session.prepare import Prepared, opened, prepare
from flows.session.resume import first_unfinished
from flows.stages.audits import drawing
from flows.stages.initial_set import initial
from flows.stages.training import planned_updates
from labelers.backends.registry import level_of_theory
from labelers.pool.pool import LabelPool
from models import load_committee
from models.storage.member_files import copy_members, members_hash
from samplers.initial.user_data import read_hdf5_data


@pytest.fixture
def parent(finished):
    """The directory of a finished campaign of two iterations."""
    return finished[1]


def go_on(directory, iteration):
    """The next iteration of a campaign, in this process."""
    ledger = Ledger.open(directory)
    ledger.begin()
    config = ledger.config
    with LabelPool(config.labels, workers=1) as pool:
        campaign = StageRuns(ledger, level=level_of_theory(config.labels, periodic=False), label_pool=pool)
        if first_unfinished(ledger) is None:
            campaign.initial_set()
        assert first_unfinished(ledger) == iteration
        return campaign, campaign.iteration(iteration)


def test_a_fork_shares_parts_and_goes_on_with_another_window(parent, tmp_path):
    before = {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()}
    settings = ["selection.upper_mev_per_ang=400", "training.updates=40", "sampling.replicas=5"]
    made = fork(parent, tmp_path / "wide", at=1, settings=settings)
    assert made.iterations == 1
    assert set(made.changed) == {setting.partition("=")[0] for setting in settings}
    old, new = Ledger.open(parent), Ledger.open(tmp_path / "wide")
    shared = set(new.reader().names)
    assert shared == {name for name in old.reader().names if not name.startswith("iter001")}
    for name in shared:
        assert new.part_path(name).samefile(old.part_path(name))  # nothing is copied
    assert [item.energy for item in new.dataset()] == [item.energy for item in old.dataset(before=1)]
    campaign, verdict = go_on(tmp_path / "wide", 1)
    assert verdict is None  # the shared iteration is not judged, so this is the first of its own
    assert [record.iteration for record in campaign.ledger.own_history()] == [1]
    rejected = [a.info["deviation_norm"] for a in Campaign(tmp_path / "wide").frames(fate="rejected", iteration=1)]
    assert all(deviation > 0.4 for deviation in rejected)
    assert {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()} == before


def test_a_fork_of_a_finished_campaign_learns_from_frames_of_a_simulation(parent, tmp_path):
    """Frames at which a simulation stopped are labelled, and join the data set of a fork."""
    atoms = Campaign(parent).dataset()[0]
    stretched = []
    for factor in (1.05, 1.1, 1.15):
        other = atoms.copy()
        other.calc = None
        del other.info["charge"], other.info["unpaired_electrons"]
        other.positions *= factor
        stretched.append(other)
    crushed = stretched[0].copy()
    crushed.positions[1] = crushed.positions[0] + 0.2
    write(tmp_path / "stopped.xyz", [*stretched, crushed])
    found = harvest(parent, tmp_path / "stopped.xyz", tmp_path / "labels.h5")
    assert found.labelled == 3
    assert list(found.failures) == [3]
    labels, level = read_hdf5_data(tmp_path / "labels.h5")
    assert level["method"] == "GFN2-xTB"
    calculator = load_committee(parent, device="cpu")
    for label, mev in zip(labels, found.errors_mev_per_ang, strict=True):
        error = calculator.get_property("forces", label.frame.to_atoms()) - label.forces
        assert 1000 * np.linalg.norm(error, axis=1).max() == pytest.approx(mev, rel=1e-5)
    made = fork(parent, tmp_path / "learns", settings=[f"data=[{{file: {tmp_path / 'labels.h5'}}}]"])
    assert made.iterations == 2
    new = Ledger.open(tmp_path / "learns")
    assert names.INITIAL_DATASET not in new.reader().names
    campaign, _ = go_on(tmp_path / "learns", 2)
    positions = {item.frame.positions.tobytes() for item in campaign.ledger.dataset()}
    assert {label.frame.positions.tobytes() for label in labels} <= positions
    assert {item.frame.positions.tobytes() for item in Ledger.open(parent).dataset()} <= positions
    # a fork of the fork, with other data: the old data are not taken for the new
    harvest(parent, tmp_path / "stopped.xyz", tmp_path / "again.h5")
    fork(tmp_path / "learns", tmp_path / "other", at=1, settings=[f"data=[{{file: {tmp_path / 'again.h5'}}}]"])
    shared = set(Ledger.open(tmp_path / "other").reader().names)
    assert not {name for name in shared if name.startswith("initial-data")}
    assert names.initial_frames("") in shared
    # the command that harvest prints keeps the data that the campaign has
    command = ["harvest", tmp_path / "learns", tmp_path / "stopped.xyz", "--output", tmp_path / "more, again.h5"]
    printed = CliRunner().invoke(app, [str(word) for word in command])
    *_, setting = shlex.split(re.search(r"`al-engine (fork .*)`", printed.output)[1])
    fork(tmp_path / "learns", tmp_path / "third", settings=[setting])
    data = Ledger.open(tmp_path / "third").config.data
    assert [Path(item.file).name for item in data] == ["labels.h5", "more, again.h5"]
    assert data[1].keep_outliers


def test_other_temperatures_share_the_labels_as_data(parent, tmp_path):
    made = fork(parent, tmp_path / "hot", settings=["sampling.temperatures_kelvin=[300, 1200]"])
    old, new = Ledger.open(parent), Ledger.open(tmp_path / "hot")
    assert (made.iterations, made.linked, made.labels) == (0, 0, old.dataset_size())
    assert new.config.training.start is not None
    (data,) = new.config.data
    labels, level = read_hdf5_data(new.directory / data.file)
    assert [label.energy for label in labels] == [item.energy for item in old.dataset()]
    assert level["method"] == "GFN2-xTB"
    assert [point.temperature_kelvin for point in new.config.state_points] == [300, 1200]


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (["labels.accuracy=0.1"], {}, "part of the level of theory"),
        (["labels.chunk_frames=7"], {}, "shared labels were made with the old value"),
        (["model.layers=3"], {}, "fork with --at 0"),
        (["selection.max_label=1"], {}, "did you mean `selection.max_labels`"),
        (["selection.max_labels"], {}, "KEY=VALUE"),
        (["nothing.here=1"], {}, "no section `nothing`"),
        (["selection.max_labels=[1"], {}, "not valid YAML"),
        ([], {"at": 3}, "2 finished iterations"),
    ],
)
def test_what_cannot_be_forked_is_said_and_nothing_is_written(parent, tmp_path, settings, options, message):
    with pytest.raises(InputError, match=message):
        fork(parent, tmp_path / "new", settings=settings, **options)
    assert not (tmp_path / "new").exists()


def test_the_advice_to_fork_can_be_typed(finished, tmp_path):
    """An edited option that a begun campaign cannot take: the refusal has the command that makes a campaign with it."""
    command_line, directory, _ = finished
    copy = tmp_path / "my campaign"
    shutil.copytree(directory, copy)
    config = (copy / "campaign.yaml").read_text()
    edited = config.replace("upper_mev_per_ang: 300.0", "upper_mev_per_ang: 450.0").replace(
        "stride_steps: 10", "stride_steps: 5"
    )
    assert edited != config
    (copy / "campaign.yaml").write_text(edited)
    refusal = command_line("resume", copy)
    assert refusal.returncode == 2
    typed = re.search(r"`al-engine (fork .*?)`", refusal.stderr)[1]
    made = command_line(*shlex.split(typed.replace(" NEW ", f" {shlex.quote(str(tmp_path / 'new'))} ")))
    assert made.returncode == 0, made.stderr
    new = Ledger.open(tmp_path / "new").config
    assert (new.selection.upper_mev_per_ang, new.sampling.stride_steps) == (450.0, 5)


def test_every_option_has_advice_that_is_true(parent):
    """An option that may not change is changed by a fork, or is part of the level of theory."""
    for key in key_paths(CampaignConfig):
        if not is_mutable(key) and "." in key:
            advice = how_to_have({key: (None, 1)}, parent)
            level = key.startswith("labels.")
            assert ("another directory" in advice) == level
            assert (f"--set {key}=1" in advice) == (not level)


def test_a_fork_never_writes_over_something(parent, tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(InputError, match="exists already"):
        fork(parent, tmp_path / "new")


def test_the_command_says_what_is_shared(finished, tmp_path):
    command_line, directory, _ = finished
    answer = command_line("fork", directory, tmp_path / "new", "--at", "1", "--set", "selection.max_labels=5", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {
        "directory": str(tmp_path / "new"),
        "iterations": 1,
        "parts": len(Ledger.open(tmp_path / "new").parts()),
        "labels_as_data": 0,
        "changed": {"selection.max_labels": [10, 5]},
    }
    assert command_line("verify", tmp_path / "new").returncode == 0


@pytest.mark.parametrize("file_format", ["extxyz", "ase-db", "npz"])
def test_exported_frames_say_where_they_come_from(finished, tmp_path, file_format):
    command_line, directory, _ = finished
    output = tmp_path / {"extxyz": "all.xyz", "ase-db": "all.db", "npz": "all.npz"}[file_format]
    answer = command_line("export", directory, "--to", file_format, "--output", output)
    assert answer.returncode == 0, answer.stderr
    items = Ledger.open(directory).dataset()
    if file_format == "npz":
        found = np.load(output)
        energies, iterations, methods = found["energy"], found["iteration"], set(found["level_of_theory"])
        np.testing.assert_array_equal(found["forces"], np.concatenate([item.forces for item in items]))
        assert json.loads(str(found["units"]))["forces"] == "eV/Å"
    elif file_format == "ase-db":
        rows = list(connect(output).select())
        energies, iterations = [row.energy for row in rows], [row.iteration for row in rows]
        methods = {row.level_of_theory for row in rows}
    else:
        images = read(output, ":")
        energies = [atoms.get_potential_energy() for atoms in images]
        iterations = [atoms.info["iteration"] for atoms in images]
        methods = {atoms.info["level_of_theory"] for atoms in images}
    np.testing.assert_allclose(energies, [item.energy for item in items], atol=1e-6)
    assert set(iterations) == {
        -1,
        *(record.iteration for record in Ledger.open(directory).history() if record.labelled),
    }
    assert len(methods) == 1
    assert next(iter(methods)).startswith("GFN2-xTB tblite")


def test_the_card_says_what_the_status_says(finished):
    command_line, directory, _ = finished
    status, card = command_line.status(directory), card_of(directory)
    assert (card.verdict, card.n_labels, card.iterations) == (status["verdict"], status["dataset_size"], 2)
    assert card.test_force_mae_mev_per_ang == status["iterations"][-1]["test_force_mae_mev_per_ang"]
    assert [str(system) for system in card.systems] == ["CH4O"]
    assert card.method.startswith("GFN2-xTB (tblite")
    assert load_committee(directory, device="cpu").card == card


def test_a_force_field_in_a_metatomic_file_carries_its_card(finished, tmp_path):
    metatomic = pytest.importorskip("metatomic.torch")
    command_line, directory, _ = finished
    output = tmp_path / "tiny.pt"
    answer = command_line("export", directory, "--to", "metatomic", "--output", output)
    assert answer.returncode == 0, answer.stderr
    metadata = metatomic.read_model_metadata(str(output))
    assert metadata.name == "tiny"
    assert card_of(directory).text().splitlines()[0] in metadata.description
    assert command_line("export", directory, "--to", "metatomic", "--output", output).returncode == 2
    assert command_line("export", directory, "--to", "metatomic", "--output", tmp_path / "tiny.bin").returncode == 2


def foreign(parent, path, *, factor):
    """Frames of a campaign with its labels, whose forces are multiplied as if another method had made them."""
    images, rng = [], np.random.default_rng(1)
    for atoms in Campaign(parent).dataset()[:6]:
        other = Atoms(atoms.numbers, atoms.positions + rng.normal(scale=0.02, size=(len(atoms), 3)))
        other.calc = TBLite(method="GFN2-xTB", verbosity=0)
        results = {"energy": other.get_potential_energy(), "forces": factor * other.get_forces()}
        other.calc = SinglePointCalculator(other, **results)
        images.append(other)
    write(path, images)


@pytest.mark.parametrize(("factor", "refused"), [(1.0, False), (1.3, True)])
def test_the_data_of_a_fork_are_compared_with_its_method_before_they_are_used(factor, refused, parent, tmp_path):
    foreign(parent, tmp_path / "mine.xyz", factor=factor)
    fork(parent, tmp_path / "new", settings=[f"data=[{{file: {tmp_path / 'mine.xyz'}, keep_outliers: true}}]"])
    prepared = Prepared(Ledger.open(tmp_path / "new"))
    with (
        pytest.raises(InputError, match="not of the campaign's method") if refused else nullcontext(),
        opened(prepared, Display(quiet=True)),
    ):
        pass
    assert names.DATA not in Ledger.open(tmp_path / "new").reader().names


def test_the_config_of_a_fork_begins_a_campaign_without_a_past(parent, tmp_path):
    fork(parent, tmp_path / "new")
    assert Ledger.open(tmp_path / "new").config.inherited_iterations == 2
    begun = prepare(tmp_path / "new" / "campaign.yaml", tmp_path / "again")
    assert begun.ledger.config.inherited_iterations is None


def test_training_goes_on_from_the_committee_of_the_last_shared_iteration(parent, tmp_path):
    fork(parent, tmp_path / "hot", at=1, settings=["sampling.temperatures_kelvin=[300, 1200]"])
    copy_members(parent, tmp_path / "first.h5", iteration=0)
    copy_members(parent, tmp_path / "last.h5", iteration=1)
    start = members_hash(tmp_path / "hot" / "inputs" / "start.h5")
    assert start == members_hash(tmp_path / "first.h5") != members_hash(tmp_path / "last.h5")


def test_options_of_the_initial_frames_are_options_of_the_past(parent):
    """Parts of the past are shared under their old keys: an option of such a key must not change in silence."""
    ledger = Ledger.open(parent)
    level = level_of_theory(ledger.config.labels)
    before = initial.plan(ledger, level, "").inputs
    changes = {"cut_molecules": 3, "cut_charge": 2, "max_labels": 7, "lower_mev_per_ang": 90.0, "max_bond_factor": 2.0}
    for option, value in changes.items():
        selection = ledger.config.selection.model_copy(update={option: value})
        changed = Ledger(parent, ledger.config.model_copy(update={"selection": selection}))
        depends = initial.plan(changed, level, "").inputs != before
        assert depends == is_within(f"selection.{option}", OF_THE_PAST), option


def test_an_audit_that_is_not_finished_is_not_shared(parent, tmp_path):
    shutil.copytree(parent, tmp_path / "drawn")
    ledger = Ledger.open(tmp_path / "drawn")
    executor = InlineExecutor(ledger.directory, label_pool=nullcontext)
    if names.audited(1) not in ledger.reader().names:
        run_stages(ledger, executor, [drawing.plan(ledger, 1)])
    else:
        ledger.part_path(names.audited(1)).unlink()
    assert names.audit(1) in ledger.reader().names
    fork(tmp_path / "drawn", tmp_path / "new")
    assert not [name for name in Ledger.open(tmp_path / "new").reader().names if "audit" in name]


def test_a_fork_with_other_data_is_sound_and_trains_on_them(parent, tmp_path, monkeypatch):
    foreign(parent, tmp_path / "mine.xyz", factor=1.0)
    fork(parent, tmp_path / "new", settings=[f"data=[{{file: {tmp_path / 'mine.xyz'}, keep_outliers: true}}]"])
    campaign, _ = go_on(tmp_path / "new", 2)
    parts = {part.name: part for part in campaign.ledger.parts()}
    assert list(count_findings(parts, inherited=2)) == []
    few = [replace(record, labelled=1) for record in Ledger.open(parent).history()]
    monkeypatch.setattr(Ledger, "history", lambda _: few)
    assert planned_updates(campaign.ledger, 2) > planned_updates(Ledger.open(parent), 2)  # six new frames


def test_an_earlier_committee_has_a_card_of_its_own(parent):
    newest, first = card_of(parent), card_of(parent, iteration=0)
    assert first.n_labels == 24 < newest.n_labels
    assert (first.iterations, first.verdict, first.superseded) == (1, None, True)
    assert "has a newer committee" in first.text()
    assert card_of(parent, iteration=1) == newest
    assert load_committee(parent, iteration=0, device="cpu").card == first
