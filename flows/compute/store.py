"""Stage calls on machines that do not see the campaign directory: files travel through an object store.

The conducting process alone has the campaign directory, and decides as always. `StoredCampaign` puts what a job reads
into the store; `run_stored_call` runs the job in a copy of the campaign directory on the machine that got it, and puts
the parts that it made into the store; `StoredCampaign` fetches them, compares them with their seals and keys, and
publishes them in the campaign directory.

An object is a file, named by the SHA-256 of its bytes, and is created once: who finds the name taken leaves the object
as it is, and who fetches an object compares its bytes with its name. So it does no harm if a job runs twice, if a
writer is killed or late, or if two campaigns share a store: which part belongs to the campaign is decided by the
answer of the job, not by the store.
"""

import errno
import hashlib
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from al_engine.campaign.inputs import INPUTS
from al_engine.campaign.ledger import CONFIG_FILE
from al_engine.campaign.part import PARTS
from al_engine.child_process import Message
from al_engine.config.writer import config_text
from al_engine.errors import AlEngineError, InputError, LedgerError, ResumableError
from al_engine.files.atomic import DISK_FULL, create, disk_error, publish, temporary_path, write_file
from al_engine.files.part_file import adopt_part, stands
from al_engine.protocols import Progress
from flows.compute.job import run_call
from flows.compute.stage_call import StageCall, config_of_run

WAITS_S = (1.0, 5.0)
"""Waiting times before the further attempts to reach a store that does not answer, s."""
PARTS_MADE, TROUBLE, OBJECTS = "parts", "trouble", "objects"
"""Keys of the answer of a job: digests of the parts by name; or what is wrong with the store, and digests of objects
that are missing or damaged."""
S3_LIMITS: Mapping[str, Any] = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 2}}
"""Limits of a request to S3: time to connect and to wait for bytes, s; attempts, beside those of s3fs and `WAITS_S`."""
S3 = ("s3://", "s3a://")

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
            raise InputError(f"execution.store: {url}: {error}: {remedy}") from None
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
    if "Credential" in kind:
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


class StoredCampaign:
    """A campaign directory whose jobs run on machines that do not see it.

    Args:
        directory: The campaign directory.
        store: The store through which files travel.
        scratch: Folder of the other machines for copies of the campaign directory; None: that of temporary files.
    """

    def __init__(self, directory: Path, store: Store, *, scratch: str | None) -> None:
        self._directory, self._store, self._scratch = directory.resolve(), store, scratch
        self._digests: dict[Path, tuple[tuple[int, ...], str]] = {}
        self._stored: set[str] = set()
        self._suspect: set[str] = set()
        self._putting: dict[Path, threading.Lock] = {}

    def arguments(self, call: StageCall) -> Message:
        """The arguments of `run_stored_call` that tell a machine what the job reads, once all of it is in the store.

        Raises:
            StoreError: If the store cannot be used.
            LedgerError: If a part is missing.
        """
        config = config_text(config_of_run(self._directory))
        whose = [platform.node(), str(self._directory), self._store.url, config]
        parts = [self._directory / PARTS / f"{name}.h5" for name in call.readable]
        inputs = sorted(path for path in (self._directory / INPUTS).rglob("*") if path.is_file())
        return {
            "store": self._store.url,
            "scratch": self._scratch,
            "campaign": hashlib.sha256(json.dumps(whose).encode()).hexdigest()[:16],
            "directory": str(self._directory),
            "config": config,
            "files": {path.relative_to(self._directory).as_posix(): self._put(path) for path in (*inputs, *parts)},
        }

    def _put(self, path: Path) -> str:
        """Put a file into the store, unless it is there; its digest. Jobs that begin together put a file there once."""
        with self._putting.setdefault(path, threading.Lock()):
            try:
                status = path.stat()
                stamp = status.st_ino, status.st_mtime_ns, status.st_size
                if path not in self._digests or self._digests[path][0] != stamp:
                    self._digests[path] = stamp, digest_of(path)
            except OSError as error:
                raise LedgerError(f"{path}: cannot be read: {error.strerror}") from error
            digest = self._digests[path][1]
            if digest not in self._stored:
                (self._store.replace if digest in self._suspect else self._store.put)(path, digest)
                self._stored.add(digest)
                self._suspect.discard(digest)
            return digest

    def publish(self, call: StageCall, answer: Message) -> None:
        """Publish the parts that a job made in the campaign directory; a part that stands there already stays.

        Args:
            call: The call of the job.
            answer: The answer of `run_stored_call`.

        Raises:
            StoreError: If the store could not be used, here or there, or a part is damaged or another one.
            ResumableError: If the disk is full.
        """
        if TROUBLE in answer:
            self._stored.difference_update(answer[OBJECTS])
            self._suspect.update(answer[OBJECTS])
            raise StoreError(answer[TROUBLE])
        for output in call.outputs:
            path = self._directory / PARTS / f"{output.name}.h5"
            digest, fetched = answer[PARTS_MADE][output.name], temporary_path(path)
            try:
                self._store.get(digest, fetched)
                adopt_part(fetched, path, kind=output.name, key=output.key)
            except LedgerError as error:
                said = str(error).partition(";")[0].replace(str(fetched), output.name)
                raise StoreError(f"{self._store.url}: a job has put there what is not its part: {said}") from error
            finally:
                fetched.unlink(missing_ok=True)
            self._stored.add(digest)


