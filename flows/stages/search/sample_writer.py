"""Write sampled frames into a sample part, in chunks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import h5py
import numpy as np

from al_engine.files.frames_hdf5 import FrameAppender, write_frames
from al_engine.files.hdf5 import append_rows, growing
from al_engine.structures.frames import Frame

if TYPE_CHECKING:
    from samplers.dynamics.rows import Rows, Sampled

CHUNK_FRAMES = 256
"""Number of frames that are held in memory before they are written."""


class SampleWriter:
    """Writes sampled frames and their columns into the root of a part; its memory does not grow with the run.

    Args:
        root: The part.
        columns: Names and types of the columns.
        expected_frames: Largest possible number of frames.
        expected_atoms: Total number of atoms of these frames.
    """

    def __init__(
        self, root: h5py.File, columns: Mapping[str, type], *, expected_frames: int, expected_atoms: int
    ) -> None:
        self._root = root
        self._frames = FrameAppender(
            root.create_group("frames"), expected_frames=expected_frames, expected_atoms=expected_atoms
        )
        self._columns = {
            name: growing(root, name, dtype=np.dtype(kind), expected=expected_frames) for name, kind in columns.items()
        }
        self._held: list[Frame] = []
        self._held_columns: dict[str, list[np.ndarray]] = {name: [] for name in columns}

    def take(self, rows: "Rows") -> None:
        """Take the rows of one stride; the sampler's `Sink`."""
        self._held += rows.frames
        for name, values in rows.arrays().items():
            if name in self._columns:
                self._held_columns[name].append(values)
        if len(self._held) >= CHUNK_FRAMES:
            self._write()

    def _write(self) -> None:
        self._frames.append(self._held)
        self._held.clear()
        for name, values in self._held_columns.items():
            if values:
                append_rows(self._columns[name], np.concatenate(values))
                values.clear()
        self._root.flush()  # a full disk is noticed now, not at the end of the run

    def finish(self, sampled: "Sampled") -> None:
        """Write the frames that are still held, and the ends of the trajectories."""
        self._write()
        write_frames(self._root.create_group("final"), sampled.final)
        reasons: Sequence[str] = [reason.value for reason in sampled.stop_reason]
        self._root["stop_reason"] = np.array(reasons, dtype="S")
        for name in ("stop_step", "start_step", "slot"):
            self._root[name] = getattr(sampled, name)
