"""Damage of every kind is found and named, what other parts still have is rebuilt, and the rest is computed again."""

import json
import re
import shutil

import h5py
import pytest
import yaml
from flow_runs import with_one_worker

from al_engine.campaign.audit.verify import verify
from al_engine.campaign.ledger import Ledger
from al_engine.errors import CampaignLockedError, ExitStatus, InputError
from al_engine.files.lock import campaign_lock
from al_engine.files.part_file import write_part
from flows.pages.status import campaign_status, missing_remarks

LABELS = "initial-labels-00001-00020"


@pytest.fixture
def campaign(finished, tmp_path):
    """A copy of a finished campaign: moved elsewhere, it is as good as where it was made."""
    _, directory, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    return copy


def flip(path, share):
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 0x40
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def another(path):
    """Replace a part by a sound one of another content."""
    shutil.copy(path.with_name("iter000-member1.h5"), path)


def unlink_a_part(path):
    with h5py.File(path, "r+") as root:
        del root["iterations/000/member0"]


def break_count(path):
    """A part that is sealed and in the ledger, but whose record is not what the other parts say."""
    ledger = Ledger.open(path.parent.parent)
    with h5py.File(path) as root:
        record = json.loads(root.attrs["record"])
        key = root.attrs["key"]
    record["label_failures"] += 1

    with write_part(path, kind=path.stem, key=key) as new:
        with h5py.File(path) as root:
            for name in root:
                root.copy(name, new)
            for name in set(root.attrs) - {"key", "content_hash", "record"}:
                new.attrs[name] = root.attrs[name]
        new.attrs["record"] = json.dumps(record)
    ledger.write_index(None)


DAMAGE = {
    "one byte flipped in the weights": ("parts/iter000-member0.h5", lambda path: flip(path, 0.5), "damaged"),
    "one byte flipped in a header": ("parts/iter000-selection.h5", lambda path: flip(path, 0.001), "damaged"),
    "one byte flipped in a seal": ("parts/iter000-append.h5", lambda path: flip(path, 0.9999), "damaged"),
    "a part cut in half": ("parts/iter000-sample-300K.h5", cut, "damaged"),
    "an empty part": ("parts/iter000-evaluation.h5", lambda path: path.write_bytes(b""), "damaged"),
    "text instead of a part": ("parts/initial-frames.h5", lambda path: path.write_text("x"), "damaged"),
    "a part deleted": ("parts/iter000-member1.h5", lambda path: path.unlink(), "missing"),
    "labels deleted": (f"parts/{LABELS}.h5", lambda path: path.unlink(), "missing"),
    "a part replaced by another": ("parts/iter000-member0.h5", another, "replaced"),
    "a file that is no part": ("parts/notes.h5", lambda path: path.write_text("x"), "foreign"),
    "a count that does not add up": ("parts/iter000-append.h5", break_count, "miscounted"),
    "campaign.h5 deleted": ("campaign.h5", lambda path: path.unlink(), "missing"),
    "campaign.h5 cut in half": ("campaign.h5", cut, "damaged"),
    "one byte flipped in campaign.h5": ("campaign.h5", lambda path: flip(path, 0.3), "damaged"),
    "a link removed": ("campaign.h5", unlink_a_part, "outdated"),
    "campaign.yaml deleted": ("campaign.yaml", lambda path: path.unlink(), "damaged"),
    "campaign.yaml garbled": ("campaign.yaml", lambda path: path.write_bytes(b"\xff\xfe{"), "damaged"),
}
STAGES = {
    "parts/iter000-member0.h5": "iteration 0, member0",
    "parts/iter000-member1.h5": "iteration 0, member1",
    "parts/iter000-selection.h5": "iteration 0, selection",
    "parts/iter000-append.h5": "iteration 0, append",
    "parts/iter000-sample-300K.h5": "iteration 0, sample 300K",
    "parts/iter000-evaluation.h5": "iteration 0, evaluation",
    "parts/initial-frames.h5": "initial set, frames",
    f"parts/{LABELS}.h5": "initial set, labels 00001 00020",
    "parts/notes.h5": "no part of a campaign",
    "campaign.h5": "the index",
    "campaign.yaml": "the config",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_and_named(what, campaign):
    file, damage, problem = DAMAGE[what]
    stage = STAGES[file]
    damage(campaign / file)
    before = {path: path.read_bytes() for path in campaign.rglob("*") if path.is_file()}
    answer, text = verify(campaign, repaired=False)
    assert not answer["sound"]
    (found,) = [f for f in answer["findings"] if f["file"] == file]
    assert (found["problem"], found["stage"]) == (problem, stage)
    assert found["fix"]
    assert f"{problem}: {file} ({stage}): " in text
    assert {path: path.read_bytes() for path in campaign.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("iter000-append.h5", "parts/iter000-append.h5 is missing; "),
        ("*.h5", r"\d+ parts, such as initial-\S+, are missing; "),
    ],
)
def test_status_and_verify_name_the_parts_that_are_gone(gone, said, campaign):
    paths = sorted((campaign / "parts").glob(gone))
    for path in paths:
        path.unlink()
    state = campaign_status(campaign)
    assert sorted(state["missing_parts"]) == [path.stem for path in paths]
    assert re.match(rf"warning: {said}.*`al-engine verify {campaign}` says what to do", missing_remarks(state)[0])
    answer, _ = verify(campaign, repaired=False)
    missing = {finding["file"] for finding in answer["findings"] if finding["problem"] == "missing"}
    assert missing == {f"parts/{path.name}" for path in paths}


