"""Stage calls on machines that do not see the campaign directory: what they read and make travels through a store.

The conducting process alone has the campaign directory, and decides as always. `StoredCampaign` puts what a job reads
into the store; `run_stored_call` runs the job in a copy of the campaign directory on the machine that got it, and puts
the parts that it made into the store; `StoredCampaign` fetches them, compares them with their seals and keys, and
publishes them in the campaign directory.

Which part belongs to the campaign is decided by the answer of the job, not by the store: a job that runs twice, or
ends when nobody waits for it any more, leaves an object that nobody reads.
"""

import hashlib
import json
import os
import platform
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_engine.campaign.inputs import INPUTS
from al_engine.campaign.ledger import CONFIG_FILE
from al_engine.campaign.part import PARTS
from al_engine.child_process import Message
from al_engine.config.writer import config_text
from al_engine.errors import AlEngineError, InputError, LedgerError
from al_engine.files.atomic import disk_error, temporary_path, write_file
from al_engine.files.part_file import adopt_part, stands
from al_engine.protocols import Progress
from flows.compute.job import run_call
from flows.compute.stage_call import StageCall, config_of_run
from flows.compute.store import Store, StoreError, digest_of

PARTS_MADE, TROUBLE, OBJECTS = "parts", "trouble", "objects"
"""Keys of the answer of a job: digests of the parts by name; or what is wrong with the store, and digests of objects
that are missing or damaged."""


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
        for output, path in parts.items():
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
