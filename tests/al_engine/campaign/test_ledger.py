"""The ledger: what it refuses to open, stages computed once, labels counted."""

import json
import os
import shutil
import threading

import h5py
import numpy as np
import pytest

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import PartReader
from al_engine.config.writer import config_text
from al_engine.errors import InputError, LedgerError, ResumableError
from al_engine.files.frames_hdf5 import UNITS, write_labelled
from al_engine.files.part_file import SCHEMA_VERSION
from al_engine.structures.frames import dataset_digest

# -- opening ----------------------------------------------------------------------------------------------------


def test_a_new_campaign_has_a_config_and_an_empty_campaign_file(open_ledger):
    ledger = open_ledger()
    assert {path.name for path in ledger.directory.iterdir()} == {"campaign.yaml", "campaign.h5", "parts"}
    assert (ledger.parts(), ledger.dataset(), ledger.history(), ledger.verdict()) == ([], [], [], None)
    assert ledger.dataset_digest() == dataset_digest([])
    assert not ledger.has_begun()
    assert ledger.launched_config() is None
    again = Ledger.open(ledger.directory)
    assert (again.directory, again.config) == (ledger.directory, ledger.config)
    with h5py.File(ledger.directory / "campaign.h5") as root:
        assert (root.attrs["campaign"], root.attrs["schema_version"]) == ("ethanol", SCHEMA_VERSION)
        assert json.loads(root.attrs["units"]) == UNITS
        assert root["dataset/forces"].shape == (0, 3)


@pytest.mark.parametrize("source", ["initial-frames", "initial-dimer-frames", "iter003-selection", "iter003-audit"])
def test_label_parts_are_in_the_order_of_their_frames(source, open_ledger):
    """Also above 99,999 frames, where the names have more digits and their order as text is another."""
    ledger = open_ledger()
    chunks = [(1, 99_980), (99_981, 100_000), (100_001, 1_000_000), (1_000_001, 1_000_002)]
    parts = [names.labels(source, *chunk) for chunk in chunks]
    assert [names.label_range(part) for part in parts] == [(source, *chunk) for chunk in chunks]
    assert PartReader(ledger.directory, reversed(parts)).label_chunks(source) == parts
    for part in parts:
        ledger.part_path(part).touch()
    assert [path.stem for path in ledger.label_parts(source)] == parts


def test_a_system_may_have_the_name_labels(open_ledger):
    ledger = open_ledger()
    ledger.part_path(names.initial_frames("labels")).touch()
    assert ledger.label_failures() == 0


def test_a_directory_that_is_no_campaign(tmp_path):
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"no campaign directory \(it has no campaign.yaml\)"):
            Ledger.open(directory)


def test_nothing_is_launched_before_it_begins(tmp_path, make_config):
    ledger = Ledger(tmp_path, make_config())
    assert (ledger.launched_config(), ledger.verdict(), ledger.parts()) == (None, None, [])


def test_a_place_that_cannot_be_written_to(tmp_path, make_config):
    (tmp_path / "file").touch()
    ledger = Ledger(tmp_path / "file" / "run", make_config())
    for write in (ledger.write_config, ledger.begin):
        with pytest.raises(ResumableError, match="cannot be written"):
            write()


def test_what_has_no_part_yet_has_not_begun_and_takes_any_config(open_ledger, make_config):
    ledger = open_ledger()
    changed = Ledger(ledger.directory, make_config(training={"members": 5}))
    changed.begin()
    with h5py.File(ledger.directory / "campaign.h5") as root:
        assert json.loads(root.attrs["config_json"])["training"]["members"] == 5


def test_a_changed_config_is_named(open_ledger, make_config, add_labels):
    ledger = open_ledger()
    add_labels(ledger, None)
    before = (ledger.directory / "campaign.h5").read_bytes()
    changed = Ledger(ledger.directory, make_config(training={"members": 5}))
    with pytest.raises(InputError, match=r"`training\.members` was 4 when the campaign began, now 5"):
        changed.begin()
    assert (ledger.directory / "campaign.h5").read_bytes() == before


