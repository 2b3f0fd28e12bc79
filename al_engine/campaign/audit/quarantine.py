"""Setting files aside: a file is moved, never deleted, and its content is computed again."""

import itertools
from pathlib import Path

from al_engine.files.atomic import disk_error

ASIDE = "set-aside"
"""Folder for files that were set aside, inside the folder of the parts."""


def set_aside(path: Path) -> str:
    """Move a part to the folder `ASIDE`, under a name that is free; returns what was done, in words.

    Raises:
        ResumableError: If the disk is full or can't be written to.
    """
    folder = path.parent / ASIDE
    try:
        folder.mkdir(exist_ok=True)
        target = free_name(folder / path.name)
        path.rename(target)
    except OSError as error:
        raise disk_error(path, error) from error
    return f"the old file is {path.parent.name}/{ASIDE}/{target.name}"


def free_name(path: Path) -> Path:
    """The path, with a number before the ending if there is such a file already: `name-1.h5`."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(1))
    return next(candidate for candidate in itertools.chain([path], numbered) if not candidate.exists())
