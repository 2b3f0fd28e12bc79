"""The seal of an HDF5 file of ours: the SHA-256 of its bytes, written behind them.

Damage is found by it before HDF5 sees the file, whose library may crash on damaged bytes and checks few of them itself.
HDF5 ignores what follows the end that a file's header states, so that every reader opens a sealed file as any other.
"""

import hashlib
from enum import Enum, auto
from pathlib import Path

MARK = b"\nal-engine seal: sha256 "
SEAL_BYTES = len(MARK) + 64 + 1
BLOCK_BYTES = 2**20


class SealState(Enum):
    """What a file's seal says."""

    WHOLE = auto()
    """The bytes are those that were written."""
    BROKEN = auto()
    """They are not."""
    ABSENT = auto()
    """There is none: the file is cut off, was written to by another program, or is older than seals."""


def seal_of(content: bytes) -> bytes:
    """What to write behind a file's content."""
    return _seal(hashlib.sha256(content))


def seal_file(path: Path) -> None:
    """Seal a file that has no seal yet.

    Raises:
        OSError: If it can't be read or written to.
    """
    with path.open("r+b") as handle:
        digest = hashlib.sha256()
        while block := handle.read(BLOCK_BYTES):
            digest.update(block)
        handle.write(_seal(digest))


def check_seal(path: Path) -> SealState:
    """Read a file and compare it with its seal.

    Raises:
        OSError: If it can't be read.
    """
    left = path.stat().st_size - SEAL_BYTES
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while left > 0 and (block := handle.read(min(left, BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
        seal = handle.read()
    if len(seal) < SEAL_BYTES or not seal.startswith(MARK):
        return SealState.ABSENT
    return SealState.WHOLE if seal == _seal(digest) else SealState.BROKEN


def _seal(digest: "hashlib._Hash") -> bytes:
    return MARK + digest.hexdigest().encode() + b"\n"