def test_the_rules_of_stopping_may_change(open_ledger, make_config, add_labels):
    ledger = open_ledger()
    part = add_labels(ledger, None)
    later = Ledger(ledger.directory, make_config(stop={"max_iterations": 50}))
    later.begin()
    assert later.launched_config() == later.config
    assert later.parts() == [part]


def test_names_and_paths_of_any_language_survive(open_ledger, add_labels):
    ledger = open_ledger(system={"smiles": None, "structure": "Äthanol 😀\u2028.xyz"})
    add_labels(ledger, None)
    assert ledger.launched_config() == ledger.config
    Ledger.open(ledger.directory).begin()


# -- stages -----------------------------------------------------------------------------------------------------


def test_a_stage_is_computed_once(open_ledger, compute_part):
    ledger = open_ledger()
    calls = []

    def fill(root):
        calls.append(1)
        root["values"] = np.arange(3)
        root.attrs["seconds"] = 2.5

    def run(ledger):
        name = "iter000-member0"
        return compute_part(ledger, name, fill, inputs={"a": 1})

    part = run(ledger)
    assert (part.name, part.link, part.iteration, part.seconds) == (
        "iter000-member0",
        "/iterations/000/member0",
        0,
        2.5,
    )
    assert run(ledger) == part
    assert run(Ledger.open(ledger.directory)) == part
    assert len(calls) == 1


def test_a_failed_stage_is_computed_again(open_ledger, compute_part):
    ledger = open_ledger()

    def interrupted(root):
        root["values"] = np.arange(1000)
        raise KeyboardInterrupt

    def run(fill):
        return compute_part(ledger, "iter000-a", fill)

    with pytest.raises(KeyboardInterrupt):
        run(interrupted)
    assert ledger.parts() == []
    assert list(ledger.parts_directory.iterdir()) == []
    assert run(lambda root: root.create_group("g")).name == "iter000-a"


@pytest.mark.parametrize("changed", ["inputs", "parents"])
def test_a_part_made_from_other_inputs_is_refused(changed, open_ledger, add_labels, compute_part):
    ledger = open_ledger()
    parents = [add_labels(ledger, None)]

    def run(inputs, parents):
        return compute_part(ledger, "iter000-a", lambda root: root.create_group("g"), inputs=inputs, parents=parents)

    part = run({"a": 1}, parents)
    with pytest.raises(LedgerError, match=r"iter000-a\.h5: was made from .*inputs.* move it away"):
        run(*(({"a": 2}, parents) if changed == "inputs" else ({"a": 1}, [])))
    assert run({"a": 1}, parents) == part


def test_a_damaged_part_is_not_taken(open_ledger, add_labels):
    ledger = open_ledger()
    part = add_labels(ledger, None)
    with h5py.File(part.path, "r+") as root:
        root["labelled/energy"][0] += 1.0
    with pytest.raises(LedgerError, match=r"initial-dataset\.h5: lacks its seal"):
        add_labels(ledger, None)
    part.path.unlink()
    assert add_labels(ledger, None).content_hash == part.content_hash


def test_leftovers_of_a_kill_are_cleared(open_ledger, add_labels):
    ledger = open_ledger()
    part = add_labels(ledger, None)
    leftover = ledger.part_path("iter000-append").with_suffix(".h5.tmp")
    leftover.write_bytes(part.path.read_bytes()[:500])
    Ledger.open(ledger.directory).begin()
    assert list(ledger.parts_directory.iterdir()) == [part.path]


