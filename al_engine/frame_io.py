"""Frames in HDF5: ragged arrays concatenated over atoms, one row per frame for the rest.

Layout of a group with M frames and T atoms in all: `n_atoms` (M,), `numbers` (T,), `positions` (T, 3) Å,
`cell` (M, 3, 3) Å, `pbc` (M, 3), `charge` (M,), `unpaired_electrons` (M,); labelled frames add `energy` (M,) eV and
`forces` (T, 3) eV/Å.
"""

from collections.abc import Sequence

import h5py
import numpy as np

from al_engine.errors import LedgerError
from al_engine.frames import Frame, LabelledFrame

UNITS = {"positions": "Å", "cell": "Å", "charge": "e", "energy": "eV", "forces": "eV/Å"}
PER_ATOM = {"numbers": ((), "i8"), "positions": ((3,), "f8")}
PER_FRAME = {
    "n_atoms": ((), "i8"),
    "cell": ((3, 3), "f8"),
    "pbc": ((3,), "?"),
    "charge": ((), "i8"),
    "unpaired_electrons": ((), "i8"),
}
LABELS_PER_ATOM = {"forces": ((3,), "f8")}
LABELS_PER_FRAME = {"energy": ((), "f8")}


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


def _write(group: h5py.Group, name: str, array: np.ndarray, dtype: str) -> None:
    dataset = group.create_dataset(name, data=array.astype(np.dtype(dtype).newbyteorder("<")))
    if name in UNITS:
        dataset.attrs["unit"] = UNITS[name]


def read_frames(group: h5py.Group) -> list[Frame]:
    """Read the frames of a group.

    Raises:
        LedgerError: If an array is missing or their lengths do not fit together.
    """
    arrays = _read(group, [*PER_ATOM, *PER_FRAME])
    bounds = _bounds(group, arrays["n_atoms"], len(arrays["positions"]))
    return [
        Frame(
            numbers=arrays["numbers"][start:stop],
            positions=arrays["positions"][start:stop],
            **{name: arrays[name][index] for name in PER_FRAME if name != "n_atoms"},
        )
        for index, (start, stop) in enumerate(bounds)
    ]


def read_labelled(group: h5py.Group) -> list[LabelledFrame]:
    """Read the labelled frames of a group.

    Raises:
        LedgerError: As `read_frames`.
    """
    frames = read_frames(group)
    arrays = _read(group, ["n_atoms", "energy", "forces"])
    bounds = _bounds(group, arrays["n_atoms"], len(arrays["forces"]))
    return [
        LabelledFrame(frame=frame, energy=energy, forces=arrays["forces"][start:stop])
        for frame, energy, (start, stop) in zip(frames, arrays["energy"], bounds, strict=True)
    ]


def _read(group: h5py.Group, names: Sequence[str]) -> dict[str, np.ndarray]:
    missing = [name for name in names if name not in group]
    if missing:
        raise LedgerError(f"{group.file.filename}:{group.name} lacks {', '.join(missing)}: no frames of ours")
    return {name: group[name][()] for name in names}


def _bounds(group: h5py.Group, n_atoms: np.ndarray, total: int) -> list[tuple[int, int]]:
    stops = np.cumsum(n_atoms)
    if (n_atoms < 0).any() or (stops[-1] if len(stops) else 0) != total:
        raise LedgerError(f"{group.file.filename}:{group.name}: n_atoms does not add up to the atoms stored")
    return list(zip((stops - n_atoms).tolist(), stops.tolist(), strict=True))
