"""Frames that are appended to HDF5 as they come, in the layout of `al_engine.frame_io`."""

from collections.abc import Sequence

import h5py
import numpy as np

from al_engine.frame_io import PER_ATOM, PER_FRAME, UNITS
from al_engine.frames import Frame
from al_engine.streamed import append_rows, growing


class FrameAppender:
    """Appends frames to an empty group, from which `read_frames` reads them.

    Args:
        group: The group.
        expected_frames: How many there will be at most, about.
        expected_atoms: How many atoms these will have in all, about.
    """

    def __init__(self, group: h5py.Group, *, expected_frames: int, expected_atoms: int) -> None:
        self._per_atom = {
            name: growing(group, name, row=row, dtype=np.dtype(kind).newbyteorder("<"), expected=expected_atoms)
            for name, (row, kind) in PER_ATOM.items()
        }
        self._per_frame = {
            name: growing(group, name, row=row, dtype=np.dtype(kind).newbyteorder("<"), expected=expected_frames)
            for name, (row, kind) in PER_FRAME.items()
        }
        for name in UNITS:
            if name in group:
                group[name].attrs["unit"] = UNITS[name]

    def append(self, frames: Sequence[Frame]) -> None:
        """Append some frames."""
        if not frames:
            return
        for name, dataset in self._per_atom.items():
            append_rows(dataset, np.concatenate([getattr(frame, name) for frame in frames]))
        for name, dataset in self._per_frame.items():
            rows = [len(frame) if name == "n_atoms" else getattr(frame, name) for frame in frames]
            append_rows(dataset, np.array(rows))