def run_stored_call(
    *,
    call: Mapping[str, Any],
    store: str,
    scratch: str | None,
    campaign: str,
    directory: str,
    config: str,
    files: Mapping[str, str],
    device: str | None,
    label_workers: int,
    progress: Progress,
) -> Message:
    """Run a stage call in a copy of the campaign directory on this machine, and put its parts into the store.

    The copy is kept for the next job: files that it has are not fetched again, and what a lost job had finished is
    found there by the next attempt.

    Args:
        call: The call as JSON-able values.
        store: URL of the store.
        scratch: Folder for the copy; None: that of temporary files.
        campaign: Name of the copy, which no other campaign has.
        directory: The campaign directory, for messages.
        config: Text of `campaign.yaml`.
        files: Digests of the files that the job reads, by their path in the campaign directory.
        device: `cpu` or `cuda`; None: as this machine has it.
        label_workers: Number of workers that label.
        progress: Receives the progress of the job.

    Returns:
        Digests of the parts, or what is wrong with the store, so that the job is tried again.

    Raises:
        AlEngineError: As the job raises, or if the folder cannot be used.
    """
    folder, planned = _own_folder(scratch), StageCall.from_dict(call)
    copy, objects = folder / campaign, folder / "objects"
    parts = {output: copy / PARTS / f"{output.name}.h5" for output in planned.outputs}
    try:
        opened = Store(store)
        _fill(copy, objects, files, opened, progress)
        write_file(copy / CONFIG_FILE, config.encode())
        for path in parts.values():
            if path.is_symlink():  # it was read here, and is now made again
                path.unlink()
        if not parts or not all(stands(path, output.key) for output, path in parts.items()):
            run_call(call=call, directory=str(copy), device=device, label_workers=label_workers, progress=progress)
        digests = {output.name: digest_of(path) for output, path in parts.items()}
        for output, path in parts.items():
            opened.put(path, digests[output.name])
            path.replace(objects / digests[output.name])  # kept for jobs that read it
    except StoreError as error:
        return {TROUBLE: str(error), OBJECTS: list(error.objects)}
    except FileNotFoundError as error:
        if error.filename not in {str(path) for path in parts.values()}:
            raise
        return {TROUBLE: f"{store}: another attempt of the same job has put its part there", OBJECTS: []}
    except AlEngineError as error:  # the user has another path to the campaign directory
        raise type(error)(str(error).replace(str(copy), directory)) from error
    return {PARTS_MADE: digests}


def _own_folder(scratch: str | None) -> Path:
    """The folder of this user on this machine for copies of campaign directories.

    Raises:
        InputError: If it cannot be made, or is another user's.
    """
    where = Path(tempfile.gettempdir()) if scratch is None else Path(scratch).expanduser()
    folder = where / f"al-engine-{os.getuid()}"
    try:
        (folder / "objects").mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be used on {platform.node()} ({error.strerror}); set `execution.scratch` to a folder of "
            "the machines of the cluster"
        ) from error
    return folder


def _fill(copy: Path, objects: Path, files: Mapping[str, str], store: Store, progress: Progress) -> None:
    """Make the files of a copy links to objects, which are fetched if this machine does not have them.

    Raises:
        StoreError: If the store cannot be used, or an object is missing or damaged.
        ResumableError: If the disk is full.
    """
    missing = [digest for digest in dict.fromkeys(files.values()) if not (objects / digest).exists()]
    for number, digest in enumerate(missing):
        progress(0, 0, f"fetches file {number + 1} of {len(missing)} from the store")
        store.get(digest, objects / digest)
    try:
        (copy / PARTS).mkdir(parents=True, exist_ok=True)
        for name, digest in files.items():
            path, temporary = copy / name, temporary_path(copy / name)
            if path.is_symlink() and path.readlink() == objects / digest:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.symlink_to(objects / digest)
            temporary.replace(path)
    except OSError as error:
        raise disk_error(copy, error) from error
