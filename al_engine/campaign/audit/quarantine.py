"""Files that are put aside, never deleted, so that what they hold is computed again."""

from pathlib import Path

from al_engine.files.atomic import disk_error

ASIDE = "set-aside"
"""Folder beside the parts."""


def set_aside(path: Path) -> str:
    """Move a part out of the way, beside earlier ones of its name; returns what was done, in words.

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
