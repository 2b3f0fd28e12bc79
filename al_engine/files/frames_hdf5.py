"""Frames in HDF5: arrays per atom are concatenated over all frames, arrays per frame have one row for each frame.

Layout of a group with M frames and T atoms in all: `n_atoms` (M,), `numbers` (T,), `positions` (T, 3) Å,
`cell` (M, 3, 3) Å, `pbc` (M, 3), `charge` (M,), `unpaired_electrons` (M,); labelled frames add `energy` (M,) eV,
`forces` (T, 3) eV/Å and `frame_hash` (M, 32), the SHA-256 of each frame's content.
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
"""Fill value of integers in `campaign.h5` if the linked part is missing; the fill value of floats is NaN."""
COUNTS_AT_A_TIME = 2**16
"""Number of entries of `n_atoms` that are read at a time."""
GAP_ATOMS = 512
"""Largest number of atoms between two wanted frames that are read in one call: reading 16 KiB more costs less than
another call."""
BLOCK_ATOMS = 2**15
"""Approximate number of atoms read at a time: 1 MiB of data, or 2 MiB with forces."""


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

    Only the wanted rows are read from the file, in contiguous blocks. Apart from the frames returned, the memory needed
    does not grow with the size of the group.

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
        LedgerError: As `read_frames`.
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
            stress=_known(values.pop(STRESS, None)),
            weight=float(values.pop(WEIGHT, 1.0)),
            frame=Frame(**values),
        )
        for _, values in _frames_of(group, per_atom, per_frame, None)
    ]


def _known(stress: FloatArray | None) -> FloatArray | None:
    """A stored stress; None if it is not a number, which stands for an unknown stress."""
    return None if stress is None or np.isnan(stress).any() else stress


def read_frame_hashes(group: h5py.Group) -> bytes:
    """The concatenated content hashes of a group's labelled frames, 32 bytes each.

    Raises:
        LedgerError: As `read_frames`.
    """
    if FRAME_HASH in group:
        return bytes(group[FRAME_HASH][()].tobytes())
    return b"".join(bytes.fromhex(item.content_hash()) for item in read_labelled(group))  # written by an older version


def has_dataset(group: h5py.Group, name: str) -> bool:
    """Whether a group has a data set of this name; `group.get` would report a failing disk as a missing name."""
    try:
        return isinstance(group[name], h5py.Dataset)
    except KeyError as error:
        if "errno" in str(error):
            raise
        return False


def _frames_of(
    group: h5py.Group, per_atom: Columns, per_frame: Columns, rows: IntArray | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the values of each wanted frame, by name, without `n_atoms`.

    Args:
        group: The group.
        per_atom: Data sets with one row for each atom.
        per_frame: Data sets with one row for each frame, including `n_atoms`.
        rows: Indices of the wanted frames, in any order; None: all.

    Yields:
        Index and values of a frame, in ascending order of the index; each frame once.
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
    for first, last in _blocks(wanted, starts, stops):
        row, atom = int(wanted[first]), int(starts[first])
        of_frames, of_atoms = slice(row, int(wanted[last - 1]) + 1), slice(atom, int(stops[last - 1]))
        block = {name: dataset[of_atoms if name in per_atom else of_frames] for name, dataset in data.items()}
        if any((block[name] == MISSING).any() for name in block.keys() & {"numbers", "charge"}):
            raise LedgerError(f"{where}: a linked part is missing; `al-engine verify` names it")
        for k in range(first, last):
            own = slice(int(starts[k]) - atom, int(stops[k]) - atom)
            index = int(wanted[k])
            yield index, {name: block[name][own if name in per_atom else index - row] for name in block}


def _atom_ranges(n_atoms: h5py.Dataset, wanted: IntArray, where: str) -> tuple[IntArray, IntArray, int]:
    """Find the rows of the wanted frames' atoms in the data sets per atom.

    Args:
        n_atoms: Number of atoms of every frame of the group; read in blocks.
        wanted: Indices of W frames, ascending.
        where: Name of the group for messages.

    Returns:
        First row of each wanted frame, shape (W,); the row after its last row, shape (W,); the number of atoms of all
        frames of the group.
    """
    starts, stops = np.empty(len(wanted), dtype=np.int64), np.empty(len(wanted), dtype=np.int64)
    total = 0
    for low in range(0, len(n_atoms), COUNTS_AT_A_TIME):
        sizes = n_atoms[low : low + COUNTS_AT_A_TIME]
        if (sizes < 0).any():
            raise LedgerError(f"{where}/n_atoms has negative counts")
        first, last = np.searchsorted(wanted, (low, low + len(sizes)))
        here = wanted[first:last] - low
        stops[first:last] = total + np.cumsum(sizes)[here]
        starts[first:last] = stops[first:last] - sizes[here]
        total += sum(sizes.tolist())  # Python integers: damaged counts must not overflow to a plausible total
    return starts, stops, total


def _blocks(wanted: IntArray, starts: IntArray, stops: IntArray) -> Iterator[tuple[int, int]]:
    """Divide the wanted frames into blocks that are read at once.

    Wanted frames that are close in the file are read together with the frames between them. In the sizes of blocks and
    gaps, the row of a frame counts as one more atom.

    Yields:
        Position in `wanted` of a block's first frame, and the position after its last frame.
    """
    if not len(wanted):
        return
    begin, end = starts + wanted, stops + wanted + 1
    apart = begin[1:] - end[:-1] > GAP_ATOMS
    full = np.diff(begin // BLOCK_ATOMS) > 0
    yield from itertools.pairwise([0, *(np.flatnonzero(apart | full) + 1).tolist(), len(wanted)])


class FrameAppender:
    """Appends frames to a group that is empty at first; `read_frames` can read the group.

    Args:
        group: The group.
        expected_frames: Approximate largest number of frames.
        expected_atoms: Approximate number of atoms of all expected frames.
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
        """Append frames."""
        if not frames:
            return
        for name, dataset in self._per_atom.items():
            append_rows(dataset, np.concatenate([getattr(frame, name) for frame in frames]))
        for name, dataset in self._per_frame.items():
            rows = [len(frame) if name == "n_atoms" else getattr(frame, name) for frame in frames]
            append_rows(dataset, np.array(rows))
