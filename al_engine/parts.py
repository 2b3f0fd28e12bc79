"""Parts: immutable HDF5 files, one per finished stage, each with the key of its inputs and its own content hash."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from al_engine.errors import LedgerError, ResumableError

SCHEMA_VERSION = 1
VOLATILE_ATTRIBUTES = frozenset({"content_hash", "seconds"})
"""Attributes of a part's root that say how it was made, not what it holds: left out of the content hash."""


def part_key(kind: str, inputs: Mapping[str, Any], parents: Sequence[str]) -> str:
    """Key of a stage's inputs.

    Args:
        kind: Name of the stage.
        inputs: JSON-able inputs: config sections, seeds, numbers.
        parents: Content hashes of the parts that the stage reads.

    Returns:
        SHA-256, equal for equal inputs; the schema version is part of it.
    """
    payload = {"schema": SCHEMA_VERSION, "kind": kind, "inputs": dict(inputs), "parents": list(parents)}
    return hashlib.sha256(json.dumps(payload, sort_keys=True, allow_nan=False).encode()).hexdigest()


def content_hash(root: h5py.File) -> str:
    """SHA-256 over every dataset and attribute of a part, independent of the file's layout."""
    digest = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        attributes = {
            key: _plain(value) for key, value in item.attrs.items() if not (name == "" and key in VOLATILE_ATTRIBUTES)
        }
        digest.update(json.dumps([name, attributes], sort_keys=True).encode())
        if isinstance(item, h5py.Dataset):
            array = np.ascontiguousarray(item[()])
            digest.update(json.dumps([array.dtype.str, array.shape]).encode())
            digest.update(array.tobytes())

    add("", root)
    names: list[str] = []
    root.visit(names.append)
    for name in sorted(names):
        add(name, root[name])
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


@contextmanager
def write_part(path: Path, *, kind: str, key: str) -> Iterator[h5py.File]:
    """Write a part: all of it or nothing, and on disk when the block ends.

    Args:
        path: Where the part will be; `path` + ".tmp" is used meanwhile.
        kind: Name of the stage.
        key: From `part_key`.

    Raises:
        ResumableError: If the disk is full or can't be written to.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with h5py.File(temporary, "w") as root:
            root.attrs.update(schema_version=SCHEMA_VERSION, kind=kind, key=key)
            yield root
            root.attrs["content_hash"] = content_hash(root)
        publish(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name, so that a crash leaves either the old state or the new one."""
    with temporary.open("rb+") as handle:
        os.fsync(handle.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def disk_error(path: Path, error: OSError) -> ResumableError:
    """The message for a write that failed. HDF5 hides the reason in its text, so the text is shown."""
    reason = " ".join(str(error).split())
    if "errno = 28" in reason or "No space left" in reason:
        return ResumableError(
            f"{path}: the disk is full. Nothing finished is lost: free some space, then `al-engine resume`"
        )
    return ResumableError(
        f"{path}: cannot be written ({reason[:200]}). Nothing finished is lost: fix that, then resume"
    )


@contextmanager
def open_part(path: Path, *, verify: bool = False) -> Iterator[h5py.File]:
    """Open a part for reading.

    Args:
        path: The part.
        verify: Recompute the content hash.

    Raises:
        LedgerError: If the file is missing, damaged, or of a schema this version does not read.
    """
    try:
        root = h5py.File(path, "r")
    except FileNotFoundError:
        raise LedgerError(f"{path}: missing; restore it, or resume to compute it again") from None
    except OSError as error:
        reason = " ".join(str(error).split())
        raise LedgerError(f"{path}: damaged ({reason[:120]}); move it away and resume to compute it again") from None
    with root:
        schema = root.attrs.get("schema_version")
        if schema != SCHEMA_VERSION:
            raise LedgerError(f"{path}: has schema {schema}, this version reads {SCHEMA_VERSION}")
        if verify:
            _verify(path, root)
        yield root


def _verify(path: Path, root: h5py.File) -> None:
    try:
        actual = content_hash(root)
    except (OSError, RuntimeError, KeyError):
        actual = "unreadable"
    if actual != root.attrs.get("content_hash"):
        raise LedgerError(f"{path}: its content is not what was written; move it away and resume to compute it again")
