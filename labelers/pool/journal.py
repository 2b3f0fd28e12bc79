"""The journal of a chunk that is being labelled: one line per finished label, so that a kill loses none of them.

JSON lines; the first has the key of the chunk's inputs. A line torn by a kill is dropped. When the chunk is published
as a part the journal has done its work and is removed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from al_engine.campaign.labels import LabelOutcome, LabelReason
from al_engine.files.atomic import disk_error
from al_engine.structures.frames import Frame, LabelledFrame


class LabelJournal:
    """Outcomes of one chunk, appended as they come; a context manager.

    Args:
        path: The journal's file.
        key: Key of the chunk's inputs; a journal with another key is started anew.
        frames: The chunk's frames.

    Attributes:
        done: Outcomes found in the file, by the frame's index.

    Raises:
        ResumableError: If the file can't be written.
    """

    def __init__(self, path: Path, *, key: str, frames: Sequence[Frame]) -> None:
        self.path = path
        lines = _whole_lines(path)
        fits = bool(lines) and lines[0] == {"key": key}
        kept = [line for line in lines[1:] if line.get("index", -1) in range(len(frames))] if fits else []
        self.done = {line["index"]: _outcome(line, frames[line["index"]]) for line in kept}
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise disk_error(path, error) from error
        self._append({"key": key}, *kept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def record(self, index: int, outcome: LabelOutcome) -> None:
        """Write down one outcome; it survives the death of this process the moment this returns."""
        line: dict[str, Any] = {"index": index, "reason": outcome.reason.value, "message": outcome.message}
        if outcome.labelled is not None:
            line |= {"energy": outcome.labelled.energy, "forces": outcome.labelled.forces.tolist()}
            line |= {"rescue": outcome.rescue} if outcome.rescue else {}
        self._append({**line, "seconds": outcome.seconds})

    def _append(self, *lines: dict[str, Any]) -> None:
        try:
            for line in lines:
                self._file.write(json.dumps(line).encode() + b"\n")  # unbuffered: in the kernel's hands at once
        except OSError as error:
            raise disk_error(self.path, error) from error


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    lines = []
    for line in text.splitlines(keepends=True):
        try:
            value = json.loads(line) if line.endswith("\n") else None
        except ValueError:
            value = None
        if not isinstance(value, dict):
            break  # torn by a kill: what follows is not to be trusted either
        lines.append(value)
    return lines


def _outcome(line: dict[str, Any], frame: Frame) -> LabelOutcome:
    labelled = None
    if line["reason"] == LabelReason.OK:
        labelled = LabelledFrame(frame, line["energy"], np.reshape(line["forces"], (-1, 3)))
    return LabelOutcome(LabelReason(line["reason"]), line["message"], labelled, line["seconds"], line.get("rescue", ""))
