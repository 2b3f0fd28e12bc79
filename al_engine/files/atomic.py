"""Atomic writes: a file is replaced as a whole, so that a crash leaves either the old file or the new file."""

import errno
import os
import platform
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from al_engine.errors import ResumableError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
BROKEN = (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT, errno.EREMOTEIO)
"""Error numbers of a disk or network file system that fails, whatever the content of the file."""
REFUSED = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
"""Error numbers of a path that can't be used."""


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically; the content is on disk when this function returns.

    Args:
        path: The file. A temporary file beside it is used while writing (`temporary_path`).
        content: All bytes of the file.

    Raises:
        ResumableError: If the disk is full or can't be written to.
    """
    temporary = temporary_path(path)
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


def temporary_path(path: Path) -> Path:
    """A name for the temporary file of a writer: no other writer of the same file has it, on this host or another."""
    return path.with_name(f"{path.name}.{platform.node()[:16]}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def publish(temporary: Path, path: Path) -> None:
    """Rename a temporary file whose content is on disk; the new name is on disk when this function returns.

    Raises:
        OSError: If the file cannot be renamed.
    """
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def create(source: Path, path: Path) -> bool:
    """Create a file with the content of another; it appears as a whole, and an existing file is left as it is.

    Args:
        source: The file that is copied.
        path: The new file; if its folder is missing, but the folder above exists, the folder is made.

    Returns:
        Whether the file was created; False if it existed.

    Raises:
        OSError: If the file cannot be written.
    """
    if path.exists():
        return False
    path.parent.mkdir(exist_ok=True)
    temporary = temporary_path(path)
    try:
        shutil.copyfile(source, temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.link(temporary, path)  # unlike a rename, a link replaces nothing
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def read_error(path: Path, error: OSError) -> ResumableError:
    """The error for a failed read whose cause is the disk, not the content of the file."""
    return ResumableError(
        f"{path}: cannot be read ({error.strerror or error}): the disk or its file system fails. Nothing finished is "
        "lost: repair the disk, then `al-engine resume`"
    )


def disk_error(path: Path, error: OSError) -> ResumableError:
    """The error for a failed write."""
    if error.errno in DISK_FULL:
        return ResumableError(
            f"{path}: the disk is full. Nothing finished is lost: free some space, then `al-engine resume`"
        )
    return ResumableError(
        f"{path}: cannot be written ({error.strerror or error}). Nothing finished is lost: fix this, then resume"
    )
