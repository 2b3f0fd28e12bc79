"""The frames an iteration sampled, read back from its sample parts: for the selection, and for the record."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from al_engine.frame_io import read_frames
from al_engine.frames import BoolArray, Frame, IntArray
from al_engine.parts import open_part
from al_engine.records import TemperatureRecord, temperature_record
from labelers.screen import screen_frame
from samplers.explosion import closest_distance

COLUMNS = ("deviation_norm", "deviation_component", "worst_atom")
COMPLETED = b"completed"


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """All frames of an iteration, temperature after temperature.

    Attributes:
        frames: The S frames.
        source: Which sample part each is from, and its place in it, shape (S, 2).
        columns: Arrays of shape (S,): both deviations in eV/Å, and the atom with the largest.
    """

    frames: list[Frame]
    source: IntArray
    columns: dict[str, np.ndarray]


def read_sampled(paths: Sequence[Path]) -> SampledFrames:
    """Read sample parts in order."""
    frames: list[Frame] = []
    source: list[IntArray] = []
    columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    for index, path in enumerate(paths):
        with open_part(path) as root:
            here = read_frames(root["frames"])
            for name, values in columns.items():
                values.append(root[name][()])
        frames += here
        source.append(np.column_stack([np.full(len(here), index), np.arange(len(here))]).astype(np.int64))
    return SampledFrames(
        frames=frames,
        source=np.concatenate(source),
        columns={name: np.concatenate(values) for name, values in columns.items()},
    )


def gate(
    frames: Sequence[Frame], candidates: BoolArray, *, min_distance_ang: float, check_spin: bool
) -> tuple[BoolArray, BoolArray]:
    """Which candidates have atoms too close, and which no labeler takes for another reason, each shape (S,)."""
    too_close, refused = np.zeros(len(frames), dtype=bool), np.zeros(len(frames), dtype=bool)
    for index in np.flatnonzero(candidates).tolist():
        frame = frames[index]
        too_close[index] = closest_distance(frame.positions, frame.cell, frame.pbc) < min_distance_ang
        reason = screen_frame(frame, min_distance_ang=min_distance_ang, check_spin=check_spin)
        refused[index] = reason is not None and not too_close[index]
    return too_close, refused


def temperature_records(paths: Sequence[Path], fates: np.ndarray, *, deviation: str) -> tuple[TemperatureRecord, ...]:
    """One record per sample part.

    Args:
        paths: Sample parts in order.
        fates: Fates of all their frames, shape (S,).
        deviation: Which deviation decided: `norm` or `component`.
    """
    records, start = [], 0
    for path in paths:
        with open_part(path) as root:
            values = root[f"deviation_{deviation}"][()]
            replica, reasons = root["replica"][()], root["stop_reason"][()]
            kelvin = float(root.attrs["temperature_kelvin"])
        records.append(
            temperature_record(
                kelvin,
                fates=fates[start : start + len(values)],
                deviation=values,
                replica=replica,
                replicas=len(reasons),
                stopped=int(np.sum(reasons != COMPLETED)),
            )
        )
        start += len(values)
    return tuple(records)
