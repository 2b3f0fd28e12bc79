"""The ledger: stages computed once, one file that links them all, and everything rebuilt from the parts."""

import json
import os
import shutil
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest

from al_engine.config_text import config_text
from al_engine.errors import ExitStatus, InputError, LedgerError, ResumableError
from al_engine.frame_io import UNITS, read_labelled, write_labelled
from al_engine.frames import dataset_digest
from al_engine.ledger import Ledger, Part
from al_engine.parts import SCHEMA_VERSION
from al_engine.verdict import Verdict, VerdictKind

READ_UNTIL_STOPPED = """
import sys
from pathlib import Path
import h5py

campaign, stop = Path(sys.argv[1]), Path(sys.argv[2])
reads, frames = 0, 0
while not stop.exists():
    with h5py.File(campaign) as root:
        n_atoms, forces = root["dataset/n_atoms"][()], root["dataset/forces"][()]
        parts = len(root["ledger/name"])
        assert len(forces) == n_atoms.sum() and (n_atoms > 0).all() and (forces != 0.0).all(), "half a file"
        assert len(n_atoms) == 3 * parts >= frames, "an older file than before"
        frames = len(n_atoms)
    reads += 1
    if reads == 1:
        print("reading", flush=True)
print(reads, frames)
"""


@pytest.fixture
def open_ledger(tmp_path, make_config):
    """A ledger that has begun, in tmp_path/run; overrides go to its config."""

    def make(directory=None, **overrides) -> Ledger:
        ledger = Ledger(directory or tmp_path / "run", make_config(**overrides))
        ledger.write_config()
        ledger.begin()
        return ledger

    return make


@pytest.fixture
def add_labels(random_labelled, make_record):
    """Append parts as a campaign does: the initial set, then one per iteration."""

    def add(ledger: Ledger, iteration: int | None, *, count: int = 3, labelled=None) -> Part:
        name = "initial-dataset" if iteration is None else f"iter{iteration:03d}-append"
        number = 0 if iteration is None else iteration + 1
        frames = random_labelled(count, seed=number) if labelled is None else labelled

        def fill(root):
            write_labelled(root.create_group("labelled"), frames)
            if iteration is not None:
                root.attrs["record"] = make_record(iteration).to_json()
                root.attrs["iteration_seconds"] = 60.0 + iteration
            root.attrs["seconds"] = 1.5

        return ledger.stage(
            name, inputs={"seed": 1}, parents=ledger.dataset_parts()[:number], compute=ledger.write(name, fill)
        )

    return add


def content(path) -> dict:
    """Everything campaign.h5 itself holds, by name."""
    found = {}

    def look(name, item):
        found[name] = dict(item.attrs) | ({"data": item[()].tolist()} if isinstance(item, h5py.Dataset) else {})

    with h5py.File(path) as root:
        found[""] = dict(root.attrs)
        root.visititems(look)
        for group in ("initial", *(f"iterations/{key}" for key in root.get("iterations", {}))):
            for key in root.get(group, {}):
                found[f"{group}/{key}"] = root.get(f"{group}/{key}", getlink=True).filename
    return found


# -- opening ----------------------------------------------------------------------------------------------------


def test_a_new_campaign_has_a_config_and_an_empty_campaign_file(open_ledger):
    ledger = open_ledger()
    assert {path.name for path in ledger.directory.iterdir()} == {"campaign.yaml", "campaign.h5", "parts"}
    assert (ledger.parts(), ledger.dataset(), ledger.history(), ledger.verdict()) == ([], [], [], None)
    assert ledger.dataset_digest() == dataset_digest([])
    assert ledger.launched_config() == ledger.config
    again = Ledger.open(ledger.directory)
    assert (again.directory, again.config) == (ledger.directory, ledger.config)
    with h5py.File(ledger.directory / "campaign.h5") as root:
        assert (root.attrs["campaign"], root.attrs["schema_version"]) == ("ethanol", SCHEMA_VERSION)
        assert json.loads(root.attrs["units"]) == UNITS
        assert root["dataset/forces"].shape == (0, 3)


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


