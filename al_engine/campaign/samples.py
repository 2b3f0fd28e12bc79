"""The frames an iteration sampled, read back from its sample parts: for the selection, and for the record."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig
from al_engine.files.frames_hdf5 import read_frames
from al_engine.selection.window import Window
from al_engine.structures.frames import Frame, IntArray
from al_engine.verdict.records import TemperatureRecord, temperature_record

COLUMNS = (
    "deviation_norm",
    "deviation_component",
    "worst_atom",
    "net_force_deviation",
    "worst_molecule",
    "sound",
    "replica",
    "step",
)
COMPLETED = b"completed"


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """All S frames of an iteration, temperature after temperature.

    Attributes:
        parts: Reader of the sample parts.
        names: Names of the sample parts in order.
        source: Which sample part each frame is from, and its place in it, shape (S, 2).
        columns: What the parts say of each frame, `COLUMNS`, arrays of shape (S,).
    """

    parts: PartReader
    names: tuple[str, ...]
    source: IntArray
    columns: dict[str, np.ndarray]

    def frames(self, indices: IntArray) -> list[Frame]:
        """Read some of the frames; indices ascending."""
        frames: list[Frame] = []
        for part, name in enumerate(self.names):
            rows = self.source[indices[self.source[indices, 0] == part], 1]
            with self.parts.open(name) as root:
                frames += read_frames(root["frames"], rows=rows)
        return frames

    def trajectories(self) -> list[list[IntArray]]:
        """Indices of the frames of every trajectory in order of time, a list for each sample part."""
        found = []
        for part in range(len(self.names)):
            here = np.flatnonzero(self.source[:, 0] == part)
            replica, step = self.columns["replica"][here], self.columns["step"][here]
            order = here[np.lexsort((step, replica))]
            found.append(np.split(order, np.flatnonzero(np.diff(self.columns["replica"][order])) + 1))
        return found


def read_sampled(parts: PartReader, samples: Sequence[str]) -> SampledFrames:
    """Read all columns of sample parts, given by name in order; structures are read later, on demand."""
    source: list[IntArray] = []
    columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    for index, sample in enumerate(samples):
        with parts.open(sample) as root:
            for name, values in columns.items():
                values.append(root[name][()])
        size = len(columns["step"][-1])
        source.append(np.column_stack([np.full(size, index), np.arange(size)]).astype(np.int64))
    return SampledFrames(
        parts=parts,
        names=tuple(samples),
        source=np.concatenate(source),
        columns={name: np.concatenate(values) for name, values in columns.items()},
    )


def trusted_mev_per_ang(parts: PartReader, config: CampaignConfig, iteration: int) -> float:
    """Force deviation in meV/Å up to which an iteration's trajectories are trusted while they run.

    The upper end of the window. An adaptive one is not known before the frames are: then it is that of the iteration
    before, and in the first one trajectories are trusted until `sampling.stop_deviation_mev_per_ang` stops them.
    """
    if not config.selection.adaptive.enabled:
        return config.selection.upper_mev_per_ang
    if iteration == 0:
        return config.sampling.stop_deviation_mev_per_ang
    with parts.open(names.selection(iteration - 1)) as root:
        return Window.from_attributes(root.attrs).upper_mev_per_ang


def temperature_records(
    parts: PartReader, samples: Sequence[str], fates: np.ndarray, *, deviation: str
) -> tuple[TemperatureRecord, ...]:
    """One record per sample part.

    Args:
        parts: Reader of the sample parts.
        samples: Names of the sample parts in order.
        fates: Fates of all their frames, shape (S,).
        deviation: Which deviation decided: `norm` or `component`.
    """
    records, start = [], 0
    for sample in samples:
        with parts.open(sample) as root:
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


def sampled_steps(parts: PartReader, sample: str) -> int:
    """MD steps of each replica of a sample part."""
    with parts.open(sample) as root:
        return int(root.attrs["steps"])
