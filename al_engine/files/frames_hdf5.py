"""Frames in HDF5: ragged arrays concatenated over atoms, one row per frame for the rest.

Layout of a group with M frames and T atoms in all: `n_atoms` (M,), `numbers` (T,), `positions` (T, 3) Å,
`cell` (M, 3, 3) Å, `pbc` (M, 3), `charge` (M,), `unpaired_electrons` (M,); labelled frames add `energy` (M,) eV,
`forces` (T, 3) eV/Å and `frame_hash` (M, 32), the SHA-256 of each frame's content.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from al_engine.errors import LedgerError
from al_engine.files.hdf5 import append_rows, growing
from al_engine.structures.frames import Frame, IntArray, LabelledFrame

Columns = Mapping[str, tuple[tuple[int, ...], str]]
"""Name -> (shape of one row, type)."""

UNITS = {"positions": "Å", "cell": "Å", "charge": "e", "energy": "eV", "forces": "eV/Å"}
PER_ATOM: Columns = {"numbers": ((), "i8"), "positions": ((3,), "f8")}
PER_FRAME: Columns = {
    "n_atoms": ((), "i8"),
    "cell": ((3, 3), "f8"),
    "pbc": ((3,), "?"),
    "charge": ((), "i8"),
    "unpaired_electrons": ((), "i8"),
}
LABELS_PER_ATOM: Columns = {"forces": ((3,), "f8")}
LABELS_PER_FRAME: Columns = {"energy": ((), "f8")}
FRAME_HASH = "frame_hash"
MISSING = -(2**63)
"""What an integer reads as that `campaign.h5` links from a part that is not there; a float is NaN then."""


def write_frames(group: h5py.Group, frames: Sequence[Frame]) -> None:
    """Write frames into an empty group."""
    for name, (shape, dtype) in PER_ATOM.items():
        rows = [getattr(frame, name) for frame in frames]
        _write(group, name, np.concatenate(rows) if rows else np.empty((0, *shape)), dtype)
    for name, (shape, dtype) in PER_FRAME.items():
        rows = [len(frame) if name == "n_atoms" else getattr(frame, name) for frame in frames]
        _write(group, name, np.array(rows).reshape(len(rows), *shape), dtype)


def write_labelled(group: h5py.Group, labelled: Sequence[LabelledFrame]) -> None:
    """Write labelled frames into an empty group."""
    write_frames(group, [item.frame for item in labelled])
    _write(group, "energy", np.array([item.energy for item in labelled]), "f8")
    _write(group, "forces", np.concatenate([np.empty((0, 3)), *(item.forces for item in labelled)]), "f8")
    hashes = b"".join(bytes.fromhex(item.content_hash()) for item in labelled)
    _write(group, FRAME_HASH, np.frombuffer(hashes, dtype="u1").reshape(-1, 32), "u1")


def _write(group: h5py.Group, name: str, array: np.ndarray, dtype: str) -> None:
    dataset = group.create_dataset(name, data=array.astype(np.dtype(dtype).newbyteorder("<")))
    if name in UNITS:
        dataset.attrs["unit"] = UNITS[name]


def read_frames(group: h5py.Group, *, rows: Sequence[int] | IntArray | None = None) -> list[Frame]:
    """Read the frames of a group, or some of them.

    Args:
        group: Written by `write_frames`.
        rows: Places of the frames that are wanted, in the order in which they are wanted; None: all of them.

    Raises:
        LedgerError: If an array is missing or their lengths do not fit together.
    """
    arrays, bounds = _read(group, PER_ATOM, PER_FRAME)
    wanted = range(len(bounds)) if rows is None else [int(row) for row in rows]
    return [
        Frame(
            numbers=arrays["numbers"][start:stop],
            positions=arrays["positions"][start:stop],
            **{name: arrays[name][index] for name in PER_FRAME if name != "n_atoms"},
        )
        for index in wanted
        for start, stop in [bounds[index]]
    ]


def read_labelled(group: h5py.Group) -> list[LabelledFrame]:
    """Read the labelled frames of a group.

    Raises:
        LedgerError: As `read_frames`.
    """
    frames = read_frames(group)
    arrays, bounds = _read(group, LABELS_PER_ATOM, {"n_atoms": PER_FRAME["n_atoms"], **LABELS_PER_FRAME})
    return [
        LabelledFrame(frame=frame, energy=energy, forces=arrays["forces"][start:stop])
        for frame, energy, (start, stop) in zip(frames, arrays["energy"], bounds, strict=True)
    ]


def read_frame_hashes(group: h5py.Group) -> bytes:
    """The content hashes of a group's labelled frames, one after the other; 32 bytes each.

    Raises:
        LedgerError: As `read_frames`.
    """
    if FRAME_HASH in group:
        return bytes(group[FRAME_HASH][()].tobytes())
    return b"".join(bytes.fromhex(item.content_hash()) for item in read_labelled(group))  # an older file's


def has_dataset(group: h5py.Group, name: str) -> bool:
    """Whether a group has a data set; `group.get` takes a disk that fails for a name that is not there."""
    try:
        return isinstance(group[name], h5py.Dataset)
    except KeyError as error:
        if "errno" in str(error):
            raise
        return False


def _read(group: h5py.Group, per_atom: Columns, per_frame: Columns) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """The arrays asked for, and the rows (start, stop) of each frame's atoms in those per atom."""
    columns = {**per_atom, **per_frame}
    where = f"{group.file.filename}:{group.name}"
    missing = [name for name in columns if not has_dataset(group, name)]
    if missing:
        raise LedgerError(f"{where} lacks {', '.join(missing)}: no frames of ours")
    arrays = {name: group[name][()] for name in columns}
    if any((arrays[name] == MISSING).any() for name in arrays.keys() & {"numbers", "charge"}):
        raise LedgerError(f"{where}: a part that it links is missing; `al-engine verify` names it")
    n_atoms = arrays["n_atoms"]
    if (n_atoms < 0).any():
        raise LedgerError(f"{where}/n_atoms has negative counts")
    stops = np.cumsum(n_atoms)
    total = int(stops[-1]) if len(stops) else 0
    for name, (shape, _) in columns.items():
        expected = (total if name in per_atom else len(n_atoms), *shape)
        if arrays[name].shape != expected:
            raise LedgerError(f"{where}/{name} has shape {arrays[name].shape}, its n_atoms ask for {expected}")
    return arrays, list(zip((stops - n_atoms).tolist(), stops.tolist(), strict=True))


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
        for name, unit in UNITS.items():
            if name in group:
                group[name].attrs["unit"] = unit

    def append(self, frames: Sequence[Frame]) -> None:
        """Append some frames."""
        if not frames:
            return
        for name, dataset in self._per_atom.items():
            append_rows(dataset, np.concatenate([getattr(frame, name) for frame in frames]))
        for name, dataset in self._per_frame.items():
            rows = [len(frame) if name == "n_atoms" else getattr(frame, name) for frame in frames]
            append_rows(dataset, np.array(rows))
