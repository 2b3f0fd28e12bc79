"""The lock: one writer, and freed however its process dies."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from al_engine.errors import CampaignLockedError, ExitStatus, InputError
from al_engine.lock import campaign_lock, is_locked

HOLD = """
import sys
from pathlib import Path
from al_engine.lock import campaign_lock
with campaign_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def locked_by_another(directory):
    command = [sys.executable, "-c", HOLD, str(directory)]
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