def test_a_sound_campaign_is_sound(campaign):
    answer, text = verify(campaign, repaired=False)
    assert answer["findings"] == []
    assert answer["parts"] == len(list((campaign / "parts").glob("*.h5")))
    assert "sound: " in text


def test_an_option_changed_by_hand_is_named_with_what_it_was(campaign):
    path = campaign / "campaign.yaml"
    path.write_text(path.read_text().replace("replicas: 3", "replicas: 4", 1))
    answer, _ = verify(campaign, repaired=False)
    (found,) = answer["findings"]
    assert "sampling.replicas is 4, but the campaign began with 3" in found["message"]
    answer, _ = verify(campaign, repaired=True)  # does not make the other value that of the campaign
    assert not answer["sound"]
    with pytest.raises(InputError, match=r"`sampling\.replicas` was 3"):
        Ledger.open(campaign).begin()


def test_an_option_that_may_change_is_no_damage(campaign):
    path = campaign / "campaign.yaml"
    path.write_text(path.read_text().replace("max_iterations: 2", "max_iterations: 9", 1))
    assert Ledger.open(campaign).config.stop.max_iterations == 9
    assert verify(campaign, repaired=False)[0]["sound"]


def test_repair_rebuilds_labels_index_and_config(campaign):
    ledger = Ledger.open(campaign)
    before = {part.name: part.content_hash for part in ledger.parts()}
    verdict, config = ledger.verdict(), yaml.safe_load((campaign / "campaign.yaml").read_text())
    flip(campaign / "parts" / f"{LABELS}.h5", 0.5)
    (campaign / "campaign.yaml").write_text("{")
    answer, text = verify(campaign, repaired=True)
    assert answer["sound"], text
    assert "rebuilt with the same content" in text
    ledger = Ledger.open(campaign)
    assert {part.name: part.content_hash for part in ledger.parts()} == before
    assert ledger.verdict() == verdict
    assert yaml.safe_load((campaign / "campaign.yaml").read_text()) == config
    assert (campaign / "parts" / "set-aside" / f"{LABELS}.h5").is_file()
    assert (campaign / "campaign.yaml.damaged").read_text() == "{"


def test_nothing_is_rebuilt_from_a_part_that_was_replaced(campaign):
    """A label part and the data set that has its labels are both replaced by other sound parts."""
    parts = campaign / "parts"
    shutil.copy(parts / "iter000-append.h5", parts / "initial-dataset.h5")
    shutil.copy(next(path for path in sorted(parts.glob("iter000-labels-*.h5"))), parts / f"{LABELS}.h5")
    answer, text = verify(campaign, repaired=True)
    assert not answer["sound"]
    assert f"parts/{LABELS}.h5: `resume` will compute it again" in text
    assert {path.stem for path in (parts / "set-aside").iterdir()} == {"initial-dataset", LABELS}
    with h5py.File(campaign / "campaign.h5") as root:
        assert "initial/dataset" not in root


def test_repairing_twice_keeps_both_damaged_files(campaign):
    for text in ("{", "["):
        (campaign / "campaign.yaml").write_text(text)
        verify(campaign, repaired=True)
    kept = [path.read_text() for path in sorted(campaign.glob("campaign.yaml*.damaged"))]
    assert sorted(kept) == ["[", "{"]


def test_campaign_h5_is_built_anew(campaign):
    digest = Ledger.open(campaign).dataset_digest()
    (campaign / "campaign.h5").unlink()
    answer, text = verify(campaign, repaired=True)
    assert answer["sound"], text
    with h5py.File(campaign / "campaign.h5") as root:
        assert len(root["dataset/energy"]) > 0
    assert Ledger.open(campaign).dataset_digest() == digest


def test_what_cannot_be_rebuilt_is_computed_again_to_the_same_content(finished, campaign):
    command_line, _, _ = finished
    before = {part.name: part.content_hash for part in Ledger.open(campaign).parts()}
    for name in ("initial-dataset", "iter000-member1", "iter000-sample-300K", "iter000-append"):
        flip(campaign / "parts" / f"{name}.h5", 0.5)
    answer = command_line("verify", campaign, "--repair")
    assert answer.returncode == ExitStatus.DAMAGED
    assert "parts/iter000-member1.h5: `resume` will compute it again" in answer.stdout
    assert campaign_status(campaign)["state"] == "interrupted"
    with_one_worker(campaign)
    resumed = command_line("resume", campaign)
    assert resumed.returncode in (0, 3), resumed.stderr
    assert {part.name: part.content_hash for part in Ledger.open(campaign).parts()} == before
    assert command_line("verify", campaign, "--json").returncode == 0


def test_a_running_campaign_is_verified_but_not_repaired(campaign):
    with campaign_lock(campaign):
        assert verify(campaign, repaired=False)[0]["sound"]
        (campaign / "campaign.h5").unlink()
        with pytest.raises(CampaignLockedError, match="is being run by process"):
            verify(campaign, repaired=True)
