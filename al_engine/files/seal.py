"""The seal of an HDF5 file: the SHA-256 of its bytes, appended to the file.

The seal reveals damage before the file is opened with HDF5, which may crash on damaged bytes and checks few of them.
HDF5 ignores bytes beyond the end that a file's header states, so that any HDF5 reader can open a sealed file.
"""

import hashlib
from enum import Enum, auto
from pathlib import Path

MARK = b"\nal-engine seal: sha256 "
"""Beginning of a seal. The SHA-256 in 64 hexadecimal digits and a line feed follow."""
SEAL_BYTES = len(MARK) + 64 + 1
BLOCK_BYTES = 2**20
"""Bytes of a file that are hashed at a time."""


class SealState(Enum):
    """Result of comparing a file with its seal."""

    WHOLE = auto()
    """The bytes are those that were written."""
    BROKEN = auto()
    """The bytes are not those that were written."""
    ABSENT = auto()
    """The file does not end with a seal: it was cut off or changed by another program, or is a part of schema 1, which
    has no seal."""


def seal_of(content: bytes) -> bytes:
    """The seal that has to be appended to a file of this content."""
    return _seal(hashlib.sha256(content))


def seal_file(path: Path) -> None:
    """Append the seal to a file that has no seal yet.

    Raises:
        OSError: If the file can't be read or written.
    """
    with path.open("r+b") as handle:
        digest = hashlib.sha256()
        while block := handle.read(BLOCK_BYTES):
            digest.update(block)
        handle.write(_seal(digest))


def check_seal(path: Path) -> SealState:
    """Read a file and compare it with its seal.

    Raises:
        OSError: If the file can't be read.
    """
    bytes_left = path.stat().st_size - SEAL_BYTES
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while bytes_left > 0 and (block := handle.read(min(bytes_left, BLOCK_BYTES))):
            digest.update(block)
            bytes_left -= len(block)
        seal = handle.read()
    if len(seal) < SEAL_BYTES or not seal.startswith(MARK):
        return SealState.ABSENT
    return SealState.WHOLE if seal == _seal(digest) else SealState.BROKEN


def _seal(digest: "hashlib._Hash") -> bytes:
    """The seal of a file with this hash."""
    return MARK + digest.hexdigest().encode() + b"\n"
