"""campaign.h5: one file that links every part, rebuilt from them, and whole whenever it is read."""

import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import h5py
import numpy as np
import pytest

from al_engine.campaign.ledger import Ledger
from al_engine.errors import ExitStatus, LedgerError, ResumableError
from al_engine.files import atomic
from al_engine.files.frames_hdf5 import MISSING, read_labelled
from al_engine.structures.frames import dataset_digest
from al_engine.verdict.verdict import Verdict, VerdictKind

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


def test_stresses_and_weights_are_part_of_the_data_set(open_ledger, add_labels, random_labelled):
    """Of the frames that have them; without the parts the stresses read as no data."""
    ledger, rng = open_ledger(), np.random.default_rng(0)
    add_labels(ledger, None)
    with h5py.File(ledger.directory / "campaign.h5") as root:
        assert not {"stress", "weight"} & set(root["dataset"])
    stressed = [replace(item, stress=rng.normal(size=(3, 3))) for item in random_labelled(2, seed=8)]
    weighted = [replace(item, weight=0.25) for item in random_labelled(3, seed=9)]
    add_labels(ledger, 0, labelled=stressed)
    add_labels(ledger, 1, labelled=weighted)
    with h5py.File(ledger.directory / "campaign.h5") as root:
        read = read_labelled(root["dataset"])
        assert [item.weight for item in read] == [1.0] * 5 + [0.25] * 3
        assert [item.stress is None for item in read] == [True] * 3 + [False] * 2 + [True] * 3
        np.testing.assert_array_equal([item.stress for item in read[3:5]], [item.stress for item in stressed])
        assert root["dataset/stress"].attrs["unit"] == "eV/Å³"
        assert dataset_digest(read) == ledger.dataset_digest()
    for path in (ledger.directory / "parts").glob("*.h5"):
        path.unlink()
    with h5py.File(ledger.directory / "campaign.h5") as root:
        assert no_data(root["dataset/stress"])


def no_data(dataset, rows=slice(None)) -> bool:
    """Whether a data set reads as nothing that could be data."""
    values = dataset[()][rows]
    return bool(np.isnan(values).all() if values.dtype.kind == "f" else (values == MISSING).all())


def test_a_campaign_file_without_its_parts_reads_as_no_data(open_ledger, add_labels, tmp_path):
    ledger = open_ledger()
    for iteration in (None, 0):
        add_labels(ledger, iteration)
    labelled = ledger.dataset()
    alone = tmp_path / "alone" / "campaign.h5"
    alone.parent.mkdir()
    shutil.copy(ledger.directory / "campaign.h5", alone)
    with h5py.File(alone) as root:
        data = root["dataset"]
        assert {name for name in data if not no_data(data[name])} == {"n_atoms", "pbc"}
        assert data["n_atoms"][()].tolist() == [len(item.frame) for item in labelled]
        np.testing.assert_array_equal(data["pbc"], [item.frame.pbc for item in labelled])
        with pytest.raises(LedgerError, match=r"alone/campaign\.h5:/dataset: a linked part is missing"):
            read_labelled(data)
        with pytest.raises(KeyError):
            _ = root["iterations/000/append"]


def test_one_part_gone_leaves_the_other_frames_where_they_are(open_ledger, add_labels):
    """The rows of every frame are counted as the page on the layout says."""
    ledger = open_ledger()
    parts = [add_labels(ledger, iteration) for iteration in (None, 0, 1)]
    labelled = ledger.dataset()
    parts[1].path.unlink()
    with h5py.File(ledger.directory / "campaign.h5") as root:
        data = root["dataset"]
        ends = np.cumsum(data["n_atoms"])
        for index, item in enumerate(labelled):
            rows = slice(ends[index] - len(item.frame), ends[index])
            if index in (3, 4, 5):
                assert all(no_data(data[name], rows) for name in ("numbers", "positions", "forces"))
                assert all(no_data(data[name], index) for name in ("energy", "cell", "charge", "unpaired_electrons"))
            else:
                assert data["energy"][index] == item.energy
                np.testing.assert_array_equal(data["numbers"][rows], item.frame.numbers)
                np.testing.assert_array_equal(data["forces"][rows], item.forces)
    assert ledger.missing_parts() == [parts[1].name]


def test_a_campaign_file_of_an_earlier_version_is_replaced_when_the_campaign_goes_on(open_ledger, add_labels):
    ledger = open_ledger()
    part = add_labels(ledger, None)
    path = ledger.directory / "campaign.h5"
    with h5py.File(path, "r+") as root:
        del root["dataset/energy"]
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(f"parts/{part.path.name}", "/labelled/energy", (3,), "f8")
        root["dataset"].create_virtual_dataset("energy", layout)
    Ledger.open(ledger.directory).begin()
    part.path.unlink()
    with h5py.File(path) as root:
        assert np.isnan(root["dataset/energy"][()]).all()


def test_dataset_is_in_order_of_iterations_beyond_nine(open_ledger, add_labels):
    ledger = open_ledger()
    for iteration in (None, *range(11)):
        add_labels(ledger, iteration, count=1)
    assert [part.iteration for part in ledger.parts() if part.has_labels] == [None, *range(11)]
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
def test_a_damaged_campaign_file_says_that_it_may_be_deleted(wrong, open_ledger, add_labels):
    ledger = open_ledger()
    add_labels(ledger, None)
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


def test_a_full_disk_keeps_the_old_campaign_file(open_ledger, monkeypatch):
    ledger = open_ledger()
    before = content(ledger.directory / "campaign.h5")
    (ledger.directory / "full").symlink_to("/dev/full")
    monkeypatch.setattr(atomic, "temporary_path", lambda _: ledger.directory / "full")
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
