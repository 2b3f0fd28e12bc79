"""Errors that a user can act on. Every other exception that reaches the user is a bug, and keeps its traceback."""

import shlex
from enum import IntEnum
from pathlib import Path


def typed(path: Path) -> str:
    """A path as it is typed in a shell: quoted if necessary, and with `./` before a leading dash.

    Without `./`, commands would take a path with a leading dash for an option.
    """
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


class ExitStatus(IntEnum):
    """Exit status of every command."""

    DONE = 0
    """Converged, or a read-only command succeeded."""
    BUG = 1
    """An unforeseen error."""
    BAD_INPUT = 2
    """The input is wrong; nothing was changed."""
    NOT_CONVERGED = 3
    """The campaign stopped for another reason than convergence."""
    INTERRUPTED = 4
    """The campaign stopped before its end; the same command continues it."""
    DAMAGED = 5
    """`verify` found a file that is damaged, missing or at odds with the others."""


class AlEngineError(Exception):
    """Base class of all errors that are shown as a message without a traceback.

    The message says what is wrong, where (file, key, frame, atom), and what to do about it.
    """

    exit_status: ExitStatus = ExitStatus.BAD_INPUT


class InputError(AlEngineError):
    """A config, structure, directory or flag is wrong."""


class CampaignLockedError(InputError):
    """Another process is writing to this campaign."""


class LedgerError(InputError):
    """A file of the campaign directory is missing, damaged or not written by al-engine."""


class ResumableError(AlEngineError):
    """The campaign stopped but can be resumed: for example after a full disk, a lost worker or an interrupt."""

    exit_status = ExitStatus.INTERRUPTED
