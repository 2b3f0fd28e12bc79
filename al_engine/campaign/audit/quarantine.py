"""Setting files aside: a file is moved, never deleted, and its content is computed again."""

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
        number = sum(1 for _ in folder.glob(f"{path.stem}*"))
        target = folder / f"{path.stem}{f'-{number}' if number else ''}{path.suffix}"
        path.rename(target)
    except OSError as error:
        raise disk_error(path, error) from error
    return f"the old file is {path.parent.name}/{ASIDE}/{target.name}"
