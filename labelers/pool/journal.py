"""The journal of a chunk during labelling. It has a line per finished frame, so that a kill loses no finished label.

The format is JSON lines. The first line holds the key of the chunk's inputs. A line that a kill has cut short is
dropped, with all lines after it. The journal is removed once the chunk is published as a part.
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
    """The journal of a single chunk, to which outcomes are appended; a context manager.

    Args:
        path: The journal's file.
        key: Key of the chunk's inputs; a journal with another key is discarded.
        frames: The chunk's frames.

    Attributes:
        done: Outcomes that the file held when it was opened, by the frame's index.

    Raises:
        ResumableError: If the file can't be written.
    """

    def __init__(self, path: Path, *, key: str, frames: Sequence[Frame]) -> None:
        self.path = path
        lines, size = _whole_lines(path)
        fits = bool(lines) and lines[0] == {"key": key}
        kept = [line for line in lines[1:] if line.get("index", -1) in range(len(frames))] if fits else []
        self.done = {line["index"]: _outcome(line, frames[line["index"]]) for line in kept}
        try:
            self._file = path.open("r+b" if fits else "wb", buffering=0)
            if fits:  # the whole lines stay in place, so that a kill cannot lose them now
                self._file.truncate(size)
                self._file.seek(size)
        except OSError as error:
            raise disk_error(path, error) from error
        if not fits:
            self._append({"key": key})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def record(self, index: int, outcome: LabelOutcome) -> None:
        """Append an outcome. Once this method returns, the outcome survives a kill of this process.

        Raises:
            ResumableError: If the file can't be written.
        """
        line: dict[str, Any] = {"index": index, "reason": outcome.reason.value, "message": outcome.message}
        if outcome.labelled is not None:
            line |= {"energy": outcome.labelled.energy, "forces": outcome.labelled.forces.tolist()}
            if outcome.labelled.stress is not None:
                line["stress"] = outcome.labelled.stress.tolist()
            line |= {"rescue": outcome.rescue} if outcome.rescue else {}
        self._append({**line, "seconds": outcome.seconds})

    def _append(self, *lines: dict[str, Any]) -> None:
        try:
            for line in lines:
                self._file.write(json.dumps(line).encode() + b"\n")  # unbuffered: handed to the kernel at once
        except OSError as error:
            raise disk_error(self.path, error) from error


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects of a journal up to the first damaged line, and their size in bytes; none if it can't be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return [], 0
    lines, size = [], 0
    for line in content.splitlines(keepends=True):
        try:
            value = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:  # UnicodeDecodeError too
            value = None
        if not isinstance(value, dict):
            break  # cut short by a kill: later lines are not trusted either
        lines.append(value)
        size += len(line)
    return lines, size


def _outcome(line: dict[str, Any], frame: Frame) -> LabelOutcome:
    """The outcome that a line of the journal records for a frame."""
    labelled = None
    if line["reason"] == LabelReason.OK:
        labelled = LabelledFrame(frame, line["energy"], np.reshape(line["forces"], (-1, 3)), line.get("stress"))
    return LabelOutcome(LabelReason(line["reason"]), line["message"], labelled, line["seconds"], line.get("rescue", ""))
