"""The trajectories of one iteration, or of the iterations that are judged together, as evidence for the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.samples import COMPLETED, SATURATED
from al_engine.config import CampaignConfig, StatePoint
from al_engine.selection.window import Window
from al_engine.structures.frames import BoolArray, IntArray
from al_engine.units import FS_PER_PS, MEV_PER_EV
from al_engine.verdict.records import TemperatureRecord, Trajectory, temperature_record

CONTINUES = "continues"
"""Data set of a sample part: whether each trajectory goes on from the last trajectory of its replica slot in the
iteration before. Parts of earlier versions lack it: in them, all trajectories go on that can."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sampled:
    """The trajectories of one sample part.

    Attributes:
        trajectories: The trajectories, in the order in which they were started.
        slot: Replica slot of each trajectory.
        completed: Whether each trajectory ran to its end.
        saturated: Whether each trajectory ended after many candidates in a row.
        continues: Whether each trajectory goes on from the iteration before, if the trajectory there was completed.
    """

    trajectories: list[Trajectory]
    slot: IntArray
    completed: BoolArray
    saturated: BoolArray
    continues: BoolArray


def judged_temperatures(
    parts: PartReader,
    config: CampaignConfig,
    iterations: Sequence[int],
    fates: Sequence[np.ndarray] | None = None,
    *,
    limit: float = 0.0,
) -> tuple[TemperatureRecord, ...]:
    """One record per state point of some successive iterations, whose trajectories are joined where they go on.

    Args:
        parts: Reader of the sample, selection and append parts of the iterations.
        config: The campaign's config.
        iterations: Numbers of the iterations, ascending.
        fates: Fates of all frames of each iteration, each shape (S,); None: the fates in the append parts.
        limit: Limit of the acceptance, for the verdict; 0 in the stored record of an iteration, because the limit may
            change later (`temperature_record`).
    """
    if fates is None:
        fates = [_appended_fates(parts, iteration) for iteration in iterations]
    with parts.open(names.selection(iterations[-1])) as root:
        lower = Window.from_attributes(root.attrs).lower_mev_per_ang / MEV_PER_EV
    records, start = [], [0] * len(fates)
    for point in config.state_points:
        sampled = []
        for place, (iteration, all_fates) in enumerate(zip(iterations, fates, strict=True)):
            found, size = _read(parts, config, iteration, point, all_fates[start[place] :])
            sampled.append(found)
            start[place] += size
        records.append(
            temperature_record(
                point,
                _joined(sampled),
                replicas=sum(len(found.slot) for found in sampled),
                stopped=sum(int(np.sum(~found.completed & ~found.saturated)) for found in sampled),
                saturated=sum(int(np.sum(found.saturated)) for found in sampled),
                lower=lower,
                limit=limit,
                stride_ps=config.sampling.stride_steps * config.sampling.timestep_fs / FS_PER_PS,
            )
        )
    return tuple(records)


def _appended_fates(parts: PartReader, iteration: int) -> np.ndarray:
    with parts.open(names.append(iteration)) as root:
        fates: np.ndarray = root["fate"][()]
    return fates


def _read(
    parts: PartReader, config: CampaignConfig, iteration: int, point: StatePoint, fates: np.ndarray
) -> tuple[_Sampled, int]:
    """The trajectories of a sample part, and its number of frames; `fates` begins with the fates of these frames."""
    with parts.open(names.sample(iteration, point.temperature_kelvin, point.system)) as root:
        deviation, replica = root[f"deviation_{config.selection.deviation}"][()], root["replica"][()]
        reason, slot = root["stop_reason"][()], root["slot"][()]
        if CONTINUES in root:
            continues = root[CONTINUES][()]
        else:
            continues = np.full(len(slot), iteration > 0 and config.sampling.start == "continue")
    rows = [np.flatnonzero(replica == index) for index in range(len(slot))]
    trajectories = [Trajectory(deviation[frames], fates[frames]) for frames in rows]
    sampled = _Sampled(
        trajectories, slot, completed=reason == COMPLETED, saturated=reason == SATURATED, continues=continues
    )
    return sampled, len(replica)


def _joined(sampled: Sequence[_Sampled]) -> list[Trajectory]:
    """The trajectories of successive iterations, where those that go on are one trajectory."""
    joined: list[list[Trajectory]] = []
    going_on: dict[int, list[Trajectory]] = {}  # by replica slot
    for iteration in sampled:
        last: dict[int, list[Trajectory]] = {}
        for trajectory, slot, completed, continues in zip(
            iteration.trajectories, iteration.slot.tolist(), iteration.completed, iteration.continues, strict=True
        ):
            if continues and slot in going_on and slot not in last:
                pieces = going_on[slot]
            else:
                pieces = []
                joined.append(pieces)
            pieces.append(trajectory)
            last[slot] = pieces if completed else []
        going_on = {slot: pieces for slot, pieces in last.items() if pieces}
    return [
        Trajectory(
            deviation=np.concatenate([piece.deviation for piece in pieces]),
            fates=np.concatenate([piece.fates for piece in pieces]),
        )
        for pieces in joined
    ]