def test_stages_that_finish_in_several_threads_are_all_linked(open_ledger, compute_part):
    ledger = open_ledger()
    names = [f"iter000-member{index}" for index in range(8)]

    def run(name):
        def fill(root):
            root["values"] = np.full(100, int(name[-1]))

        compute_part(ledger, name, fill)

    threads = [threading.Thread(target=run, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with h5py.File(ledger.directory / "campaign.h5") as root:
        assert [name.decode() for name in root["ledger/name"]] == names
        for index in range(8):
            assert (root[f"iterations/000/member{index}/values"][()] == index).all()


@pytest.mark.parametrize("foreign", ["notes.h5", "iter1-append.h5", "iter000-.h5", "iter0000-append.h5"])
def test_a_foreign_file_among_the_parts_is_named(foreign, open_ledger, add_labels):
    ledger = open_ledger()
    part = add_labels(ledger, None)
    shutil.copy(part.path, part.path.with_name(foreign))
    with pytest.raises(LedgerError, match=f"{foreign}: is not the name of a part"):
        ledger.begin()


def test_an_hdf5_file_without_a_key_among_the_parts_is_named(open_ledger):
    ledger = open_ledger()
    with h5py.File(ledger.part_path("iter000-a"), "w") as root:
        root.attrs["schema_version"] = SCHEMA_VERSION
    with pytest.raises(LedgerError, match=r"iter000-a\.h5: lacks the attribute 'key'"):
        ledger.parts()


# -- labels and config ------------------------------------------------------------------------------------------


def test_labels_are_found_by_iteration_and_failures_counted(open_ledger, random_labelled, compute_part):
    ledger = open_ledger()

    def add(name, reasons):
        def fill(root):
            write_labelled(root.create_group("labelled"), random_labelled(reasons.count("ok")))
            root["reason"] = np.array(reasons, dtype="S")

        compute_part(ledger, name, fill)

    add("initial-labels-0001-0003", ["ok", "scf", "ok"])
    add("iter000-labels-0003-0003", ["ok"])
    add("iter000-labels-0001-0002", ["timeout", "died"])
    add("iter001-labels-0001-0001", ["ok"])
    add("iter000-audit-labels-0001-0002", ["ok", "timeout"])
    found = {
        source: [path.stem for path in ledger.label_parts(source)]
        for source in (names.INITIAL_FRAMES, names.selection(0), names.audit(0))
    }
    assert found == {
        "initial-frames": ["initial-labels-0001-0003"],
        "iter000-selection": ["iter000-labels-0001-0002", "iter000-labels-0003-0003"],
        "iter000-audit": ["iter000-audit-labels-0001-0002"],
    }
    assert all(ledger.reader().label_chunks(source) == chunks for source, chunks in found.items())
    assert ledger.label_failures() == 4


@pytest.mark.parametrize(
    ("source", "joined"),
    [
        (names.INITIAL_FRAMES, names.INITIAL_DATASET),
        (names.initial_frames("labels"), names.INITIAL_DATASET),
        (names.initial_frames("frames_1"), names.INITIAL_DATASET),
        (names.selection(12), names.append(12)),
        (names.audit(12), names.audited(12)),
    ],
)
def test_a_label_part_says_whose_frames_it_labels(source, joined):
    assert names.label_range(names.labels(source, 21, 40)) == (source, 21, 40)
    assert names.label_source(source) is None
    assert names.label_range("iter012-audited") is None
    assert names.joined(source) == joined


def test_an_audit_joins_the_data_set_after_its_iteration(open_ledger, add_labels, compute_part, random_labelled):
    ledger = open_ledger()
    add_labels(ledger, None)
    parts = [add_labels(ledger, iteration, count=2) for iteration in range(2)]
    before = ledger.dataset_digest()
    labelled = random_labelled(4, seed=9)

    def fill(root):
        write_labelled(root.create_group("labelled"), labelled)

    compute_part(ledger, "iter000-audited", fill)
    assert ledger.dataset_before(0) == ["initial-dataset"]
    assert ledger.dataset_before(2) == ["initial-dataset", "iter000-append", "iter000-audited", "iter001-append"]
    assert ledger.reader().dataset_parts(before=2) == ledger.dataset_before(2)
    assert [item.content_hash() for item in ledger.dataset()[5:9]] == [item.content_hash() for item in labelled]
    assert ledger.dataset_size() == 3 + 2 + 4 + 2
    assert ledger.dataset_digest() == dataset_digest(ledger.dataset()) != before
    with h5py.File(ledger.directory / "campaign.h5") as root:
        assert len(root["dataset/energy"]) == 11
    assert parts[0].has_labels


def test_config_file_is_commented_and_replaced_as_a_whole(open_ledger):
    ledger = open_ledger()
    path = ledger.directory / "campaign.yaml"
    assert path.read_text(encoding="utf-8") == config_text(ledger.config)
    first = path.stat().st_ino
    with path.open(encoding="utf-8") as reader:
        ledger.write_config()
        assert reader.read() == config_text(ledger.config)
        assert os.fstat(reader.fileno()).st_ino == first != path.stat().st_ino
