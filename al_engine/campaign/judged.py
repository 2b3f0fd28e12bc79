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
iteration before. Parts of earlier versions lack it: there, with `sampling.start: continue`, every trajectory goes on
whose predecessor was completed."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sampled:
    """The trajectories of one sample part.

    Attributes:
        trajectories: The trajectories, in the order in which they were started.
        slot: Replica slot of each trajectory.
        completed: Whether each trajectory ran to its end.
        saturated: Whether each trajectory was ended after many candidates in a row.
        continues: Whether each trajectory may go on from the iteration before: it does so only if the trajectory there
            was completed (`_joined`).
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
    """Summarise successive iterations at each state point.

    A trajectory that goes on from one iteration to the next counts as one trajectory.

    Args:
        parts: Reader of the sample, selection and append parts of the iterations.
        config: The campaign's config.
        iterations: Numbers of the iterations, ascending.
        fates: Fates of all S frames of each iteration, each shape (S,); None: the fates in the append parts.
        limit: Limit of the acceptance, for the verdict; 0 for the stored record of an iteration, because the limit may
            change later (`temperature_record`).

    Returns:
        One record per state point, in the order of the config.
    """
    if fates is None:
        fates = [_appended_fates(parts, iteration) for iteration in iterations]
    with parts.open(names.selection(iterations[-1])) as root:
        lower = Window.from_attributes(root.attrs).lower_mev_per_ang / MEV_PER_EV
    # The fates of an iteration are in order of the state points. These are the fates of the state points still to come.
    fates_left = dict(zip(iterations, fates, strict=True))
    records = []
    for point in config.state_points:
        sampled = []
        for iteration in iterations:
            part, n_frames = _read(parts, config, iteration, point, fates_left[iteration])
            sampled.append(part)
            fates_left[iteration] = fates_left[iteration][n_frames:]
        records.append(
            temperature_record(
                point,
                _joined(sampled),
                replicas=sum(len(part.slot) for part in sampled),
                stopped=sum(int(np.sum(~part.completed & ~part.saturated)) for part in sampled),
                saturated=sum(int(np.sum(part.saturated)) for part in sampled),
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
    """Read the trajectories of a sample part.

    Args:
        parts: Reader of the sample part.
        config: The campaign's config.
        iteration: The iteration.
        point: The state point.
        fates: Fates of sampled frames, beginning with the frames of the part. Further fates are not used.

    Returns:
        The trajectories, and the number of frames of the part.
    """
    with parts.open(names.sample(iteration, point.temperature_kelvin, point.system)) as root:
        deviation, replica = root[f"deviation_{config.selection.deviation}"][()], root["replica"][()]
        reason, slot = root["stop_reason"][()], root["slot"][()]
        if CONTINUES in root:
            continues = root[CONTINUES][()]
        else:
            continues = np.full(len(slot), iteration > 0 and config.sampling.start == "continue")
    rows_of_trajectory = [np.flatnonzero(replica == index) for index in range(len(slot))]
    trajectories = [Trajectory(deviation[rows], fates[rows]) for rows in rows_of_trajectory]
    sampled = _Sampled(
        trajectories, slot, completed=reason == COMPLETED, saturated=reason == SATURATED, continues=continues
    )
    return sampled, len(replica)


def _joined(sampled: Sequence[_Sampled]) -> list[Trajectory]:
    """Join the trajectories of successive iterations: a trajectory and those that go on from it become one trajectory.

    Only the first trajectory of a replica slot in an iteration can go on from the iteration before, and only from a
    completed trajectory; later trajectories of the slot are replacements.
    """
    joined: list[list[Trajectory]] = []
    open_pieces: dict[int, list[Trajectory]] = {}  # by replica slot: may go on in the next iteration
    for iteration in sampled:
        last_pieces: dict[int, list[Trajectory] | None] = {}  # by replica slot; None: not completed
        for trajectory, slot, completed, continues in zip(
            iteration.trajectories, iteration.slot.tolist(), iteration.completed, iteration.continues, strict=True
        ):
            is_first = slot not in last_pieces
            if is_first and continues and slot in open_pieces:
                pieces = open_pieces[slot]
            else:
                pieces = []
                joined.append(pieces)
            pieces.append(trajectory)
            last_pieces[slot] = pieces if completed else None
        open_pieces = {slot: pieces for slot, pieces in last_pieces.items() if pieces is not None}
    return [
        Trajectory(
            deviation=np.concatenate([piece.deviation for piece in pieces]),
            fates=np.concatenate([piece.fates for piece in pieces]),
        )
        for pieces in joined
    ]