def test_a_changed_config_is_named(open_ledger, make_config):
    ledger = open_ledger()
    before = content(ledger.directory / "campaign.h5")
    changed = Ledger(ledger.directory, make_config(training={"members": 5}))
    with pytest.raises(InputError, match=r"`training\.members` was 4 when the campaign began, now 5"):
        changed.begin()
    assert content(ledger.directory / "campaign.h5") == before


def test_the_rules_of_stopping_may_change(open_ledger, make_config, add_labels):
    ledger = open_ledger()
    part = add_labels(ledger, None)
    later = Ledger(ledger.directory, make_config(stop={"max_iterations": 50}))
    later.begin()
    assert later.launched_config() == later.config
    assert later.parts() == [part]


def test_names_and_paths_of_any_language_survive(open_ledger):
    ledger = open_ledger(system={"smiles": None, "structure": "Äthanol 😀\u2028.xyz"})
    assert ledger.launched_config() == ledger.config
    Ledger.open(ledger.directory).begin()


# -- stages -----------------------------------------------------------------------------------------------------


def test_a_stage_is_computed_once(open_ledger):
    ledger = open_ledger()
    calls = []

    def fill(root):
        calls.append(1)
        root["values"] = np.arange(3)
        root.attrs["seconds"] = 2.5

    def run(ledger):
        name = "iter000-member0"
        return ledger.stage(name, inputs={"a": 1}, parents=[], compute=ledger.write(name, fill))

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


def test_a_failed_stage_is_computed_again(open_ledger):
    ledger = open_ledger()

    def interrupted(root):
        root["values"] = np.arange(1000)
        raise KeyboardInterrupt

    def run(fill):
        return ledger.stage("iter000-a", inputs={}, parents=[], compute=ledger.write("iter000-a", fill))

    with pytest.raises(KeyboardInterrupt):
        run(interrupted)
    assert ledger.parts() == []
    assert list(ledger.parts_directory.iterdir()) == []
    assert run(lambda root: root.create_group("g")).name == "iter000-a"


@pytest.mark.parametrize("changed", ["inputs", "parents"])
def test_a_part_made_from_other_inputs_is_refused(changed, open_ledger, add_labels):
    ledger = open_ledger()
    parents = [add_labels(ledger, None)]

    def run(inputs, parents):
        compute = ledger.write("iter000-a", lambda root: root.create_group("g"))
        return ledger.stage("iter000-a", inputs=inputs, parents=parents, compute=compute)

    part = run({"a": 1}, parents)
    with pytest.raises(LedgerError, match=r"iter000-a\.h5: was made from other inputs .* move it away"):
        run(*(({"a": 2}, parents) if changed == "inputs" else ({"a": 1}, [])))
    assert run({"a": 1}, parents) == part


def test_a_damaged_part_is_not_taken(open_ledger, add_labels):
    ledger = open_ledger()
    part = add_labels(ledger, None)
    with h5py.File(part.path, "r+") as root:
        root["labelled/energy"][0] += 1.0
    with pytest.raises(LedgerError, match=r"initial-dataset\.h5: its content is not what was written"):
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


def test_stages_that_finish_in_several_threads_are_all_linked(open_ledger):
    ledger = open_ledger()
    names = [f"iter000-member{index}" for index in range(8)]

    def run(name):
        def fill(root):
            root["values"] = np.full(100, int(name[-1]))

        ledger.stage(name, inputs={}, parents=[], compute=ledger.write(name, fill))

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
    with pytest.raises(LedgerError, match=f"{foreign}: no name that this version gives to a part"):
        ledger.begin()


def test_an_hdf5_file_without_a_key_among_the_parts_is_named(open_ledger):
    ledger = open_ledger()
    with h5py.File(ledger.part_path("iter000-a"), "w") as root:
        root.attrs["schema_version"] = SCHEMA_VERSION
    with pytest.raises(LedgerError, match=r"iter000-a\.h5: lacks the attribute 'key'"):
        ledger.parts()


# -- campaign.h5 ------------------------------------------------------------------------------------------------


