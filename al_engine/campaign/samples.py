"""Reading the sample parts of an iteration: frames and deviations for the selection, counts for the record."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig
from al_engine.files.frames_hdf5 import read_frames
from al_engine.selection.window import Window, window_of
from al_engine.structures.frames import Frame, IntArray
from al_engine.verdict.sampling_plan import SamplingPlan

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
SATURATED = b"saturated"


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """All S frames of an iteration, temperature after temperature.

    Attributes:
        parts: Reader of the sample parts.
        names: Names of the sample parts in order.
        source: Index of each frame's sample part, and row of the frame in that part, shape (S, 2).
        columns: The arrays named in `COLUMNS`, each of shape (S,).
    """

    parts: PartReader
    names: tuple[str, ...]
    source: IntArray
    columns: dict[str, np.ndarray]

    def frames(self, indices: IntArray) -> list[Frame]:
        """Read the frames of the given indices, which must be ascending."""
        frames: list[Frame] = []
        for part, name in enumerate(self.names):
            rows = self.source[indices[self.source[indices, 0] == part], 1]
            if len(rows):
                with self.parts.open(name) as root:
                    frames += read_frames(root["frames"], rows=rows)
        return frames

    def trajectories(self) -> list[list[IntArray]]:
        """Indices of the frames of every trajectory in order of time: for each sample part, a list of trajectories."""
        found = []
        for part in range(len(self.names)):
            here = np.flatnonzero(self.source[:, 0] == part)
            replica, step = self.columns["replica"][here], self.columns["step"][here]
            order = here[np.lexsort((step, replica))]
            found.append(np.split(order, np.flatnonzero(np.diff(self.columns["replica"][order])) + 1))
        return found


def read_sampled(parts: PartReader, samples: Sequence[str]) -> SampledFrames:
    """Read all columns of the sample parts of these names; structures are read later, on demand."""
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

    It is the upper end of the expected window, or `sampling.stop_deviation_mev_per_ang` where none is expected.
    """
    window = expected_window(parts, config, iteration)
    return config.sampling.stop_deviation_mev_per_ang if window is None else window.upper_mev_per_ang


def expected_window(parts: PartReader, config: CampaignConfig, iteration: int) -> Window | None:
    """The window that an iteration is expected to have, while it is sampled; None if nothing is known of it.

    An adaptive window is known only after the sampling, so that of the previous iteration is expected.
    """
    if not config.selection.adaptive.enabled:
        return window_of(config.selection, np.empty(0))
    if iteration == 0:
        return None
    with parts.open(names.selection(iteration - 1)) as root:
        return Window.from_attributes(root.attrs)


def stored_plan(parts: PartReader, sample: str) -> SamplingPlan:
    """The plan by which a sample part of an earlier version was made, which does not have `stored_plans`."""
    with parts.open(sample) as root:
        return SamplingPlan(steps=int(root.attrs["steps"]), fresh=int(root.attrs.get("fresh", 0)))


def stored_plans(parts: PartReader, sample: str) -> list[SamplingPlan]:
    """The plans of all temperatures that were made with that of a sample part; empty in parts of earlier versions.

    They are stored with every temperature, so that a part that is lost can be made again by the same plan.
    """
    with parts.open(sample) as root:
        return [SamplingPlan(**plan) for plan in json.loads(root.attrs.get("plans", "[]"))]


def sampled_steps(parts: PartReader, sample: str) -> int:
    """MD steps of each replica in a sample part, which may have ended before its last planned step."""
    with parts.open(sample) as root:
        ends = root["stop_step"][()] if "plans" in root.attrs else []
        return int(max(ends, default=root.attrs["steps"]))
