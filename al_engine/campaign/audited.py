"""The audit parts of a campaign: which accurate frames were drawn, with which labels, and what came out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig
from al_engine.selection.fates import Fate, FateArray
from al_engine.structures.frames import BoolArray, IntArray


@dataclass(frozen=True, slots=True)
class AuditPlan:
    """Which frames an audit draws.

    Attributes:
        frames: Number of frames.
        iterations: The iterations whose accurate frames are drawn.
    """

    frames: int
    iterations: tuple[int, ...]


def stored_audit_plan(parts: PartReader, iteration: int) -> AuditPlan:
    """The plan by which the frames of an audit were drawn."""
    with parts.open(names.audit(iteration)) as root:
        iterations = tuple(int(number) for number in root.attrs["iterations"])
        return AuditPlan(frames=int(root.attrs["frames"]), iterations=iterations)


@dataclass(frozen=True, slots=True, eq=False)
class AccurateFrames:
    """The A accurate frames of some iterations at one state point, iteration after iteration.

    Attributes:
        iteration: Iteration of each frame, shape (A,).
        row: Row of each frame in the sample part of its iteration, shape (A,).
        index: Index of each frame among all frames of its iteration, shape (A,).
    """

    iteration: IntArray
    row: IntArray
    index: IntArray

    def __len__(self) -> int:
        return len(self.row)

    def at(self, which: IntArray | BoolArray) -> "AccurateFrames":
        """Some of the frames, by number or by mask."""
        return AccurateFrames(self.iteration[which], self.row[which], self.index[which])


def accurate_frames(parts: PartReader, config: CampaignConfig, iterations: Sequence[int]) -> list[AccurateFrames]:
    """The accurate frames of some finished iterations, for each state point in order."""
    fates: dict[int, FateArray] = {}
    for iteration in iterations:
        with parts.open(names.append(iteration)) as root:
            fates[iteration] = root["fate"][()]
    start = dict.fromkeys(iterations, 0)
    found = []
    for point in config.state_points:
        pools = []
        for iteration in iterations:
            with parts.open(names.sample(iteration, point.temperature_kelvin, point.system)) as root:
                size = len(root["step"])
            row = np.flatnonzero(fates[iteration][start[iteration] : start[iteration] + size] == Fate.ACCURATE)
            pools.append(AccurateFrames(np.full(len(row), iteration), row, start[iteration] + row))
            start[iteration] += size
        found.append(
            AccurateFrames(
                iteration=np.concatenate([pool.iteration for pool in pools]),
                row=np.concatenate([pool.row for pool in pools]),
                index=np.concatenate([pool.index for pool in pools]),
            )
        )
    return found


def fates_with_audits(parts: PartReader, iteration: int) -> FateArray:
    """The final fates of an iteration's frames, in which audited frames have the fate `AUDITED`.

    Args:
        parts: Reader of all parts of the campaign.
        iteration: A finished iteration.
    """
    with parts.open(names.append(iteration)) as root:
        fates: FateArray = root["fate"][()]
    for name in parts.audits():
        with parts.open(name) as root:
            own = root["source"][()][:, 0] == iteration
            fates[root["index"][()][own]] = Fate.AUDITED
    return fates