def test_campaign_file_links_every_part_and_all_labelled_frames(open_ledger, add_labels, tmp_path, monkeypatch):
    """Also from another directory, and after the campaign has moved."""
    ledger = open_ledger()
    parts = [add_labels(ledger, iteration) for iteration in (None, 0, 1)]
    labelled = ledger.dataset()
    assert len(labelled) == 9
    monkeypatch.chdir("/")
    moved = tmp_path / "elsewhere" / "moved"
    for directory in (ledger.directory, moved):
        if directory == moved:
            moved.parent.mkdir()
            ledger.directory.rename(moved)
        with h5py.File(directory / "campaign.h5") as root:
            assert root["initial/dataset"].attrs["key"] == parts[0].key
            assert root["iterations/001/append"].attrs["content_hash"] == parts[2].content_hash
            np.testing.assert_array_equal(
                root["iterations/000/append/labelled/energy"], [item.energy for item in labelled[3:6]]
            )
            read = read_labelled(root["dataset"])
            assert dataset_digest(read) == dataset_digest(labelled)
            assert root["dataset/forces"].is_virtual
            assert root["dataset/forces"].attrs["unit"] == "eV/Å"
            table = root["ledger"]
            assert [value.decode() for value in table["name"]] == [part.name for part in parts]
            assert [value.decode() for value in table["key"]] == [part.key for part in parts]
            assert [value.decode() for value in table["content_hash"]] == [part.content_hash for part in parts]
            assert table["seconds"][()].tolist() == [1.5, 1.5, 1.5]
    assert Ledger.open(moved).dataset_digest() == dataset_digest(labelled)


def test_an_iteration_without_labels_is_part_of_the_data_set(open_ledger, add_labels):
    ledger = open_ledger()
    add_labels(ledger, None)
    add_labels(ledger, 0, labelled=[])
    add_labels(ledger, 1)
    with h5py.File(ledger.directory / "campaign.h5") as root:
        assert dataset_digest(read_labelled(root["dataset"])) == ledger.dataset_digest()
        assert root["dataset/energy"].shape == (6,)


def test_dataset_is_in_order_of_iterations_beyond_nine(open_ledger, add_labels):
    ledger = open_ledger()
    for iteration in (None, *range(11)):
        add_labels(ledger, iteration, count=1)
    assert [part.iteration for part in ledger.dataset_parts()] == [None, *range(11)]
    assert [record.iteration for record in ledger.history()] == list(range(11))
    assert [len(ledger.dataset(before=n)) for n in (0, 1, 10, 99)] == [1, 2, 11, 12]


def test_digest_does_not_depend_on_the_parts_it_is_spread_over(open_ledger, add_labels, random_labelled, tmp_path):
    labelled = random_labelled(8)
    one, two = open_ledger(tmp_path / "one"), open_ledger(tmp_path / "two")
    add_labels(one, None, labelled=labelled)
    add_labels(two, None, labelled=labelled[:5])
    add_labels(two, 0, labelled=labelled[5:])
    assert one.dataset_digest() == two.dataset_digest() == dataset_digest(labelled)


@pytest.mark.parametrize("loss", ["deleted", "older"])
def test_campaign_file_is_rebuilt_from_the_parts(loss, open_ledger, add_labels):
    ledger = open_ledger()
    path = ledger.directory / "campaign.h5"
    old = path.read_bytes()
    for iteration in (None, 0):
        add_labels(ledger, iteration)
    before = content(path)
    path.unlink() if loss == "deleted" else path.write_bytes(old)
    Ledger.open(ledger.directory).begin()
    assert content(path) == before


@pytest.mark.parametrize("wrong", [b"", b"no HDF5", None])
def test_a_damaged_campaign_file_says_that_it_may_be_deleted(wrong, open_ledger):
    ledger = open_ledger()
    path = ledger.directory / "campaign.h5"
    if wrong is None:
        h5py.File(path, "w").close()
    else:
        path.write_bytes(wrong)
    for read in (ledger.launched_config, ledger.verdict, ledger.begin):
        with pytest.raises(LedgerError, match=r"campaign\.h5: .*delete it and resume: it is rebuilt from parts/"):
            read()


