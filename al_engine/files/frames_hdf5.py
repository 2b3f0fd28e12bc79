"""Frames in HDF5: arrays per atom are concatenated over all frames, arrays per frame have one row for each frame.

Layout of a group with F frames that have T atoms in total: `n_atoms` (F,), `numbers` (T,), `positions` (T, 3) Å,
`cell` (F, 3, 3) Å, `pbc` (F, 3), `charge` (F,) e, `unpaired_electrons` (F,). A group of labelled frames also has
`energy` (F,) eV, `forces` (T, 3) eV/Å, `frame_hash` (F, 32), the SHA-256 of each labelled frame's content, and, if a
frame has a stress, `stress` (F, 3, 3) eV/Å³.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from al_engine.errors import LedgerError
from al_engine.files.hdf5 import append_rows, growing
from al_engine.structures.frames import FloatArray, Frame, IntArray, LabelledFrame

Columns = Mapping[str, tuple[tuple[int, ...], str]]
"""Names of data sets, each with the shape of a row and the NumPy type code."""

UNITS = {"positions": "Å", "cell": "Å", "charge": "e", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å³"}
"""Units of the data sets that have a unit, stored in their attribute `unit`."""
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
STRESS = "stress"
"""Data set with the stress of each labelled frame, NaN where it is not known; absent if no frame has a stress."""
WEIGHT = "weight"
"""Data set with the weight of each labelled frame in the training loss; absent if all weights are 1."""
MISSING = -(2**63)
"""Integer that HDF5 gives for the entries of a missing part in the data set of `campaign.h5`; for floats it gives
NaN."""
COUNTS_AT_A_TIME = 2**16
"""Number of entries of `n_atoms` that are read at a time."""
GAP_ATOMS = 512
"""Largest gap, in atoms, between two wanted frames of a block. To read an unwanted gap of 16 KiB costs less than to
start another block."""
BLOCK_ATOMS = 2**15
"""Approximate number of atoms of a block, the rows that are read at a time: 1 MiB of data, or 2 MiB with forces."""


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
    if any(item.stress is not None for item in labelled):
        unknown = np.full((3, 3), np.nan)
        _write(group, STRESS, np.array([unknown if item.stress is None else item.stress for item in labelled]), "f8")
    if any(item.weight != 1.0 for item in labelled):
        _write(group, WEIGHT, np.array([item.weight for item in labelled]), "f8")
    hashes = b"".join(bytes.fromhex(item.content_hash()) for item in labelled)
    _write(group, FRAME_HASH, np.frombuffer(hashes, dtype="u1").reshape(-1, 32), "u1")


def _write(group: h5py.Group, name: str, array: np.ndarray, dtype: str) -> None:
    dataset = group.create_dataset(name, data=array.astype(np.dtype(dtype).newbyteorder("<")))
    if name in UNITS:
        dataset.attrs["unit"] = UNITS[name]


def read_frames(group: h5py.Group, *, rows: Sequence[int] | IntArray | None = None) -> list[Frame]:
    """Read all or some of the frames of a group.

    The file is read in blocks that contain the wanted frames. Apart from the frames returned, the memory needed does
    not grow with the size of the group.

    Args:
        group: A group written by `write_frames` or `FrameAppender`.
        rows: Indices of the wanted frames in the group, in the order in which the frames are returned; None: all.

    Raises:
        LedgerError: If an array is missing, if the lengths of the arrays disagree, or if the group links a part that
            is missing.
        IndexError: If a row is outside the group.
    """
    if rows is None:
        return [Frame(**values) for _, values in _frames_of(group, PER_ATOM, PER_FRAME, None)]
    wanted = np.asarray(rows, dtype=np.int64)
    found = {row: Frame(**values) for row, values in _frames_of(group, PER_ATOM, PER_FRAME, wanted)}
    return [found[row] for row in wanted.tolist()]


def read_labelled(group: h5py.Group) -> list[LabelledFrame]:
    """Read the labelled frames of a group.

    Raises:
        LedgerError: If the group cannot be read, as in `read_frames`.
    """
    per_atom, per_frame = {**PER_ATOM, **LABELS_PER_ATOM}, {**PER_FRAME, **LABELS_PER_FRAME}
    if has_dataset(group, STRESS):
        per_frame[STRESS] = ((3, 3), "f8")
    if has_dataset(group, WEIGHT):
        per_frame[WEIGHT] = ((), "f8")
    return [
        LabelledFrame(
            energy=values.pop("energy"),
            forces=values.pop("forces"),
            stress=_stress_or_none(values.pop(STRESS, None)),
            weight=float(values.pop(WEIGHT, 1.0)),
            frame=Frame(**values),
        )
        for _, values in _frames_of(group, per_atom, per_frame, None)
    ]


def _stress_or_none(stress: FloatArray | None) -> FloatArray | None:
    """A stored stress; None if it contains NaN, which stands for an unknown stress."""
    return None if stress is None or np.isnan(stress).any() else stress


def read_frame_hashes(group: h5py.Group) -> bytes:
    """The concatenated content hashes of a group's labelled frames, 32 bytes each.

    Raises:
        LedgerError: If the group cannot be read, as in `read_frames`.
    """
    if FRAME_HASH in group:
        return bytes(group[FRAME_HASH][()].tobytes())
    return b"".join(bytes.fromhex(item.content_hash()) for item in read_labelled(group))  # written by an older version


def has_dataset(group: h5py.Group, name: str) -> bool:
    """Whether a group has a data set of this name.

    Raises:
        KeyError: If the disk fails; `group.get` would report this as a missing name.
    """
    try:
        return isinstance(group[name], h5py.Dataset)
    except KeyError as error:
        if "errno" in str(error):  # an error of the operating system
            raise
        return False


def _frames_of(
    group: h5py.Group, per_atom: Columns, per_frame: Columns, rows: IntArray | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the values of each wanted frame.

    Args:
        group: The group.
        per_atom: Data sets with one row for each atom.
        per_frame: Data sets with one row for each frame, including `n_atoms`.
        rows: Indices of the wanted frames, in any order; None: all.

    Yields:
        Index of a frame, and its values by name of the data set, without `n_atoms`. Each frame comes once, in ascending
        order of the index.

    Raises:
        LedgerError: As in `read_frames`.
        IndexError: If a row is outside the group.
    """
    where = f"{group.file.filename}:{group.name}"
    columns = {**per_atom, **per_frame}
    missing = [name for name in columns if not has_dataset(group, name)]
    if missing:
        raise LedgerError(f"{where} lacks {', '.join(missing)}, which a group of frames has")
    data = {name: group[name] for name in columns}
    n_frames = len(data["n_atoms"])
    wanted = np.arange(n_frames) if rows is None else np.unique(rows)
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < n_frames:
        raise IndexError(f"{where} has {n_frames} frames, but rows {wanted[0]} to {wanted[-1]} are wanted")
    starts, stops, total = _atom_ranges(data["n_atoms"], wanted, where)
    for name, (shape, _) in columns.items():
        expected = (total if name in per_atom else n_frames, *shape)
        if data[name].shape != expected:
            raise LedgerError(f"{where}/{name} has shape {data[name].shape}, but n_atoms implies {expected}")
    del data["n_atoms"]
    for first, end in _blocks(wanted, starts, stops):
        first_frame, first_atom = int(wanted[first]), int(starts[first])
        of_frames, of_atoms = slice(first_frame, int(wanted[end - 1]) + 1), slice(first_atom, int(stops[end - 1]))
        block = {name: dataset[of_atoms if name in per_atom else of_frames] for name, dataset in data.items()}
        if any((block[name] == MISSING).any() for name in block.keys() & {"numbers", "charge"}):
            raise LedgerError(f"{where}: a linked part is missing; `al-engine verify` names it")
        for k in range(first, end):
            frame = int(wanted[k])
            atoms = slice(int(starts[k]) - first_atom, int(stops[k]) - first_atom)
            yield frame, {name: block[name][atoms if name in per_atom else frame - first_frame] for name in block}


