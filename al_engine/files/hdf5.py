"""HDF5 files: written atomically, in memory or growing on disk, and opened for reading without locks.

HDF5 does not survive a full disk: a file that it cannot close stays open in the library, which then crashes at the end
of the process. So a file is built in memory, or, if its content may be larger than the memory, HDF5 writes through a
Python file object that raises the first error and hides all later errors.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from al_engine.errors import LedgerError
from al_engine.files.atomic import BROKEN, disk_error, publish, read_error, temporary_path, write_file
from al_engine.files.seal import SealState, check_seal, seal_file, seal_of

CHUNK_BYTES = 2**16
"""Largest chunk of a growing data set in bytes; a chunk is written at a time."""
UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, SystemError)
"""Errors that h5py raises on damaged files; the type depends on the damage: data, a name, a type, an address."""


@contextmanager
def in_memory_hdf5(path: Path) -> Iterator[h5py.File]:
    """Write a sealed HDF5 file atomically, building it in memory; the file is on disk when the block ends.

    Raises:
        ResumableError: If the disk is full or can't be written to.
    """
    with h5py.File(str(path), "w", driver="core", backing_store=False) as root:
        yield root
        root.flush()
        content = root.id.get_file_image()
    write_file(path, content + seal_of(content))


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
        path: The file. A temporary file beside it grows while the block runs (`temporary_path`).

    Raises:
        ResumableError: If the disk is full or can't be written to. The error may be raised inside the block.
    """
    temporary = temporary_path(path)
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


def check_self_contained(root: h5py.File) -> None:
    """Refuse a file with data outside the file, or with data sets larger than the file.

    Parts contain neither links nor compressed data, so that all their content is in the file itself.

    Raises:
        LedgerError: If the file has a soft or external link, external or virtual data, or too large data sets.
    """
    size = Path(root.filename).stat().st_size

    # A returned message ends the visit; an exception must not pass through the C code of HDF5.
    def leaves(name: str, link: Any) -> str | None:
        return (
            None if isinstance(link, h5py.HardLink) else f"{name} is a link to other data, which parts do not contain"
        )

    def claims(name: str, item: h5py.Group | h5py.Dataset) -> str | None:
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual or item.nbytes > size):
            return f"{name} claims data that the file does not hold"
        return None

    problem = root.visititems_links(leaves) or root.visititems(claims)
    if problem is not None:
        raise LedgerError(f"{root.filename}:{problem}; do not trust this file")


def seal_state(path: Path) -> SealState | None:
    """State of a file's seal; None if the file can't be opened, which `open_hdf5` reports in detail.

    Raises:
        ResumableError: If the disk fails.
    """
    try:
        return check_seal(path)
    except OSError as error:
        if error.errno in BROKEN:
            raise read_error(path, error) from error
        return None


def hdf5_for_reading(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, without HDF5's lock on it.

    Parts and campaign.h5 are never changed once they have their name, so readers need no lock. Without a lock, readers
    are kept out neither by the lock of a dead process nor by a file system without locks.

    Raises:
        OSError: If the file can't be opened.
    """
    for locking in (False, None, True, "best-effort"):
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError as error:
            if "flag values don't match" not in str(error):
                raise
            refused = error  # open in this process with another lock setting: HDF5 requires the same
    raise refused


@contextmanager
def open_hdf5(path: Path, *, fix: str) -> Iterator[h5py.File]:
    """Open an HDF5 file whose attributes can be read.

    Args:
        path: The file.
        fix: Advice for the error message if the file is damaged.

    Raises:
        LedgerError: If the file is missing, damaged or in use.
        ResumableError: If the disk fails.
    """
    try:
        root = hdf5_for_reading(path)
    except FileNotFoundError:
        raise LedgerError(f"{path}: missing; restore it, or resume to compute it again") from None
    except OSError as error:
        if error.errno in BROKEN:
            raise read_error(path, OSError(error.errno, os.strerror(error.errno))) from error
        if error.errno is not None:  # an error of the operating system, not of HDF5: the file may be sound
            variable = "HDF5_USE_FILE_LOCKING"  # it overrides the `locking` argument
            is_set = "lock" in str(error) and variable in os.environ
            fix = f"unset {variable}" if is_set else "remove the cause, then try again"
            raise LedgerError(f"{path}: cannot be opened ({os.strerror(error.errno)}); {fix}") from None
        raise damaged(path, error, fix) from None
    with root:
        try:
            dict(root.attrs)
        except UNREADABLE as error:
            raise damaged(path, error, fix) from None
        try:
            yield root
        except UNREADABLE as error:  # HDF5 turns errors of the operating system into errors of any type
            number = _system_error(path, error)
            if number not in BROKEN:
                raise
            raise read_error(path, OSError(number, os.strerror(number))) from error


def _system_error(path: Path, error: Exception) -> int | None:
    """The operating system's error number in an HDF5 error about the file; None if it has no such number."""
    match = re.search(r"filename = '(.*?)',.* errno = (\d+)", str(error))
    return int(match[2]) if match and match[1] == str(path) else None


def damaged(path: Path, error: Exception, fix: str) -> LedgerError:
    """The error for an HDF5 file that h5py cannot read; `fix` says what the user can do."""
    reason = " ".join(str(error).split())
    return LedgerError(f"{path}: damaged ({reason[:120]}); {fix}")
