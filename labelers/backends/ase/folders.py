"""The folder that an ASE calculator writes one label's files into: its own, so that no two labels share one.

Without a wish of the user's it is temporary. With `labels.ase_parameters.directory` it lies there and is kept; that of
a failed label under a name that begins with `failed-`, for the first `FAILED_KEPT` of them.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from al_engine.structures.frames import Frame

FAILED_KEPT = 10
_LOGS = (".err", ".out", ".log", ".pwo", ".nwo", ".castep", ".outmol", ".txt")
_TAIL_BYTES, _TAIL_LINES = 2000, 3


@contextmanager
def label_folder(parent: Path | None, frame: Frame) -> Iterator[Path]:
    """A fresh folder for one label.

    Args:
        parent: Where it is kept; None: it is temporary.
        frame: The frame; a kept folder's name begins with its content hash.

    Yields:
        The folder, an absolute path.

    Raises:
        OSError: If it can't be made.
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
        _put_aside(folder)
        raise


def _put_aside(folder: Path) -> None:
    """Keep the folder of a failed label, if there are few of them."""
    if len(list(folder.parent.glob("failed-*"))) < FAILED_KEPT:
        folder.rename(folder.with_name(f"failed-{folder.name}"))
    else:
        shutil.rmtree(folder, ignore_errors=True)


def last_words(folder: Path) -> str:
    """The last lines of what a program wrote most recently about its work, in one line; empty if it wrote nothing."""
    logs = [path for path in folder.iterdir() if path.is_file() and path.suffix in _LOGS and path.stat().st_size]
    if not logs:
        return ""
    with max(logs, key=lambda path: path.stat().st_mtime_ns).open("rb") as log:
        log.seek(0, 2)
        log.seek(max(0, log.tell() - _TAIL_BYTES))
        lines = log.read().decode("utf-8", errors="replace").splitlines()
    words = [" ".join(line.split()) for line in lines]
    return " | ".join([line for line in words if line][-_TAIL_LINES:])
