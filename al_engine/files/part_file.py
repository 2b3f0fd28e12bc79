"""Parts: immutable HDF5 files, one per finished stage, each with the key of its inputs and its own content hash."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from al_engine.errors import LedgerError
from al_engine.files.atomic import BROKEN, read_error, write_file
from al_engine.files.hdf5 import streamed_hdf5
from al_engine.files.seal import SealState, check_seal, seal_of

SCHEMA_VERSION = 3
"""Schema of the parts that this version writes. New in 2: the seal. New in 3: summary and provenance (`MADE_BY`)."""
READABLE_SCHEMAS = (1, 2, 3)
CONTENT_SCHEMA = 2
"""The newest schema that changed the coverage of the content hash. A part of a later schema is hashed with this schema
number, so that a part that is computed again for an older campaign has the same hash as before."""
KEY_VERSION = 1
"""Version of the data that a key hashes. If it were raised, no part of an existing campaign would match its key."""
SUMMARY, MADE_BY = "summary", "made_by"
"""Attributes of a part's root: a one-line summary; and the versions, device and host that made the part, as JSON."""
VOLATILE_ATTRIBUTES = frozenset({"content_hash", "seconds", "iteration_seconds", "force_check", SUMMARY, MADE_BY})
"""Attributes of a part's root that are left out of the content hash: they describe its making, not its content."""

BLOCK_BYTES = 2**22
"""Bytes of a data set that are hashed at a time."""

UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, SystemError)
"""Errors that h5py raises on damaged files; the type depends on the damage: data, a name, a type, an address."""


def part_key(kind: str, inputs: Mapping[str, Any], parents: Sequence[str]) -> str:
    """Key of a part: a hash of the inputs of its stage.

    Args:
        kind: Name of the stage.
        inputs: Inputs as JSON-able values: config sections, seeds, numbers.
        parents: Content hashes of the parts that the stage reads.

    Returns:
        SHA-256 as hexadecimal digits; equal for equal inputs.
    """
    payload = {"schema": KEY_VERSION, "kind": kind, "inputs": dict(inputs), "parents": list(parents)}
    return hashlib.sha256(json.dumps(payload, sort_keys=True, allow_nan=False).encode()).hexdigest()


def content_hash(root: h5py.Group) -> str:
    """SHA-256 over all data sets and attributes of a part or a group, independent of the layout of the file."""
    digest = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        attributes = dict(item.attrs)
        if name == "":
            attributes = {key: value for key, value in attributes.items() if key not in VOLATILE_ATTRIBUTES}
            if "schema_version" in attributes:
                attributes["schema_version"] = min(attributes["schema_version"], CONTENT_SCHEMA)
        digest.update(_json([name, attributes]))
        if isinstance(item, h5py.Dataset):
            for number, array in enumerate(_blocks(item)):
                if number == 0:
                    digest.update(_json([str(array.dtype.descr), item.shape]))
                # In memory, variable-length strings are pointers, whose bytes are not the content.
                digest.update(_json(array) if array.dtype.hasobject else array.tobytes())

    add("", root)
    names: list[str] = []
    root.visit(names.append)
    for name in sorted(names):
        add(name, root[name])
    return digest.hexdigest()


