"""The label cache: an SQLite file of labels, looked up by the frame's content hash and the level of theory.

Each campaign has its own cache, so that no label is computed twice even if its part is lost. `execution.label_cache`
names a cache that campaigns share. A cache may be deleted at any time: the parts hold the authoritative labels.
"""

import errno
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from al_engine.campaign.labels import LabelOutcome, LabelReason, LevelOfTheory
from al_engine.errors import InputError, ResumableError
from al_engine.files.lock import has_record_locks
from al_engine.structures.frames import Frame, LabelledFrame

CODE_VERSION = 1
"""Version of the labelling code. Raise it when a code change alters labels of an unchanged level of theory."""
PRIMARY_CODE = 0xFF
"""Bit mask for the primary error code, the low byte of SQLite's extended error codes."""
PATIENCE_S = 60.0
"""How long to wait while another campaign writes to the file, s."""
TABLE = """
CREATE TABLE IF NOT EXISTS labels (
    frame TEXT NOT NULL, level TEXT NOT NULL, energy REAL NOT NULL, forces BLOB NOT NULL, rescue TEXT NOT NULL,
    content TEXT NOT NULL, PRIMARY KEY (frame, level)
) WITHOUT ROWID
"""


class LabelCache:
    """The labels of a single level of theory in a cache file; a context manager.

    Threads and processes may share the file.

    Args:
        path: The file; created if it does not exist. None: a cache in memory, which ends with the object.
        level: Level of theory of the labels to find and keep.
        shared: Whether other processes may use the file too; its file system must then support record locks.
        stress: Whether labels of periodic frames have stresses; they are kept apart from labels without.

    Raises:
        InputError: If the file is not a label cache, or is shared on a file system without record locks.
        ResumableError: If the file can't be read or written.
    """

    def __init__(self, path: Path | None, level: LevelOfTheory, *, shared: bool = True, stress: bool = False) -> None:
        self.path = path
        self._level, self._stress = f"{CODE_VERSION}:{level.fingerprint()}", stress
        self._turn = threading.Lock()
        address = "file::memory:" if path is None else _address(path, shared=shared)
        try:
            self._database = sqlite3.connect(address, uri=True, timeout=PATIENCE_S, check_same_thread=False)
            self._database.execute(TABLE)
        except sqlite3.Error as error:
            raise self._error(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def find(self, frames: Sequence[Frame]) -> dict[int, LabelOutcome]:
        """Look up the labels of frames.

        Args:
            frames: The frames to look up.

        Returns:
            Outcomes by index in `frames`. Frames without a label in the cache, or with a damaged label, are left out.

        Raises:
            InputError: If the file is damaged.
            ResumableError: If the file can't be read.
        """
        found = {}
        query = "SELECT energy, forces, rescue, content FROM labels WHERE frame = ? AND level = ?"
        for index, frame in enumerate(frames):
            with self._turn:
                try:
                    row = self._database.execute(query, (frame.content_hash(), self._level_of(frame))).fetchone()
                except sqlite3.Error as error:
                    raise self._error(error) from None
            labelled = None if row is None else _labelled(frame, energy=row[0], forces=row[1])
            if labelled is not None and labelled.content_hash() == row[3]:
                found[index] = LabelOutcome(LabelReason.OK, "", labelled, 0.0, rescue=str(row[2]))
        return found

    def keep(self, outcomes: Iterable[LabelOutcome]) -> None:
        """Store the labels of the successful outcomes in a single transaction: all labels or none.

        Raises:
            InputError: If the file is damaged.
            ResumableError: If the file can't be written to.
        """
        rows = [
            (
                label.frame.content_hash(),
                self._level_of(label.frame),
                label.energy,
                _bytes(label),
                outcome.rescue,
                label.content_hash(),
            )
            for outcome in outcomes
            if (label := outcome.labelled) is not None
        ]
        with self._turn:
            try:
                with self._database:  # one transaction
                    self._database.executemany("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?, ?, ?)", rows)
            except sqlite3.Error as error:
                raise self._error(error) from None

    def _level_of(self, frame: Frame) -> str:
        """The level of theory under which a frame's label is kept."""
        return f"{self._level}:stress" if self._stress and frame.is_periodic else self._level

    def _error(self, error: sqlite3.Error) -> InputError | ResumableError:
        """`InputError` if the file is damaged or no cache, `ResumableError` if it cannot be read or written."""
        if isinstance(error, sqlite3.OperationalError):
            code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE  # SQLite does not pass on the system's errno
            broken = code == sqlite3.SQLITE_IOERR
            reason = os.strerror(errno.EIO) if broken else error
            return ResumableError(f"{self.path}: the label cache cannot be used ({reason}); fix that, then resume")
        return InputError(
            f"{self.path}: is not a label cache, or is damaged ({error}); if it is a cache, delete it: it holds only "
            "copies of labels; otherwise set `execution.label_cache` to another file"
        )


def _address(path: Path, *, shared: bool) -> str:
    """The address at which SQLite opens a file; without locks where its file system has none."""
    if has_record_locks(path.parent):
        return path.absolute().as_uri()
    if shared:
        raise InputError(
            f"{path}: its file system has no locks, which a label cache that campaigns share needs; set "
            "`execution.label_cache` to a file on another file system, or to null"
        )
    # not `nolock=1`: with that, SQLite still asks for a lock before it takes back what a killed process left undone
    return path.absolute().as_uri() + "?vfs=unix-none"


def _bytes(label: LabelledFrame) -> bytes:
    """The forces, followed by the stress if it is known."""
    arrays = [label.forces, *([] if label.stress is None else [label.stress])]
    return b"".join(np.ascontiguousarray(array, dtype="<f8").tobytes() for array in arrays)


def _labelled(frame: Frame, *, energy: float, forces: bytes) -> LabelledFrame | None:
    """The stored label of a frame; None if the number of forces does not fit the frame."""
    rows = np.frombuffer(forces, dtype="<f8")
    if len(rows) not in (3 * len(frame), 3 * (len(frame) + 3)):
        return None
    rows = rows.reshape(-1, 3)
    return LabelledFrame(frame, energy, rows[: len(frame)], rows[len(frame) :] if len(rows) > len(frame) else None)
