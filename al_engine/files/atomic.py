"""Files that are replaced as a whole: a crash leaves the old one or the new one, never half of one."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from al_engine.errors import ResumableError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
BROKEN = (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT, errno.EREMOTEIO)
"""What a system says of a disk or a network file system that fails, whatever is in the file."""
REFUSED = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
"""What a system says of a path that it does not take."""


def write_file(path: Path, content: bytes) -> None:
    """Write a file: all of it or nothing, and on disk when this returns.

    Args:
        path: The file; `path` + ".tmp" is used meanwhile.
        content: All of its bytes.

    Raises:
        ResumableError: If the disk is full or can't be written to.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        publish(temporary, path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def publish(temporary: Path, path: Path) -> None:
    """Give a file that is on disk its name; the name is on disk too when this returns.

    Raises:
        OSError: If that cannot be done.
    """
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_error(path: Path, error: OSError) -> ResumableError:
    """The message for a read that the disk failed, not the file."""
    return ResumableError(
        f"{path}: cannot be read ({error.strerror or error}): the disk or its file system fails. Nothing finished is "
        "lost: see to it, then `al-engine resume`"
    )


def disk_error(path: Path, error: OSError) -> ResumableError:
    """The message for a write that failed."""
    if error.errno in DISK_FULL:
        return ResumableError(
            f"{path}: the disk is full. Nothing finished is lost: free some space, then `al-engine resume`"
        )
    return ResumableError(
        f"{path}: cannot be written ({error.strerror or error}). Nothing finished is lost: fix that, then resume"
    )
