"""Frames read row by row: the same frames however they are asked for, and no more of the file than they need."""

import tracemalloc

import h5py
import numpy as np
import pytest

from al_engine.errors import LedgerError
from al_engine.files import frames_hdf5
from al_engine.files.frames_hdf5 import MISSING, FrameAppender, read_frames, read_labelled, write_labelled
from al_engine.structures.frames import Frame


@pytest.fixture
def stored(random_labelled, tmp_path):
    """40 labelled frames of 1 to 6 atoms, and the open group that holds them."""
    labelled = random_labelled(40)
    with h5py.File(tmp_path / "a.h5", "w") as root:
        write_labelled(root, labelled)
        yield root, labelled


@pytest.mark.parametrize(("gap", "block"), [(512, 2**15), (0, 1), (3, 11), (10**6, 20)])
def test_rows_are_those_of_the_whole_group(gap, block, stored, rng, monkeypatch):
    """In the order asked for, some of them twice, wherever the blocks that are read begin and end."""
    root, labelled = stored
    monkeypatch.setattr(frames_hdf5, "GAP_ATOMS", gap)
    monkeypatch.setattr(frames_hdf5, "BLOCK_ATOMS", block)
    monkeypatch.setattr(frames_hdf5, "COUNTS_AT_A_TIME", 7)
    expected = [item.frame.content_hash() for item in labelled]
    assert [frame.content_hash() for frame in read_frames(root)] == expected
    assert [item.content_hash() for item in read_labelled(root)] == [item.content_hash() for item in labelled]
    for size in (0, 1, 5, 60):
        rows = rng.integers(40, size=size)
        assert [frame.content_hash() for frame in read_frames(root, rows=rows)] == [expected[row] for row in rows]


@pytest.mark.parametrize("row", [-1, 40])
def test_rows_outside_the_group_are_refused(row, stored):
    with pytest.raises(IndexError, match="40 frames"):
        read_frames(stored[0], rows=[3, row])


def test_counts_that_overflow_are_refused(stored):
    """2⁶² four times is nothing to 64 bits, so that the sum would fit the data."""
    root, _ = stored
    counts = root["n_atoms"][()]
    counts[[5, 9, 11, 13]] += 2**62
    root["n_atoms"][...] = counts
    with pytest.raises(LedgerError, match="has shape"):
        read_frames(root, rows=[0])


def test_a_row_of_a_missing_part_is_refused(stored):
    root, _ = stored
    root["charge"][17] = MISSING
    with pytest.raises(LedgerError, match="a linked part is missing"):
        read_frames(root, rows=[17])


def test_memory_does_not_grow_with_the_group(tmp_path):
    """A frame of 120 atoms takes 4 KiB; the groups take 1 and 16 MiB."""
    peaks = []
    with h5py.File(tmp_path / "a.h5", "w") as root:
        for n_frames in (250, 4000):
            group = root.create_group(str(n_frames))
            writer = FrameAppender(group, expected_frames=n_frames, expected_atoms=120 * n_frames)
            frame = Frame(numbers=np.full(120, 6), positions=np.ones((120, 3)))
            for _ in range(n_frames // 250):
                writer.append([frame] * 250)
            read_frames(group, rows=[7])  # what the first reading imports does not count
            tracemalloc.start()
            read_frames(group, rows=[7, n_frames // 2, n_frames - 1])
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000
