"""Files replaced as a whole: on a full disk, and when the process is killed in the middle of a write."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from al_engine.errors import ExitStatus, ResumableError
from al_engine.files import atomic
from al_engine.files.atomic import create, write_file
from al_engine.files.part_file import open_part, write_part

# Leaves with the error's exit status, as every command does; HDF5 must not crash on the way out.
WRITE_WITH_LITTLE_SPACE = """
import resource, sys
from pathlib import Path
import numpy as np
from al_engine.errors import ResumableError
from al_engine.files.part_file import write_part

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with write_part(Path(sys.argv[1]), kind="test", key="new") as root:
        for index in range(20):
            root[f"group{index}/values"] = np.arange(300.0)
except ResumableError as error:
    print(error)
    sys.exit(error.exit_status)
"""

WRITE_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
import numpy as np
from al_engine.files.part_file import write_part

for index in count(1):
    with write_part(Path(sys.argv[1]), kind="test", key=str(index)) as root:
        root["values"] = np.full(1_000_000, float(index))
"""


def test_content_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    for content in (b"old", b"", b"new" * 100_000):
        write_file(tmp_path / "file", content)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        assert (tmp_path / "file").read_bytes() == content


def test_two_writers_of_a_file_do_not_meet(tmp_path):
    """A remote job that outlived its coordinator, and the job that was started in its place."""
    path = tmp_path / "part.h5"
    with write_part(path, kind="test", key="first", streamed=True) as first:
        first["values"] = np.arange(10)
        with write_part(path, kind="test", key="second", streamed=True) as second:
            second["values"] = np.arange(20)
        with open_part(path, verify=True) as root:
            assert root.attrs["key"] == "second"
        first["more"] = np.arange(1000)
    with open_part(path, verify=True) as root:
        assert root.attrs["key"] == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["part.h5"]


@pytest.fixture
def _plain_names(monkeypatch):
    """Temporary files have the name of the file and `.tmp`, so that a test can put something in their place."""
    monkeypatch.setattr(atomic, "temporary_path", lambda path: path.with_name(path.name + ".tmp"))


@pytest.mark.usefixtures("_plain_names")
def test_a_full_disk_keeps_the_old_file_and_says_so(tmp_path):
    """/dev/full is a disk without a byte of space."""
    path = tmp_path / "part.h5"
    write_file(path, b"old")
    path.with_name("part.h5.tmp").symlink_to("/dev/full")
    with pytest.raises(ResumableError, match=r"part\.h5: the disk is full\. .*al-engine resume") as caught:
        write_file(path, b"new")
    assert caught.value.exit_status == ExitStatus.INTERRUPTED
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["part.h5"]


@pytest.mark.usefixtures("_plain_names")
def test_a_part_on_a_full_disk_is_resumable(tmp_path):
    path = tmp_path / "part.h5"
    path.with_name("part.h5.tmp").symlink_to("/dev/full")
    with pytest.raises(ResumableError, match="the disk is full"), write_part(path, kind="test", key="k") as root:
        root["values"] = np.arange(10)
    assert list(tmp_path.iterdir()) == []
    with write_part(path, kind="test", key="k") as root:  # the same process goes on once there is space
        root["values"] = np.arange(10)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(ResumableError, match=r"nowhere/file: cannot be written \(No such file"):
        write_file(tmp_path / "nowhere" / "file", b"x")


@pytest.mark.parametrize("limit", [0, 1000, 20_000, 60_000])
def test_running_out_of_space_ends_with_a_message_and_the_right_exit_status(limit, tmp_path):
    path = tmp_path / "part.h5"
    with write_part(path, kind="test", key="old") as root:
        root["values"] = np.arange(3)
    command = [sys.executable, "-c", WRITE_WITH_LITTLE_SPACE, str(path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (ExitStatus.INTERRUPTED, "")
    assert done.stdout.startswith(f"{path}: cannot be written (File too large)")
    with open_part(path, verify=True) as root:
        assert root.attrs["key"] == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["part.h5"]


@pytest.mark.parametrize("attempt", range(4))
def test_a_kill_during_a_write_leaves_the_old_or_the_new_part(attempt, tmp_path):
    path = tmp_path / "part.h5"
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)]) as writer:
        _wait_for(lambda: path.exists() and any(tmp_path.glob("*.tmp")))
        time.sleep(0.002 * attempt)
        os.kill(writer.pid, signal.SIGKILL)
    with open_part(path, verify=True) as root:
        values = root["values"][()]
        assert values.shape == (1_000_000,)
        assert (values == float(root.attrs["key"])).all()
    assert all(entry == path or entry.suffix == ".tmp" for entry in tmp_path.iterdir())


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline


def test_a_file_is_created_once_and_as_a_whole(tmp_path):
    source, target = tmp_path / "source", tmp_path / "folder" / "target"
    source.write_text("first")
    assert create(source, target)
    source.write_text("second")
    assert not create(source, target)
    assert target.read_text() == "first"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(FileNotFoundError):  # a file system that is not mounted is not written to
        create(source, tmp_path / "missing" / "folder" / "target")


def test_of_writers_at_the_same_time_one_creates_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda _: False)
    (tmp_path / "source").write_text("x")
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: create(tmp_path / "source", tmp_path / "target"), range(8)))
    assert sum(made) == 1