def _blocks(dataset: h5py.Dataset) -> Iterator[np.ndarray]:
    """A data set in blocks of rows of about `BLOCK_BYTES`; strings of variable length in one block."""
    if not dataset.shape or dataset.dtype.hasobject or dataset.nbytes <= BLOCK_BYTES:
        yield np.asarray(dataset[()])
        return
    rows = max(1, BLOCK_BYTES * len(dataset) // dataset.nbytes)
    for first in range(0, len(dataset), rows):
        yield np.asarray(dataset[first : first + rows])


def _json(value: Any) -> bytes:
    def plain(other: Any) -> Any:
        if isinstance(other, np.ndarray | np.generic):
            return other.tolist()
        if isinstance(other, bytes):
            return other.hex()
        raise TypeError(f"a part cannot hold a {type(other).__name__}")

    return json.dumps(value, sort_keys=True, default=plain).encode()


@contextmanager
def in_memory_hdf5(path: Path) -> Iterator[h5py.File]:
    """Write a sealed HDF5 file atomically; the file is on disk when the block ends.

    The file is built in memory, because HDF5 does not survive a full disk: a file that can't be flushed stays open in
    the library, which then crashes at the end of the process.

    Raises:
        ResumableError: If the disk is full or can't be written to.
    """
    with h5py.File(str(path), "w", driver="core", backing_store=False) as root:
        yield root
        root.flush()
        content = root.id.get_file_image()
    write_file(path, content + seal_of(content))


@contextmanager
def write_part(path: Path, *, kind: str, key: str, streamed: bool = False) -> Iterator[h5py.File]:
    """Write a part atomically; the part is on disk when the block ends.

    Args:
        path: File of the part. A temporary file `path` + ".tmp" is used while writing.
        kind: Name of the stage.
        key: The key, from `part_key`.
        streamed: Whether the file grows on disk while it is written, instead of in memory.

    Raises:
        ResumableError: If the disk is full or can't be written to.
    """
    with (streamed_hdf5 if streamed else in_memory_hdf5)(path) as root:
        root.attrs.update(schema_version=SCHEMA_VERSION, kind=kind, key=key)
        yield root
        root.attrs["content_hash"] = content_hash(root)


@contextmanager
def open_part(path: Path, *, verify: bool = False) -> Iterator[h5py.File]:
    """Open a part for reading.

    Args:
        path: The part.
        verify: Compare all bytes with the seal, or, in a part of schema 1, the content with the content hash.

    Raises:
        LedgerError: If the file is missing, damaged, in use, or of a schema this version does not read.
        ResumableError: If the disk fails.
    """
    fix = "move it away and resume to compute it again"
    seal = seal_state(path) if verify else None
    if seal is SealState.BROKEN:
        raise LedgerError(f"{path}: its bytes are not those that were written; {fix}")
    with open_hdf5(path, fix=fix) as root:
        schema = root.attrs.get("schema_version")
        if schema not in READABLE_SCHEMAS:
            newer = isinstance(schema, int | np.integer) and schema > SCHEMA_VERSION
            raise LedgerError(
                f"{path}: has schema {schema}, but this version reads schemas up to {SCHEMA_VERSION}"
                + ("; it was written by a newer version of al-engine: install that version" if newer else f"; {fix}")
            )
        if seal is SealState.ABSENT and schema > 1:
            raise LedgerError(f"{path}: lacks its seal, because it was cut off or changed by another program; {fix}")
        if verify:
            try:
                check_self_contained(root)
            except UNREADABLE as error:
                raise _damaged(path, error, fix) from None
        if seal is SealState.ABSENT and not _is_as_written(root):
            raise LedgerError(f"{path}: its content is not the content that was written; {fix}")
        yield root


def is_finished(path: Path, key: str) -> bool:
    """Whether a part exists that was made from the inputs of this key.

    Raises:
        LedgerError: If the part is damaged.
    """
    if not path.exists():
        return False
    with open_part(path) as root:
        return bool(root.attrs["key"] == key)


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
        raise _damaged(path, error, fix) from None
    with root:
        try:
            dict(root.attrs)
        except UNREADABLE as error:
            raise _damaged(path, error, fix) from None
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


def _damaged(path: Path, error: Exception, fix: str) -> LedgerError:
    reason = " ".join(str(error).split())
    return LedgerError(f"{path}: damaged ({reason[:120]}); {fix}")


def _is_as_written(root: h5py.File) -> bool:
    try:
        return bool(content_hash(root) == root.attrs.get("content_hash"))
    except UNREADABLE:
        return False
