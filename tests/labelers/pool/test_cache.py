"""Stored labels are found again, bit for bit, and only for the same frame at the same level of theory."""

import sqlite3
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from cache_writer import LEVEL, fill, frame, outcome

from al_engine.campaign.labels import LabelOutcome, LabelReason
from al_engine.config import LabelsConfig
from al_engine.errors import InputError, ResumableError
from labelers.backends.registry import level_of_theory
from labelers.pool.cache import LabelCache


def test_a_label_comes_back_bit_for_bit(tmp_path):
    kept = outcome(frame(), rescue="damped")
    with LabelCache(tmp_path / "labels.sqlite", LEVEL) as cache:
        cache.keep([kept])
    with LabelCache(tmp_path / "labels.sqlite", LEVEL) as cache:
        found = cache.find([frame(1), frame()])
    assert list(found) == [1]
    assert found[1].labelled.content_hash() == kept.labelled.content_hash()
    assert found[1].rescue == "damped"


@pytest.mark.parametrize(
    "other",
    [frame(charge=1), frame(unpaired_electrons=2), frame(cell=10 * np.eye(3), pbc=[True] * 3), frame(1)],
    ids=["charge", "spin", "cell", "positions"],
)
def test_another_frame_is_not_found(other, tmp_path):
    with LabelCache(tmp_path / "labels.sqlite", LEVEL) as cache:
        cache.keep([outcome(frame())])
        assert cache.find([other]) == {}


@pytest.mark.parametrize(
    "level",
    [
        level_of_theory(LabelsConfig(backend="xtb")),
        level_of_theory(LabelsConfig(backend="tblite", accuracy=0.1)),
        level_of_theory(LabelsConfig(backend="tblite", electronic_temperature_kelvin=1000.0)),
        replace(LEVEL, backend_version="0.0"),
    ],
    ids=["backend", "accuracy", "electronic temperature", "version"],
)
def test_another_level_of_theory_is_not_found(level, tmp_path):
    with LabelCache(tmp_path / "labels.sqlite", LEVEL) as cache:
        cache.keep([outcome(frame())])
    with LabelCache(tmp_path / "labels.sqlite", level) as cache:
        assert cache.find([frame()]) == {}


def test_failed_labels_are_not_stored(tmp_path):
    with LabelCache(tmp_path / "labels.sqlite", LEVEL) as cache:
        cache.keep([LabelOutcome(LabelReason.TIME_LIMIT, "late", None, 1.0)])
        assert cache.find([frame()]) == {}


def test_a_label_changed_in_the_file_is_not_believed(tmp_path):
    path = tmp_path / "labels.sqlite"
    with LabelCache(path, LEVEL) as cache:
        cache.keep([outcome(frame())])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE labels SET energy = energy + 0.001")
    database.close()
    with LabelCache(path, LEVEL) as cache:
        assert cache.find([frame()]) == {}


def test_a_file_that_is_no_cache_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "labels.sqlite"
    path.write_text("this is no database, and long enough to be seen not to be one" * 10)
    with pytest.raises(InputError, match=r"labels\.sqlite: .*delete it.*execution\.label_cache"):
        LabelCache(path, LEVEL)


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(ResumableError, match="the label cache cannot be used"):
        LabelCache(tmp_path / "nowhere" / "labels.sqlite", LEVEL)


def test_two_processes_share_a_file(tmp_path):
    path, context = tmp_path / "labels.sqlite", get_context("spawn")
    LabelCache(path, LEVEL).__exit__()
    processes = [context.Process(target=fill, args=(path, first)) for first in (0, 30)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    with LabelCache(path, LEVEL) as cache:
        assert len(cache.find([frame(seed) for seed in range(60)])) == 60


@pytest.mark.parametrize("name", ["labels.sqlite", "la bels?#%20.sqlite"])
def test_a_file_system_without_locks_can_hold_only_a_campaigns_own_cache(name, tmp_path, monkeypatch):
    monkeypatch.setattr("labelers.pool.cache.has_record_locks", lambda _: False)
    with pytest.raises(InputError, match=r"its file system has no locks, .*`execution\.label_cache`"):
        LabelCache(tmp_path / name, LEVEL)
    with LabelCache(tmp_path / name, LEVEL, shared=False) as cache:
        cache.keep([])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_cache_in_memory_ends_with_its_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with LabelCache(None, LEVEL) as cache:
            assert cache.find([frame()]) == {}
            cache.keep([outcome(frame())])
            assert list(cache.find([frame()])) == [0]
    assert not list(tmp_path.iterdir())


def test_a_failing_disk_is_named_in_the_systems_words(tmp_path):
    with LabelCache(tmp_path / "labels.sqlite", LEVEL) as cache:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        assert "labels.sqlite: the label cache cannot be used (Input/output error); " in str(cache._error(error))
