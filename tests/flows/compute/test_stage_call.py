"""Stage calls: plain data, and jobs that can open only the parts that their key hashes."""

import json
import shutil
from contextlib import nullcontext
from importlib.metadata import version

import pytest

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import UndeclaredPartError
from al_engine.protocols import silent
from flows.compute import job
from flows.compute.stage_call import InlineExecutor, Output, StageCall, Work
from flows.session.resume import first_unfinished
from flows.stages.order import initial_steps, iteration_steps
from labelers.backends.registry import level_of_theory


@pytest.fixture
def ledger(finished, tmp_path):
    """A copy of the finished campaign."""
    shutil.copytree(finished[1], tmp_path / "campaign")
    return Ledger.open(tmp_path / "campaign")


def all_stages(ledger):
    """The stages of the initial set and of two iterations."""
    level = level_of_theory(ledger.config.labels)
    steps = [*initial_steps(ledger, level), *iteration_steps(ledger, level, 0), *iteration_steps(ledger, level, 1)]
    return [stage for step in steps for stages in step.calls.values() for stage in stages]


def test_every_stage_of_a_finished_campaign_is_planned_again_with_the_same_key(ledger):
    stages = all_stages(ledger)
    assert sorted(stage.name for stage in stages) == sorted(ledger.reader().names)
    for stage in stages:
        parents = [ledger.sound_part(name) for name in stage.parents]
        assert ledger.sound_part(stage.name).key == ledger.key(stage.name, inputs=stage.inputs, parents=parents)


def test_a_job_cannot_open_a_part_that_its_key_does_not_hash(ledger):
    executor = InlineExecutor(ledger.directory, label_pool=nullcontext)
    tried = 0
    for stage in all_stages(ledger):
        if not stage.parents or stage.name.startswith("iter000-member"):  # it reads the data set that is declared: none
            continue
        call = StageCall((Output(stage.name, "a"),), stage.job, (), stage.arguments, stage.needs)
        written = ledger.part_path(stage.name).read_bytes()
        with pytest.raises(UndeclaredPartError, match="is not among the parents"):
            executor.run(call)
        assert ledger.part_path(stage.name).read_bytes() == written
        tried += 1
    assert tried == len(all_stages(ledger)) - 1 - 4  # all but the first stage and the first training of four members


def test_a_job_has_the_config_of_the_run_whatever_the_file_says_now(ledger, tmp_path):
    """The user edits the file while the campaign runs: the key of the call is of the config that the run began with."""
    copy = shutil.copytree(ledger.directory, tmp_path / "copy")
    path = copy / "campaign.yaml"
    path.write_text(path.read_text().replace("max_labels: 10", "max_labels: 3", 1))
    assert Ledger.open(copy).config.selection.max_labels == 3
    call = StageCall((Output("iter000-selection", "a"),), "x:y", (), {}, "nothing")
    work = Work(copy, call, device="cpu", label_pool=nullcontext, label_workers=1, progress=silent)
    assert work.config == ledger.config


def test_a_job_labels_with_the_settings_of_the_run_whatever_the_file_says_now(ledger, monkeypatch):
    """Also the pool of workers that label, which is opened outside of the job."""
    path = ledger.directory / "campaign.yaml"
    path.write_text(path.read_text().replace("chunk_frames: 20", "chunk_frames: 7", 1))
    assert Ledger.open(ledger.directory).config.labels.chunk_frames == 7
    pools = []

    def pool(labels, **_):
        pools.append(labels)
        return nullcontext()

    monkeypatch.setattr(job, "LabelPool", pool)
    call = StageCall((Output("a", "a"),), f"{__name__}:open_pool", (), {}, "compute")
    job.run_call(call=call.to_dict(), directory=str(ledger.directory), device="cpu", label_workers=1, progress=silent)
    assert pools == [ledger.config.labels]


def open_pool(work):
    """A job that labels nothing."""
    with work.label_pool():
        pass


def test_a_call_is_json(ledger):
    for stage in all_stages(ledger):
        call = StageCall((Output(stage.name, "a"),), stage.job, stage.parents, stage.arguments, stage.needs)
        assert StageCall.from_dict(json.loads(json.dumps(call.to_dict()))) == call


def test_parts_say_what_made_them_and_have_a_line_for_the_reader(ledger):
    for part in ledger.parts():
        made_by = json.loads(part.made_by)
        assert made_by["al-engine"] == version("al-engine")
        assert made_by["torch"] == version("torch")
        assert made_by["device"] == "cpu"
        assert made_by["host"]
        assert part.summary
        assert "\n" not in part.summary
    labels = next(part for part in ledger.parts() if names.label_range(part.name))
    assert json.loads(labels.made_by)["tblite"] == version("tblite")


@pytest.mark.parametrize(
    ("missing", "found"),
    [
        ("initial-frames", None),
        ("initial-labels-00001-00020", None),
        ("iter000-labels-00001-00010", 0),
        ("iter000-sample-900K", 0),
        ("iter001-append", 1),
        (None, 2),
    ],
)
def test_a_campaign_goes_on_at_the_first_iteration_that_lacks_a_part(missing, found, ledger):
    if missing is not None:
        ledger.part_path(missing).unlink()
    assert first_unfinished(ledger) == found
