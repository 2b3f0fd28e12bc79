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
"""Schema of the parts that are written. 2: parts are sealed. 3: parts have a summary and say what made them."""
READABLE_SCHEMAS = (1, 2, 3)
CONTENT_SCHEMA = 2
"""The newest schema that changed what the content hash covers. A part of a later schema is hashed as if it were of this
one, so that a part that is computed again for an older campaign has the same hash as before."""
KEY_VERSION = 1
"""Version of the payload of keys. If it were raised, the parts of all existing campaigns would be foreign to them."""
SUMMARY, MADE_BY = "summary", "made_by"
"""Attributes of a part's root: one line for the reader; versions, device and host that made the part, as JSON."""
VOLATILE_ATTRIBUTES = frozenset({"content_hash", "seconds", "iteration_seconds", "force_check", SUMMARY, MADE_BY})
"""Attributes of a part's root that say how it was made, not what it holds: left out of the content hash."""

BLOCK_BYTES = 2**22
"""How much of a data set is hashed at a time."""

UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, SystemError)
"""What h5py raises on damaged bytes, depending on what they were: data, a name, a type, an address."""


def part_key(kind: str, inputs: Mapping[str, Any], parents: Sequence[str]) -> str:
    """Key of a stage's inputs.

    Args:
        kind: Name of the stage.
        inputs: JSON-able inputs: config sections, seeds, numbers.
        parents: Content hashes of the parts that the stage reads.

    Returns:
        SHA-256, equal for equal inputs.
    """
    payload = {"schema": KEY_VERSION, "kind": kind, "inputs": dict(inputs), "parents": list(parents)}
    return hashlib.sha256(json.dumps(payload, sort_keys=True, allow_nan=False).encode()).hexdigest()


def content_hash(root: h5py.Group) -> str:
    """SHA-256 over every dataset and attribute of a part, or of a group of it, independent of the file's layout."""
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
                # The bytes of variable-length strings are pointers.
                digest.update(_json(array) if array.dtype.hasobject else array.tobytes())

    add("", root)
    names: list[str] = []
    root.visit(names.append)
    for name in sorted(names):
        add(name, root[name])
    return digest.hexdigest()


def _blocks(dataset: h5py.Dataset) -> Iterator[np.ndarray]:
    """A data set's content, in rows that fit the memory unless their bytes are not what is hashed."""
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
    """Write an HDF5 file: all of it or nothing, and on disk when the block ends.

    It is made in memory, because HDF5 neither reports a full disk in one way nor survives it: a file that can't be
    flushed stays open in the library, which then crashes at the end of the process.

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
    """Write a part: all of it or nothing, and on disk when the block ends.

    Args:
        path: Where the part will be; `path` + ".tmp" is used meanwhile.
        kind: Name of the stage.
        key: From `part_key`.
        streamed: Whether it grows on disk, as it is written, and not in memory.

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
        verify: Compare all of its bytes with its seal, or where it is older than seals, its content with its hash.

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
                f"{path}: has schema {schema}, this version reads up to {SCHEMA_VERSION}"
                + ("; it was written by a newer al-engine: install that" if newer else f"; {fix}")
            )
        if seal is SealState.ABSENT and schema > 1:
            raise LedgerError(f"{path}: lacks its seal, so that it was cut off or written to; {fix}")
        if verify:
            try:
                refuse_tricks(root)
            except UNREADABLE as error:
                raise _damaged(path, error, fix) from None
        if seal is SealState.ABSENT and not _is_as_written(root):
            raise LedgerError(f"{path}: its content is not what was written; {fix}")
        yield root


def refuse_tricks(root: h5py.File) -> None:
    """Refuse a file that reaches outside itself, or claims data that it does not have.

    Files of ours hold neither links nor compressed data, so that all of their content is within their bytes.

    Raises:
        LedgerError: If it has a link to another file or name, data in another file, or data sets larger than itself.
    """
    size = Path(root.filename).stat().st_size

    # What these return ends the visit; an exception must not pass through HDF5's own code.
    def leaves(name: str, link: Any) -> str | None:
        return None if isinstance(link, h5py.HardLink) else f"{name} is a link to somewhere else, which no part has"

    def claims(name: str, item: h5py.Group | h5py.Dataset) -> str | None:
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual or item.nbytes > size):
            return f"{name} claims data that the file does not hold"
        return None

    trick = root.visititems_links(leaves) or root.visititems(claims)
    if trick is not None:
        raise LedgerError(f"{root.filename}:{trick}; do not trust this file")


def seal_state(path: Path) -> SealState | None:
    """What a file's seal says; None if the file can't be opened, of which `open_hdf5` says more.

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

    A file of ours is never written to once it has its name, so that its readers need no lock: one that a dead process
    has left, or a file system without locks, must not keep them from it.

    Raises:
        OSError: If it can't be opened.
    """
    for locking in (False, None, True, "best-effort"):
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError as error:
            if "flag values don't match" not in str(error):
                raise
            refused = error  # this process has it open, with another word on locks: HDF5 asks for the same
    raise refused


@contextmanager
def open_hdf5(path: Path, *, fix: str) -> Iterator[h5py.File]:
    """Open an HDF5 file whose attributes can be read.

    Args:
        path: The file.
        fix: What to do if it is damaged, for the error.

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
        if error.errno is not None:  # the system's word, not HDF5's: the file itself may be sound
            told = "HDF5_USE_FILE_LOCKING"  # what it says goes before what we ask for
            fix = f"unset {told}" if "lock" in str(error) and told in os.environ else "see to it, then try again"
            raise LedgerError(f"{path}: cannot be opened ({os.strerror(error.errno)}); {fix}") from None
        raise _damaged(path, error, fix) from None
    with root:
        try:
            dict(root.attrs)
        except UNREADABLE as error:
            raise _damaged(path, error, fix) from None
        try:
            yield root
        except UNREADABLE as error:  # HDF5 turns what the system says into errors of any kind
            number = _system_error(path, error)
            if number not in BROKEN:
                raise
            raise read_error(path, OSError(number, os.strerror(number))) from error


def _system_error(path: Path, error: Exception) -> int | None:
    """The system's error number behind one of HDF5's about a file."""
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
