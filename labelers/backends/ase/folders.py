"""Folders for the files of ASE calculators: each label has its own folder.

By default the folder is temporary. If `labels.ase_parameters.directory` is set, the folder is made in that directory
and kept. Folders of failed labels get names that begin with `failed-`. Only the first `FAILED_KEPT` of them are kept.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from al_engine.structures.frames import Frame

FAILED_KEPT = 10
"""Largest number of kept folders of failed labels."""
_LOGS = (".err", ".out", ".log", ".pwo", ".nwo", ".castep", ".outmol", ".txt")
"""Suffixes of programs' log files; that of VASP, `OUTCAR`, has none."""
_TAIL_BYTES, _TAIL_LINES = 2000, 3
"""Number of bytes that `last_output` reads at the end of a log file, and of lines that it returns."""


@contextmanager
def label_folder(parent: Path | None, frame: Frame) -> Iterator[Path]:
    """Make an empty folder for a label.

    Args:
        parent: Directory in which the folder is made and kept; None: the folder is temporary.
        frame: The frame; the name of a kept folder has the beginning of its content hash.

    Yields:
        The folder, as an absolute path if `parent` is absolute.

    Raises:
        OSError: If the folder can't be made.
    """
    if parent is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{frame.content_hash()[:12]}-", dir=parent))
    try:
        yield folder
    except BaseException:
        _keep_failed(folder)
        raise


def _keep_failed(folder: Path) -> None:
    """Rename the folder of a failed label; remove it if `FAILED_KEPT` folders are already kept."""
    if len(list(folder.parent.glob("failed-*"))) < FAILED_KEPT:
        folder.rename(folder.with_name(f"failed-{folder.name}"))
    else:
        shutil.rmtree(folder, ignore_errors=True)


def last_output(folder: Path) -> str:
    """The last lines of the log file that was written most recently, joined by ` | `; empty without a log file."""
    logs = [
        path
        for path in folder.iterdir()
        if path.is_file() and (path.suffix in _LOGS or path.name == "OUTCAR") and path.stat().st_size
    ]
    if not logs:
        return ""
    with max(logs, key=lambda path: path.stat().st_mtime_ns).open("rb") as log:
        log.seek(0, 2)
        log.seek(max(0, log.tell() - _TAIL_BYTES))
        lines = log.read().decode("utf-8", errors="replace").splitlines()
    stripped = [" ".join(line.split()) for line in lines]
    return " | ".join([line for line in stripped if line][-_TAIL_LINES:])
