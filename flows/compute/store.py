"""An object store, through which files travel between machines: S3, a folder, and what else fsspec knows.

An object is a file, named by the SHA-256 of its bytes, and is created once: who finds the name taken leaves the object
as it is, and who fetches an object compares its bytes with its name. So it does no harm if a file is put there twice,
by a writer that is late, or for another campaign.
"""

import errno
import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from al_engine.errors import InputError, ResumableError
from al_engine.files.atomic import DISK_FULL, create, disk_error, publish, temporary_path

WAITS_S = (1.0, 5.0)
"""Waiting times before the further attempts to reach a store that does not answer, s."""
S3_LIMITS: Mapping[str, Any] = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 2}}
"""Limits of a request to S3: time to connect and to wait for bytes, s; attempts, beside those of s3fs and `WAITS_S`."""
S3 = ("s3://", "s3a://")
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
"""Exceptions of the packages for S3 and Google's store, which may not be installed."""

_Result = TypeVar("_Result")


class StoreError(ResumableError):
    """The store cannot be used, or gave back other bytes than were written.

    Args:
        message: What is wrong.
        lasting: Whether another attempt is useless: access denied, or no such bucket.
        objects: Digests of objects that are missing or damaged.
    """

    def __init__(self, message: str, *, lasting: bool = False, objects: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.lasting, self.objects = lasting, tuple(objects)


class Store:
    """Objects below a URL, named by the SHA-256 of their bytes (`digest_of`).

    Args:
        url: URL that fsspec knows, such as `s3://bucket/prefix` or `file:///folder`.

    Raises:
        InputError: If the package for such URLs is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        options: dict[str, Any] = {}
        if url.startswith(S3):
            given = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
            options = {"use_listings_cache": False, "config_kwargs": {**S3_LIMITS, **given}}
        try:
            self._files, root = fsspec.url_to_fs(url, **options)
        except ImportError as error:
            remedy = "pip install 'al-engine[s3]'" if url.startswith(S3) else "install the package with pip"
            raise InputError(f"execution.store: {url}: {error}, on {platform.node()}: {remedy}") from None
        except ValueError as error:
            raise InputError(f"execution.store: {url}: {error}") from None
        self._root = str(root).rstrip("/")

    def path(self, digest: str) -> str:
        """Path of an object in the file system of the store."""
        return f"{self._root}/{digest[:2]}/{digest}"

    def put(self, source: Path, digest: str) -> bool:
        """Create an object from a file.

        Returns:
            Whether it was created; False if it exists already, and was left as it is.

        Raises:
            StoreError: If the store cannot be used.
        """
        return self._reached(lambda: self._create(str(source), self.path(digest)))

    def _create(self, source: str, target: str) -> bool:
        if isinstance(self._files, LocalFileSystem):
            return create(Path(source), Path(target))
        if self._files.exists(target):  # spares the transfer
            return False
        try:
            self._files.put_file(source, target, mode="create")
        except OSError as error:
            # Not all servers name the condition that was not met, which s3fs makes a FileExistsError of.
            if isinstance(error, FileExistsError) or (error.errno == errno.EINVAL and self._files.exists(target)):
                return False
            raise
        return True

    def replace(self, source: Path, digest: str) -> None:
        """Write an object again whose bytes are not those of its name.

        Raises:
            StoreError: If the store cannot be used.
        """
        self.remove(digest)
        self.put(source, digest)

    def remove(self, digest: str) -> None:
        """Remove an object, if it exists.

        Raises:
            StoreError: If the store cannot be used.
        """

        def removed() -> None:
            with suppress(FileNotFoundError):
                self._files.rm_file(self.path(digest))

        self._reached(removed)

    def get(self, digest: str, target: Path) -> None:
        """Fetch an object into a file, which appears as a whole, once its bytes are compared with its name.

        Raises:
            StoreError: If the store cannot be used, or the object is missing or damaged.
            ResumableError: If the disk is full.
        """
        temporary = temporary_path(target)
        try:
            if not self._reached(lambda: self._fetch(self.path(digest), temporary)):
                raise StoreError(f"{self.url}: an object is missing: {digest}", objects=[digest])
            if digest_of(temporary) != digest:
                raise StoreError(f"{self.url}: an object is damaged: {digest}", objects=[digest])
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            publish(temporary, target)
        except OSError as error:
            raise disk_error(target, error) from error
        finally:
            with suppress(OSError):
                temporary.unlink()

    def _fetch(self, source: str, target: Path) -> bool:
        """Fetch an object; False if it does not exist."""
        try:
            self._files.get_file(source, str(target))
        except FileNotFoundError:
            return False
        return True

    def check(self) -> None:
        """Create a small object, so that a store that cannot be used is noticed before the first job.

        Raises:
            InputError: If the store is wrong: no such bucket, no credentials, access denied.
            StoreError: If it does not answer.
        """
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"Objects of al-engine: each is named by the SHA-256 of its bytes.\n")
            file.flush()
            try:
                self.put(Path(file.name), digest_of(Path(file.name)))
            except StoreError as error:
                if error.lasting:
                    raise InputError(f"execution.store: {error}") from error
                raise

    def _reached(self, step: Callable[[], _Result]) -> _Result:
        """The result of a step that uses the store; tried again if the store does not answer.

        Raises:
            StoreError: If the store does not answer, or refuses the step.
        """
        waits_s = list(WAITS_S)
        while True:
            try:
                return step()
            except Exception as error:  # each kind of store has exceptions of its own
                said, lasting = _words(error)
                if lasting or not waits_s:
                    raise StoreError(f"{self.url}: {said}", lasting=lasting) from error
            time.sleep(waits_s.pop(0))


def _words(error: Exception) -> tuple[str, bool]:
    """What an exception of a store means, and whether another attempt is useless."""
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return f"the disk of the store or of {platform.node()} is full", True
    if kind in NO_CREDENTIALS:
        return f"no credentials are found on {platform.node()} ({error})", True
    if isinstance(error, PermissionError):
        return f"access is denied to {platform.node()} ({error})", True
    if isinstance(error, FileNotFoundError):
        return f"the bucket or folder does not exist ({error})", True
    return f"the store cannot be reached from {platform.node()} ({kind}: {error})", False


def digest_of(path: Path) -> str:
    """SHA-256 of the bytes of a file, as hexadecimal digits.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
