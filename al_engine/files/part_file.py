"""Parts: immutable HDF5 files, one per finished stage, each with the key of its inputs and its own content hash."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from al_engine.errors import LedgerError
from al_engine.files.atomic import disk_error, publish
from al_engine.files.hdf5 import (
    UNREADABLE,
    check_self_contained,
    damaged,
    in_memory_hdf5,
    open_hdf5,
    seal_state,
    streamed_hdf5,
)
from al_engine.files.seal import SealState

SCHEMA_VERSION = 3
"""Schema of the parts that this version writes. New in 2: the seal. New in 3: summary and provenance (`MADE_BY`)."""
READABLE_SCHEMAS = (1, 2, 3)
CONTENT_SCHEMA = 2
"""Newest schema that changed what the content hash covers. The schema number is hashed too, but for a later schema this
number is hashed instead. So a part that is computed again for an older campaign keeps its content hash."""
KEY_VERSION = 1
"""Version that is hashed in every key. With another version, no part of an existing campaign would match its key."""
SUMMARY, MADE_BY = "summary", "made_by"
"""Attributes of a part's root: a summary of one line; the versions, device and host that made the part, as JSON."""
VOLATILE_ATTRIBUTES = frozenset({"content_hash", "seconds", "iteration_seconds", "force_check", SUMMARY, MADE_BY})
"""Attributes of a part's root that are left out of the content hash: they describe its making, not its content."""

BLOCK_BYTES = 2**22
"""Bytes of a data set that are hashed at a time."""


def part_key(kind: str, inputs: Mapping[str, Any], parents: Sequence[str]) -> str:
    """Key of a part: a hash of the inputs of its stage.

    Args:
        kind: Kind of the part. For a part of a campaign it is the part's name, such as `iter003-member0`.
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
        if name == "":  # the root
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
    """A data set in blocks of rows of about `BLOCK_BYTES`.

    A scalar, and a data set of strings of variable length, are one block.
    """
    if not dataset.shape or dataset.dtype.hasobject or dataset.nbytes <= BLOCK_BYTES:
        yield np.asarray(dataset[()])
        return
    rows = max(1, BLOCK_BYTES * len(dataset) // dataset.nbytes)
    for first in range(0, len(dataset), rows):
        yield np.asarray(dataset[first : first + rows])


def _json(value: Any) -> bytes:
    """Canonical JSON of a value: equal values of attributes and strings give equal bytes, however they are stored."""

    def plain(other: Any) -> Any:
        if isinstance(other, np.ndarray | np.generic):
            return other.tolist()
        if isinstance(other, bytes):
            return other.hex()
        raise TypeError(f"a part cannot hold a {type(other).__name__}")

    return json.dumps(value, sort_keys=True, default=plain).encode()


@contextmanager
def write_part(path: Path, *, kind: str, key: str, streamed: bool = False, once: bool = False) -> Iterator[h5py.File]:
    """Write a part atomically; the part is on disk when the `with` block ends.

    Args:
        path: File of the part. A temporary file beside it is used while writing.
        kind: Kind of the part, as in `part_key`.
        key: The key, from `part_key`.
        streamed: Whether the file grows on disk while it is written, instead of in memory.
        once: Whether a sound part with the same key stays, and the new file is discarded. The same job may run twice,
            on processors whose results differ in the last bits, and others may have read the part that was first.

    Raises:
        ResumableError: If the disk is full or can't be written to.
    """
    # The error ends the inner block before the file gets its name.
    with suppress(_StandsAlreadyError), (streamed_hdf5 if streamed else in_memory_hdf5)(path) as root:
        root.attrs.update(schema_version=SCHEMA_VERSION, kind=kind, key=key)
        yield root
        root.attrs["content_hash"] = content_hash(root)
        if once and stands(path, key):
            raise _StandsAlreadyError


class _StandsAlreadyError(Exception):
    """The part that is being written was finished by another process."""


def stands(path: Path, key: str) -> bool:
    """Whether a sound part with this key exists at a path.

    Raises:
        OSError: If the folder of the path does not exist.
    """
    # A network file system may remember that a file did not exist; opening its folder makes it ask again.
    if path.name not in os.listdir(path.parent):  # noqa: PTH208 (a path for each of 100,000 files takes a second)
        return False
    try:
        with open_part(path, verify=True) as root:
            return bool(root.attrs["key"] == key)
    except LedgerError:  # a damaged part is replaced
        return False


def adopt_part(fetched: Path, path: Path, *, kind: str, key: str) -> None:
    """Publish a part that another machine has made; a sound part with the same key stays, and the new one is left.

    Args:
        fetched: The part, in the folder of `path` under a temporary name; its content is on disk.
        path: File of the part.
        kind: Kind that the part must have.
        key: Key that the part must have.

    Raises:
        LedgerError: If the bytes do not match the seal, or kind or key are others.
        ResumableError: If the disk fails.
    """
    with open_part(fetched, verify=True) as root:
        if (root.attrs.get("kind"), root.attrs.get("key")) != (kind, key):
            raise LedgerError(f"{fetched}: is not the part {kind} with the key {key}")
    if not stands(path, key):
        try:
            publish(fetched, path)
        except OSError as error:
            raise disk_error(path, error) from error


@contextmanager
def open_part(path: Path, *, verify: bool = False) -> Iterator[h5py.File]:
    """Open a part for reading.

    Args:
        path: The part.
        verify: Whether to compare all bytes with the seal; in a part of schema 1, which has no seal, the content is
            compared with the content hash.

    Raises:
        LedgerError: If the file is missing, damaged, in use, or of a schema that this version does not read.
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
                raise damaged(path, error, fix) from None
        if seal is SealState.ABSENT and not _is_as_written(root):
            raise LedgerError(f"{path}: its content is not the content that was written; {fix}")
        yield root


def is_finished(path: Path, key: str) -> bool:
    """Whether a part exists at a path and has this key, that is, was made from the same inputs.

    Raises:
        LedgerError: If the part is damaged.
        ResumableError: If the disk fails.
    """
    if not path.exists():
        return False
    with open_part(path) as root:
        return bool(root.attrs["key"] == key)


def _is_as_written(root: h5py.File) -> bool:
    """Whether the content of a part has the content hash that is stored in the part."""
    try:
        return bool(content_hash(root) == root.attrs.get("content_hash"))
    except UNREADABLE:
        return False