def _atom_ranges(n_atoms: h5py.Dataset, wanted: IntArray, where: str) -> tuple[IntArray, IntArray, int]:
    """Find the rows of the wanted frames' atoms in the data sets per atom.

    Args:
        n_atoms: Number of atoms of every frame of the group; read in blocks.
        wanted: Indices of W frames, ascending.
        where: Name of the group for messages.

    Returns:
        First row of each wanted frame, shape (W,); the row after its last row, shape (W,); the number of atoms of all
        frames of the group.

    Raises:
        LedgerError: If a number of atoms is negative.
    """
    starts, stops = np.empty(len(wanted), dtype=np.int64), np.empty(len(wanted), dtype=np.int64)
    total = 0
    for low in range(0, len(n_atoms), COUNTS_AT_A_TIME):
        sizes = n_atoms[low : low + COUNTS_AT_A_TIME]
        if (sizes < 0).any():
            raise LedgerError(f"{where}/n_atoms has negative counts")
        first, end = np.searchsorted(wanted, (low, low + len(sizes)))  # the wanted frames among these entries
        here = wanted[first:end] - low
        stops[first:end] = total + np.cumsum(sizes)[here]
        starts[first:end] = stops[first:end] - sizes[here]
        total += sum(sizes.tolist())  # Python integers: damaged counts must not overflow to a plausible total
    return starts, stops, total


def _blocks(wanted: IntArray, starts: IntArray, stops: IntArray) -> Iterator[tuple[int, int]]:
    """Divide the wanted frames into blocks; a block is read at once.

    Wanted frames that are close in the file are in one block, together with the frames between them. A new block begins
    after a gap of more than `GAP_ATOMS`, and about every `BLOCK_ATOMS`. In both sizes, a frame counts as one more atom,
    because its rows in the data sets per frame are read too.

    Args:
        wanted: Indices of the wanted frames, ascending, shape (W,).
        starts: First atom of each wanted frame, shape (W,).
        stops: The atom after the last atom of each wanted frame, shape (W,).

    Yields:
        Position in `wanted` of a block's first frame, and the position after its last frame.
    """
    if not len(wanted):
        return
    begin, end = starts + wanted, stops + wanted + 1  # positions in the file, counted in atoms and frames
    after_gap = begin[1:] - end[:-1] > GAP_ATOMS
    after_full_block = np.diff(begin // BLOCK_ATOMS) > 0
    first_of_blocks = (np.flatnonzero(after_gap | after_full_block) + 1).tolist()
    yield from itertools.pairwise([0, *first_of_blocks, len(wanted)])


class FrameAppender:
    """Creates the data sets of an empty group, and appends frames to them; `read_frames` can read the group.

    Args:
        group: The empty group.
        expected_frames: Approximate largest number of frames.
        expected_atoms: Approximate number of atoms of all these frames together.
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
        """Append frames to the group, in order."""
        if not frames:
            return
        for name, dataset in self._per_atom.items():
            append_rows(dataset, np.concatenate([getattr(frame, name) for frame in frames]))
        for name, dataset in self._per_frame.items():
            rows = [len(frame) if name == "n_atoms" else getattr(frame, name) for frame in frames]
            append_rows(dataset, np.array(rows))