def test_history_and_verdict_round_trip(open_ledger, add_labels, make_record):
    ledger = open_ledger()
    for iteration in (None, 0, 1):
        add_labels(ledger, iteration)
    verdict = Verdict(VerdictKind.CONVERGED, "3 of 2000 frames (0.15 %) were candidates – enough")
    ledger.write_index(verdict)
    reader = Ledger.open(ledger.directory)
    assert reader.verdict() == verdict
    assert reader.history() == [make_record(0), make_record(1)]
    assert [reader.iteration_seconds(iteration) for iteration in (0, 1)] == [60.0, 61.0]
    ledger.begin()
    assert reader.verdict() is None


def test_a_full_disk_keeps_the_old_campaign_file(open_ledger):
    ledger = open_ledger()
    before = content(ledger.directory / "campaign.h5")
    (ledger.directory / "campaign.h5.tmp").symlink_to("/dev/full")
    with pytest.raises(ResumableError, match=r"campaign\.h5: the disk is full") as caught:
        ledger.begin()
    assert caught.value.exit_status == ExitStatus.INTERRUPTED
    assert content(ledger.directory / "campaign.h5") == before
    ledger.begin()


def test_readers_in_another_process_see_whole_files_while_it_is_rewritten(open_ledger, add_labels, tmp_path):
    ledger = open_ledger()
    add_labels(ledger, None)
    stop = tmp_path / "stop"
    command = [sys.executable, "-c", READ_UNTIL_STOPPED, str(ledger.directory / "campaign.h5"), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "reading\n"
        for iteration in range(15):
            add_labels(ledger, iteration)
        stop.touch()
        reads, frames = map(int, reader.stdout.readline().split())
    assert reader.returncode == 0
    assert reads > 5
    assert 3 < frames <= 48


def test_readers_in_other_threads_see_whole_files_while_it_is_rewritten(open_ledger, add_labels):
    ledger = open_ledger()
    add_labels(ledger, None)
    stop, errors, reads = threading.Event(), [], []

    def read():
        while not stop.is_set():
            try:
                reader = Ledger.open(ledger.directory)
                reads.append((reader.verdict(), len(reader.history()), reader.launched_config() == ledger.config))
            except Exception as error:  # noqa: BLE001 (any of them fails the test below)
                errors.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    for iteration in range(8):
        add_labels(ledger, iteration)
    stop.set()
    thread.join()
    assert errors == []
    assert len(reads) > 3
    assert all(verdict is None and same for verdict, _, same in reads)


# -- labels and config ------------------------------------------------------------------------------------------


def test_labels_are_found_by_iteration_and_failures_counted(open_ledger, random_labelled):
    ledger = open_ledger()

    def add(name, reasons):
        def fill(root):
            write_labelled(root.create_group("labelled"), random_labelled(reasons.count("ok")))
            root["reason"] = np.array(reasons, dtype="S")

        ledger.stage(name, inputs={}, parents=[], compute=ledger.write(name, fill))

    add("initial-labels-0001-0003", ["ok", "scf", "ok"])
    add("iter000-labels-0003-0003", ["ok"])
    add("iter000-labels-0001-0002", ["timeout", "died"])
    add("iter001-labels-0001-0001", ["ok"])
    assert [path.stem for path in ledger.label_parts(None)] == ["initial-labels-0001-0003"]
    assert [path.stem for path in ledger.label_parts(0)] == ["iter000-labels-0001-0002", "iter000-labels-0003-0003"]
    assert ledger.label_failures() == 3


def test_config_file_is_commented_and_replaced_as_a_whole(open_ledger):
    ledger = open_ledger()
    path = ledger.directory / "campaign.yaml"
    assert path.read_text(encoding="utf-8") == config_text(ledger.config)
    first = path.stat().st_ino
    with path.open(encoding="utf-8") as reader:
        ledger.write_config()
        assert reader.read() == config_text(ledger.config)
        assert os.fstat(reader.fileno()).st_ino == first != path.stat().st_ino
