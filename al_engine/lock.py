"""One writer per campaign: a lock that the kernel frees when the process dies, however it dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from al_engine.errors import CampaignLockedError, InputError, typed

LOCK_FILE = ".lock"
PATIENCE_S = 1.0  # a reader that asks `is_locked` holds the lock for microseconds


@contextmanager
def campaign_lock(directory: Path) -> Iterator[None]:
    """Hold the campaign's lock.

    Raises:
        CampaignLockedError: If another process holds it; the message names its process id.
        InputError: If the directory can't be written to.
    """
    path = directory / LOCK_FILE
    try:
        handle = path.open("a+", encoding="ascii")
    except OSError as error:
        raise InputError(f"{directory}: cannot be written to: {error.strerror}") from None
    with handle:
        deadline = time.monotonic() + PATIENCE_S
        while not _try_lock(handle.fileno(), fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                handle.seek(0)
                owner = handle.read().strip() or "unknown"
                raise CampaignLockedError(
                    f"{directory}: is being run by process {owner}; watch it with `al-engine status {typed(directory)}`"
                )
            time.sleep(0.05)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def is_locked(directory: Path) -> bool:
    """Whether a process is running this campaign now."""
    try:
        handle = (directory / LOCK_FILE).open("r", encoding="ascii")
    except OSError:
        return False
    with handle:
        return not _try_lock(handle.fileno(), fcntl.LOCK_SH)


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
