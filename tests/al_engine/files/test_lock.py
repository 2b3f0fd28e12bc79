"""The lock: one writer, and freed however its process dies."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from al_engine.errors import CampaignLockedError, ExitStatus, InputError
from al_engine.files.lock import LEASE_FILE, LEASE_S, campaign_lock, is_locked

HOLD = """
import sys
from pathlib import Path
from al_engine.files import lock
lock.RENEW_S = 0.05
with lock.campaign_lock(Path(sys.argv[1]), sys.argv[2], say=lambda line: print(line, file=sys.stderr)):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def locked_by_another(directory, kind="auto"):
    command = [sys.executable, "-c", HOLD, str(directory), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        yield process
        process.stdin.close()


def test_a_second_process_is_refused_with_the_owners_id(tmp_path):
    with locked_by_another(tmp_path) as owner:
        refused = pytest.raises(CampaignLockedError, match=rf"is being run by process {owner.pid};")
        with refused as caught, campaign_lock(tmp_path):
            pass
        assert caught.value.exit_status == ExitStatus.BAD_INPUT
        assert is_locked(tmp_path)
    with campaign_lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_second_run_in_the_same_process_is_refused_too(tmp_path):
    with (
        campaign_lock(tmp_path),
        pytest.raises(CampaignLockedError, match=f"process {os.getpid()};"),
        campaign_lock(tmp_path),
    ):
        pass


def test_a_killed_owner_frees_the_lock(tmp_path):
    with locked_by_another(tmp_path) as owner:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        assert not is_locked(tmp_path)
        with campaign_lock(tmp_path):
            assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_an_error_frees_the_lock(tmp_path):
    with pytest.raises(ValueError, match="no"), campaign_lock(tmp_path):
        raise ValueError("no")
    assert not is_locked(tmp_path)


def test_a_child_process_does_not_keep_the_lock(tmp_path):
    with campaign_lock(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    with child:
        assert not is_locked(tmp_path)
        child.stdin.close()


def test_readers_that_ask_do_not_keep_a_writer_out(tmp_path):
    (tmp_path / ".lock").touch()
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            is_locked(tmp_path)

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(20):
            with campaign_lock(tmp_path):
                time.sleep(0.001)
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_two_readers_that_ask_at_once_do_not_take_each_other_for_a_writer(tmp_path):
    (tmp_path / ".lock").touch()
    with (tmp_path / ".lock").open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert not is_locked(tmp_path)


def test_a_directory_that_is_not_there(tmp_path):
    assert not is_locked(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be written to: No such file"), campaign_lock(tmp_path / "nowhere"):
        pass


def test_a_directory_never_run_is_not_locked_and_asking_leaves_no_trace(tmp_path):
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- the file that is renewed -----------------------------------------------------------------------------------


def lease(directory):
    return json.loads((directory / LEASE_FILE).read_text())


def write_lease(directory, *, age_s, **changes):
    """A lease as another process would have left it."""
    holder = {"host": "node17", "process": 4711, "started": "1", "place": "another machine", "token": "t", **changes}
    path = directory / LEASE_FILE
    path.write_text(json.dumps(holder))
    os.utime(path, (time.time() - age_s, time.time() - age_s))


@pytest.mark.parametrize("kinds", [("file", "file"), ("file", "auto"), ("auto", "file")])
def test_a_lock_of_either_kind_keeps_the_other_out(kinds, tmp_path):
    holds, asks = kinds
    with locked_by_another(tmp_path, holds) as owner:
        assert is_locked(tmp_path)
        refused = pytest.raises(CampaignLockedError, match=rf"is being run by process {owner.pid}")
        with refused, campaign_lock(tmp_path, asks):
            pass
    assert not is_locked(tmp_path)
    assert not (tmp_path / LEASE_FILE).exists()
    with campaign_lock(tmp_path, asks):
        assert is_locked(tmp_path)


def test_a_file_lock_of_the_same_process_counts_too(tmp_path):
    with campaign_lock(tmp_path, "file"):
        assert lease(tmp_path)["process"] == os.getpid()
        with pytest.raises(CampaignLockedError), campaign_lock(tmp_path, "file"):
            pass
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_killed_owners_file_is_taken_over_at_once_and_named(tmp_path):
    with locked_by_another(tmp_path, "file") as owner:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        assert (tmp_path / LEASE_FILE).exists()
        assert not is_locked(tmp_path)
        said = []
        with campaign_lock(tmp_path, "file", say=said.append):
            assert lease(tmp_path)["process"] == os.getpid()
    assert re.fullmatch(rf"the lock of process {owner.pid} on \S+ is taken over: the process has ended", *said)


def test_a_process_that_has_the_id_of_a_dead_one_does_not_hold_its_lock(tmp_path):
    with campaign_lock(tmp_path, "file"):
        mine = lease(tmp_path)
    write_lease(tmp_path, age_s=0.0, **{**mine, "started": "1"})
    with campaign_lock(tmp_path, "file"):
        pass
    write_lease(tmp_path, age_s=10 * LEASE_S, **mine)  # its own process lives, however long it was held up
    with pytest.raises(CampaignLockedError), campaign_lock(tmp_path, "file"):
        pass


def test_another_machines_lock_counts_as_long_as_it_is_renewed(tmp_path):
    write_lease(tmp_path, age_s=LEASE_S - 20)
    assert is_locked(tmp_path)
    for kind in ("file", "auto"):
        refused = pytest.raises(CampaignLockedError, match=r"process 4711 on node17; .* 90 s after")
        with refused as caught, campaign_lock(tmp_path, kind):
            pass
        assert str(tmp_path) in str(caught.value)
    write_lease(tmp_path, age_s=LEASE_S + 20)
    assert not is_locked(tmp_path)
    with campaign_lock(tmp_path):
        pass
    said = []
    with campaign_lock(tmp_path, "file", say=said.append):
        pass
    assert said == ["the lock of process 4711 on node17 is taken over: the lock was not renewed"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "x"}', "\x00\x00"])
def test_a_file_that_cannot_be_read_counts_until_it_is_old(content, tmp_path):
    path = tmp_path / LEASE_FILE
    path.write_text(content)
    with pytest.raises(CampaignLockedError, match="process 0 on an unknown machine"), campaign_lock(tmp_path, "file"):
        pass
    os.utime(path, (0, 0))
    with campaign_lock(tmp_path, "file"):
        assert lease(tmp_path)["process"] == os.getpid()


def test_of_many_that_take_over_at_once_one_succeeds(tmp_path):
    write_lease(tmp_path, age_s=2 * LEASE_S)
    no_kernel_lock = "def no_locks(*_): raise OSError(38, 'no locks')\nlock._try_lock = no_locks\n"
    code = HOLD.replace("with lock", no_kernel_lock + "with lock").replace("sys.stdin.read()", "sys.stdin.readline()")
    command = [sys.executable, "-c", code, str(tmp_path), "file"]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    while sum(racer.poll() is not None for racer in racers) < len(racers) - 1:  # all but one are refused
        time.sleep(0.05)
    (winner,) = [racer for racer in racers if racer.poll() is None]
    assert winner.stdout.readline() == b"locked\n"
    assert lease(tmp_path)["process"] == winner.pid
    for racer in racers:
        racer.communicate(b"\n")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_lock_is_renewed_and_made_again_if_somebody_removes_it(tmp_path):
    with locked_by_another(tmp_path, "file"):
        path = tmp_path / LEASE_FILE
        os.utime(path, (0, 0))
        wait_for(lambda: path.stat().st_mtime > time.time() - 10)
        path.unlink()
        wait_for(path.exists)


def test_a_run_ends_whose_lock_another_has_taken_over(tmp_path):
    """It was stopped for longer than its lock counts on another machine."""
    command = [sys.executable, "-c", HOLD, str(tmp_path), "file"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"locked\n"
        write_lease(tmp_path, age_s=0.0)
        assert owner.wait(60) == -signal.SIGTERM
        assert b"process 4711 on node17 has taken over the lock of this run" in owner.stderr.read()
    assert lease(tmp_path)["process"] == 4711


def test_none_locks_nothing(tmp_path):
    with campaign_lock(tmp_path, "none"), campaign_lock(tmp_path, "none"):
        assert not is_locked(tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_has_no_lease(tmp_path):
    refused = pytest.raises(InputError, match="cannot be written to: No such file")
    with refused, campaign_lock(tmp_path / "nowhere", "file"):
        pass


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
