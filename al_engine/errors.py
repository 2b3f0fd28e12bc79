"""Errors a user can act on. Everything else that escapes is a bug and keeps its traceback."""

import shlex
from enum import IntEnum
from pathlib import Path


def typed(path: Path) -> str:
    """A path as it is typed in a shell: quoted where it has to be, and no option where it begins with a dash."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


class ExitStatus(IntEnum):
    """Exit status of every command."""

    DONE = 0
    """Converged, or a read-only command succeeded."""
    BUG = 1
    """Anything not foreseen."""
    BAD_INPUT = 2
    """The input is wrong; nothing was changed."""
    NOT_CONVERGED = 3
    """The campaign stopped for another reason than convergence."""
    INTERRUPTED = 4
    """Stopped before its end; the same command continues it."""


class AlEngineError(Exception):
    """Base of all errors that are shown as one message without a traceback.

    The message says what is wrong, where (file, key, frame, atom), and what to do.
    """

    exit_status: ExitStatus = ExitStatus.BAD_INPUT


class InputError(AlEngineError):
    """A config, structure, directory or flag is wrong."""


class CampaignLockedError(InputError):
    """Another process is writing to this campaign."""


class LedgerError(InputError):
    """A file of the campaign directory is missing, damaged or not one of ours."""


class ResumableError(AlEngineError):
    """The campaign stopped where it can go on: a full disk, a lost worker, an interrupt."""

    exit_status = ExitStatus.INTERRUPTED
