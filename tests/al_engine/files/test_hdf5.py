"""Files that grow on disk: their content, what is left after an error, and a disk that fills up on the way."""

import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pytest

from al_engine.errors import ExitStatus
from al_engine.files.frames_hdf5 import FrameAppender, read_frames, write_frames
from al_engine.files.hdf5 import append_rows, growing, streamed_hdf5
from al_engine.files.part_file import BLOCK_BYTES, content_hash, open_part, write_part

# Leaves with the error's exit status, as every command does; HDF5 must not crash on the way out.
APPEND_WITH_LITTLE_SPACE = """
import resource, sys
from pathlib import Path
import numpy as np
from al_engine.errors import ResumableError
from al_engine.files.part_file import write_part
from al_engine.files.hdf5 import append_rows, growing

limit, flushed = int(sys.argv[2]), sys.argv[3] == "flushed"
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
rounds = 0
try:
    with write_part(Path(sys.argv[1]), kind="test", key="new", streamed=True) as root:
        values = growing(root, "values", row=(3,), dtype=np.float64, expected=10_000)
        for rounds in range(40):
            append_rows(values, np.full((250, 3), float(rounds)))
            if flushed:
                root.flush()
except ResumableError as error:
    print(rounds, error)
    sys.exit(error.exit_status)
"""


def append_all(root, arrays, *, expected=100):
    dataset = growing(root, "values", row=arrays[0].shape[1:], dtype=arrays[0].dtype, expected=expected)
    for array in arrays:
        append_rows(dataset, array)


@pytest.fixture
def pieces():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(size, 3)) for size in (5, 0, 1, 300, 7)]


def test_what_was_appended_is_one_array_and_verifies(tmp_path, pieces):
    path = tmp_path / "part.h5"
    with write_part(path, kind="test", key="k", streamed=True) as root:
        append_all(root, pieces)
        assert [entry.suffix for entry in tmp_path.iterdir()] == [".tmp"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["part.h5"]
    with open_part(path, verify=True) as root:
        np.testing.assert_array_equal(root["values"], np.concatenate(pieces))


def test_how_a_part_was_written_does_not_show_in_its_hash(tmp_path, pieces):
    with write_part(tmp_path / "a.h5", kind="test", key="k", streamed=True) as root:
        append_all(root, pieces)
    with write_part(tmp_path / "b.h5", kind="test", key="k") as root:
        root["values"] = np.concatenate(pieces)
    with open_part(tmp_path / "a.h5") as a, open_part(tmp_path / "b.h5") as b:
        assert a.attrs["content_hash"] == b.attrs["content_hash"]


def test_large_arrays_are_hashed_piece_by_piece(tmp_path):
    """The same hash as of the bytes of the whole, in a fraction of its memory."""
    array = np.arange(BLOCK_BYTES // 8 * 5 + 3, dtype=np.float64).reshape(-1, 1)
    with h5py.File(tmp_path / "large.h5", "w") as root:
        root["values"] = array
        tracemalloc.start()
        found = content_hash(root)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        root.attrs["other"] = 1
        array[-1] += 1.0
        root["values"][...] = array
        assert content_hash(root) != found
    assert peak < 3 * BLOCK_BYTES


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError("a broken pipe")])
def test_an_error_in_the_block_leaves_what_was_there_and_stays_itself(error, tmp_path, pieces):
    def write():
        with streamed_hdf5(path) as root:
            append_all(root, pieces)
            raise error

    path = tmp_path / "a.h5"
    path.write_bytes(b"old")
    with pytest.raises(type(error), match=str(error) or None):
        write()
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("a.h5", b"old")]


@pytest.mark.parametrize("limit", [0, 1000, 5000, 30_000, 100_000, 200_000])
@pytest.mark.parametrize("flushed", ["flushed", "held"])
def test_a_disk_that_fills_up_is_resumable_wherever_it_does(tmp_path, limit, flushed):
    path = tmp_path / "part.h5"
    path.write_bytes(b"old")
    command = [sys.executable, "-c", APPEND_WITH_LITTLE_SPACE, str(path), str(limit), flushed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (ExitStatus.INTERRUPTED, "")
    assert "part.h5: cannot be written (File too large)" in done.stdout
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("part.h5", b"old")]
    if flushed == "flushed":  # noticed when it happens
        assert int(done.stdout.split()[0]) <= limit // (250 * 3 * 8) + 1


def test_frames_appended_are_frames_written(tmp_path, random_frame):
    frames = [random_frame(seed, n_atoms) for seed, n_atoms in enumerate((3, 5, 1, 4))]
    with h5py.File(tmp_path / "frames.h5", "w") as root:
        appender = FrameAppender(root.create_group("appended"), expected_frames=4, expected_atoms=13)
        for batch in (frames[:1], [], frames[1:]):
            appender.append(batch)
        write_frames(root.create_group("written"), frames)
        assert content_hash(root["appended"]) == content_hash(root["written"])
        assert [f.content_hash() for f in read_frames(root["appended"])] == [f.content_hash() for f in frames]
        FrameAppender(root.create_group("none"), expected_frames=4, expected_atoms=13)
        assert read_frames(root["none"]) == []
