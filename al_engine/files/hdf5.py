"""HDF5 files that grow on disk while they are written, for content that may be larger than the memory.

HDF5 does not survive a full disk: a file that it cannot close stays open in the library, which then crashes at the end
of the process. So HDF5 writes through a Python file object that raises the first error and hides all later errors.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from al_engine.files.atomic import disk_error, publish
from al_engine.files.seal import seal_file

CHUNK_BYTES = 2**16
"""Largest chunk of a growing data set in bytes; a chunk is written at a time."""


class _Spool(io.RawIOBase):
    """The file object that HDF5 writes to. It keeps the first error, and raises it only if HDF5 is not closing."""

    def __init__(self, handle: io.FileIO) -> None:
        super().__init__()
        self._handle = handle
        self.error: OSError | None = None
        self.closing = False

    def write(self, data: Any) -> int:
        """Write all bytes."""
        size, left = len(data), memoryview(data)
        with self._reported_once():
            while left:
                left = left[self._handle.write(left) :]
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file in bytes."""
        with self._reported_once():
            self._handle.truncate(size)
        return self._handle.tell() if size is None else size

    @contextmanager
    def _reported_once(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            first = self.error is None
            self.error = self.error or error
            if first and not self.closing:
                raise

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, or read up to the end of the file."""
        return self._handle.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position in the file."""
        return self._handle.seek(offset, whence)


@contextmanager
def streamed_hdf5(path: Path) -> Iterator[h5py.File]:
    """Write a sealed HDF5 file atomically, without holding all of its content in memory.

    The file is on disk when the block ends.

    Args:
        path: The file. A temporary file `path` + ".tmp" grows while the block runs.

    Raises:
        ResumableError: If the disk is full or can't be written to. The error may be raised inside the block.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        handle = temporary.open("w+b", buffering=0)
    except OSError as error:
        raise disk_error(path, error) from error
    try:
        with handle:
            spool = _Spool(handle)
            try:
                with h5py.File(spool, "w", rdcc_nbytes=2 * CHUNK_BYTES) as root:  # only the last chunk is written to
                    try:
                        yield root
                        root.flush()
                    finally:
                        spool.closing = True
            except Exception as error:
                if spool.error is not None:
                    raise disk_error(path, spool.error) from error
                raise
            try:
                if spool.error is not None:
                    raise spool.error
                seal_file(temporary)
                os.fsync(handle.fileno())
                publish(temporary, path)
            except OSError as error:
                raise disk_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def growing(
    group: h5py.Group, name: str, *, row: tuple[int, ...] = (), dtype: np.dtype | type, expected: int
) -> h5py.Dataset:
    """Create a data set without rows, to which `append_rows` appends.

    Args:
        group: Group that will contain the data set.
        name: Name of the data set.
        row: Shape of one row.
        dtype: Type of the numbers.
        expected: Approximate largest number of rows. It limits the chunks, so that a small data set takes little space.
    """
    kind = np.dtype(dtype)
    row_bytes = kind.itemsize * int(np.prod(row, dtype=np.int64))
    rows = max(1, min(expected, CHUNK_BYTES // row_bytes))
    return group.create_dataset(name, shape=(0, *row), maxshape=(None, *row), chunks=(rows, *row), dtype=kind)


def append_rows(dataset: h5py.Dataset, rows: np.ndarray) -> None:
    """Append rows to a data set that `growing` created."""
    before = len(dataset)
    dataset.resize(before + len(rows), axis=0)
    dataset[before:] = rows
