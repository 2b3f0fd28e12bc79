"""Locks, so that one process at a time writes to a campaign: a lock of the kernel, or a lease, a file that is renewed.

The lock of the kernel ends with its process. Some network file systems have no such locks. There, a lease keeps a
second run out, if the config says `execution.lock: file`. The lease names the process that holds it. It is valid as
long as that process lives, or, if the process runs on another machine or in another container and so can't be seen, as
long as the lease is renewed.
"""

import errno
import fcntl
import json
import os
import platform
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from al_engine.errors import CampaignLockedError, InputError, typed
from al_engine.files.atomic import BROKEN, DISK_FULL, disk_error

LockKind: TypeAlias = Literal["auto", "file", "none"]

LOCK_FILE, LEASE_FILE = ".lock", ".lease"
PATIENCE_S = 1.0  # a reader that asks `is_locked` holds the lock for microseconds
RENEW_S, LEASE_S = 15.0, 90.0
"""Seconds between two renewals of a lease, and seconds for which a lease is valid after a renewal. The second is much
longer, because network file systems show changes late."""
SETTLE_S = 0.5
"""Wait in seconds after taking over a lease, so that the last of several processes that replaced the file is seen."""


class NoLocksError(InputError):
    """The file system has no locks."""


@contextmanager
def campaign_lock(
    directory: Path, kind: LockKind = "auto", *, say: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Hold the lock of a campaign directory or another directory.

    Args:
        directory: The directory.
        kind: `auto` for a lock of the file system, `file` for a lease, `none` for no lock.
        say: Receives messages: an old lease was taken over, or the own lease was lost.

    Raises:
        CampaignLockedError: If another process holds the lock; the message names its process id.
        NoLocksError: If the file system has no locks, and `kind` is `auto`.
        InputError: If the directory can't be written to.
    """
    with ExitStack() as held:
        if kind == "file":
            held.enter_context(_lease(directory, say))
            with suppress(NoLocksError):  # if the file system has locks, runs with `kind` "auto" are kept out too
                held.enter_context(_kernel_lock(directory))
        elif kind == "auto":
            held.enter_context(_kernel_lock(directory))
            now = (directory / LOCK_FILE).stat().st_mtime  # just written: the time by the file system's clock
            holder = _fresh_holder(directory / LEASE_FILE, now=now)
            if holder is not None:
                raise _locked(directory, holder)
        yield


def is_locked(directory: Path) -> bool:
    """Whether a process is running the campaign now, judged by lease and lock."""
    if _fresh_holder(directory / LEASE_FILE, now=time.time()) is not None:
        return True
    try:
        handle = (directory / LOCK_FILE).open("r", encoding="ascii")
    except OSError:
        return False
    with handle:
        try:
            return not _try_lock(handle.fileno(), fcntl.LOCK_SH)
        except OSError:  # no locks, or a failing disk: reading the files reports that
            return False


def has_record_locks(directory: Path) -> bool:
    """Whether a file system has record locks (locks on byte ranges of files), which databases need."""
    try:
        with tempfile.TemporaryFile(dir=directory) as handle:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        return error.errno in (*BROKEN, *DISK_FULL, errno.EACCES, errno.EROFS, errno.ENOENT)
    return True


# -- the kernel's lock ----------------------------------------------------------------------------------------------


@contextmanager
def _kernel_lock(directory: Path) -> Iterator[None]:
    path = directory / LOCK_FILE
    try:
        handle = path.open("a+", encoding="ascii")
    except OSError as error:
        raise InputError(f"{directory}: cannot be written to: {error.strerror}") from None
    with handle:
        deadline = time.monotonic() + PATIENCE_S
        while not _lock_or_explain(handle.fileno(), directory):
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


def _lock_or_explain(descriptor: int, directory: Path) -> bool:
    try:
        return _try_lock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in BROKEN:
            raise disk_error(directory / LOCK_FILE, error) from error
        raise NoLocksError(
            f"{directory}: its file system has no locks ({error.strerror}), so that a second run on this campaign "
            "would not be noticed; set `execution.lock: file` in the config, or move the campaign to another disk"
        ) from None


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# -- the lease --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that holds a lease.

    Attributes:
        host: Name of its machine, for messages.
        process: Process id.
        started: Start time of the process in the kernel's clock ticks, because process ids are reused.
        place: Where the process id is valid: boot id of the machine and process id namespace (container).
        token: Random number that no other lease has.
    """

    host: str
    process: int
    started: str
    place: str
    token: str

    @classmethod
    def of_this_process(cls) -> "_Holder":
        pid = os.getpid()
        return cls(platform.node(), pid, _start_of(pid), _place(), secrets.token_hex(8))

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    @property
    def is_dead(self) -> bool | None:
        """Whether the process has ended; None if it runs on another machine or in another container."""
        return None if self.place != _place() else _start_of(self.process) != self.started


UNKNOWN = _Holder("an unknown machine", 0, "", "", "")
"""Holder of a lease that cannot be parsed: its process was killed while writing it, or is still writing it."""


def _start_of(pid: int) -> str:
    """Start time of a process in clock ticks, field 22 of /proc/PID/stat; empty if the process has ended.

    The name of the process, in brackets, may contain spaces and brackets.
    """
    try:
        state, *fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except (OSError, ValueError):
        return ""
    return "" if state == "Z" else fields[18]


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{platform.node()} {secrets.token_hex(8)}"  # differs at every call: no process id can be compared


def _read(path: Path) -> tuple[_Holder, float] | None:
    """Holder of a lease, and time of its last renewal by the file system's clock; None if the file does not exist."""
    try:
        with path.open(encoding="utf-8") as handle:  # opened again: makes a network file system update its cache
            renewed = os.fstat(handle.fileno()).st_mtime
            return _Holder(**json.load(handle)), renewed
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return UNKNOWN, renewed


def _fresh_holder(path: Path, *, now: float) -> _Holder | None:
    """Holder of a valid lease; None if there is no lease, its process has ended, or it was not renewed in time."""
    try:
        found = _read(path)
    except OSError:
        return None
    if found is None or found[0].is_dead or (found[0].is_dead is None and now - found[1] > LEASE_S):
        return None
    return found[0]


def _locked(directory: Path, holder: _Holder) -> CampaignLockedError:
    message = f"{directory}: is being run by {holder}; watch the run with `al-engine status {typed(directory)}`"
    if holder.is_dead is None:
        message += (
            f". If that machine is down, the lock becomes invalid {LEASE_S:.0f} s after its last renewal; run the "
            "same command again then"
        )
    return CampaignLockedError(message)


@contextmanager
def _lease(directory: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lease on a directory, renewed by a thread."""
    path, mine = directory / LEASE_FILE, _Holder.of_this_process()
    try:
        before = _take(path, mine)
    except CampaignLockedError:
        raise
    except OSError as error:
        raise InputError(f"{directory}: cannot be written to: {error.strerror}") from None
    if before is not None:
        reason = "the process has ended" if before.is_dead else "the lock was not renewed"
        say(f"the lock of {before} is taken over: {reason}")
    over = threading.Event()
    renewal = threading.Thread(target=_renew, args=(path, mine, over, say), name="lock-renewal", daemon=True)
    renewal.start()
    try:
        yield
    finally:
        over.set()
        renewal.join()
        with suppress(OSError):
            if _token(path) == mine.token:
                path.unlink()


def _take(path: Path, mine: _Holder) -> _Holder | None:
    """Create a lease, or take over a lease that is no longer valid.

    Returns:
        The former holder; None if there was no lease.

    Raises:
        CampaignLockedError: If another process holds a valid lease.
        OSError: If the lease can't be written.
    """
    content = json.dumps(asdict(mine))
    try:
        with path.open("x", encoding="utf-8") as handle:
            handle.write(content)
    except FileExistsError:
        pass
    else:
        return None
    own = path.with_name(f"{path.name}.{mine.token}.tmp")
    try:
        own.write_text(content, encoding="utf-8")
        # Both times are by the file system's clock, because the clocks of machines differ.
        holder = _fresh_holder(path, now=own.stat().st_mtime)
        if holder is not None:
            raise _locked(path.parent, holder)
        found = _read(path)
        own.replace(path)
    finally:
        own.unlink(missing_ok=True)
    time.sleep(SETTLE_S)
    if _token(path) != mine.token:  # another process took the lease over at the same time, and wrote last
        raise _locked(path.parent, (_read(path) or (UNKNOWN, 0.0))[0])
    return found[0] if found is not None else None


def _token(path: Path) -> str:
    found = _read(path)
    return "" if found is None else found[0].token


def _renew(path: Path, mine: _Holder, over: threading.Event, say: Callable[[str], None]) -> None:
    """Renew a lease until `over` is set; end this process if another process has taken the lease over."""
    while not over.wait(RENEW_S):
        try:
            found = _read(path)
            if found is None:
                with path.open("x", encoding="utf-8") as handle:
                    json.dump(asdict(mine), handle)
            elif found[0].token == mine.token:
                os.utime(path)
            else:  # this process was suspended for longer than a lease is valid
                say(f"{found[0]} has taken over the lock of this run, which was not renewed in time; this run ends")
                os.kill(os.getpid(), signal.SIGTERM)
                return
        except OSError:
            continue  # tried again several times before the lease becomes invalid
