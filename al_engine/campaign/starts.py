"""Starting frames of the trajectories of an iteration."""

from dataclasses import dataclass

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.samples import COMPLETED, SATURATED
from al_engine.config import CampaignConfig, StatePoint
from al_engine.files.frames_hdf5 import read_frames
from al_engine.seeds import derived_rng
from al_engine.selection.fates import Fate
from al_engine.structures.frames import BoolArray, Frame


@dataclass(frozen=True, slots=True, eq=False)
class Starts:
    """Starting frames of the trajectories of an iteration at one state point.

    Attributes:
        frames: One frame for each of the B replica slots.
        continues: Whether each slot's trajectory goes on from the iteration before, shape (B,).
    """

    frames: list[Frame]
    continues: BoolArray


def starting_frames(
    parts: PartReader, config: CampaignConfig, *, iteration: int, point: StatePoint, fresh: int = 0
) -> Starts:
    """Starting frames at a state point, one for each replica slot.

    In iteration 0 they are initial frames, drawn from the half whose anneal temperature is nearest; every second slot
    starts from one of the user's starting structures, if there are any (`system.structures`). In later iterations they
    depend on `sampling.start`. With `continue`, a replica slot goes on from the end of its last trajectory, or
    from an initial frame if that trajectory was stopped. With `labelled`, the replica slots start from sampled frames
    that the previous iteration labelled. Frames of the same temperature come first, then frames of the nearest
    temperatures. If there are fewer frames than slots, the remaining slots continue.

    Args:
        parts: The parts of the campaign that the stage may read.
        config: The campaign's config.
        iteration: The iteration.
        point: The state point.
        fresh: Number of slots that start as in iteration 0 whatever `sampling.start`. They take turns: the slots
            after those that started afresh in the iteration before.
    """
    config_of_system = config.by_system[point.system]
    sampling = config_of_system.sampling
    rng = derived_rng(config_of_system.seed, "start", iteration, round(1000 * point.temperature_kelvin))
    initial = near_initial_frames(parts, point)
    drawn = [
        initial[i] for i in rng.choice(len(initial), size=sampling.replicas, replace=len(initial) < sampling.replicas)
    ]
    structures = _structures(parts, point)
    if structures:
        half = (sampling.replicas + 1) // 2
        first = (
            config_of_system.state_points.index(point) * half + iteration * len(config_of_system.state_points) * half
        )
        for slot in range(0, sampling.replicas, 2):
            drawn[slot] = structures[(first + slot // 2) % len(structures)]
    if iteration == 0:
        return Starts(drawn, np.zeros(sampling.replicas, dtype=bool))
    starts, continues = _last_sound_frames(parts, iteration - 1, point, instead=drawn)
    if sampling.start == "labelled":
        labelled = _labelled_frames(parts, config, iteration - 1, point, most=sampling.replicas, rng=rng)
        starts[: len(labelled)] = labelled
        continues[: len(labelled)] = False
    for slot in ((iteration * fresh + np.arange(fresh)) % sampling.replicas).tolist():
        starts[slot], continues[slot] = drawn[slot], False
    return Starts(starts, continues)


def _last_sound_frames(
    parts: PartReader, iteration: int, point: StatePoint, *, instead: list[Frame]
) -> tuple[list[Frame], BoolArray]:
    """Last frame of the last trajectory in each replica slot, or a frame of `instead` if that trajectory was stopped.

    A slot with a saturated trajectory gets a frame of `instead` too.

    Returns:
        The frames, and whether each of them is the last frame of a trajectory.
    """
    with parts.open(names.sample(iteration, point.temperature_kelvin, point.system)) as root:
        final, reasons, slots = read_frames(root["final"]), root["stop_reason"][()], root["slot"][()]
    # The trajectories are in order of time, so that the last trajectory of a slot stays in the mapping.
    last = {int(slot): index for index, slot in enumerate(slots)}
    # The replacement of a saturated trajectory began far from the candidates; going on, it would sample few of them.
    saturated = set(slots[reasons == SATURATED].tolist())
    completed = np.array([reasons[last[slot]] == COMPLETED and slot not in saturated for slot in range(len(instead))])
    frames = [final[last[slot]] if completed[slot] else new for slot, new in enumerate(instead)]
    return frames, completed


def _labelled_frames(
    parts: PartReader, config: CampaignConfig, iteration: int, point: StatePoint, *, most: int, rng: np.random.Generator
) -> list[Frame]:
    """Whole sampled frames of the system that an iteration labelled, nearest temperatures first; at most `most`."""
    with parts.open(names.append(iteration)) as root:
        labelled = np.flatnonzero(root["fate"][()] == Fate.LABELLED)
    with parts.open(names.selection(iteration)) as root:
        source = root["source"][()][labelled]
    own = [(index, other) for index, other in enumerate(config.state_points) if other.system == point.system]
    frames: list[Frame] = []
    for part, other in sorted(own, key=lambda item: abs(item[1].temperature_kelvin - point.temperature_kelvin)):
        rows = source[source[:, 0] == part, 1]
        taken = rng.permutation(rows)[: most - len(frames)]
        if len(taken):
            with parts.open(names.sample(iteration, other.temperature_kelvin, other.system)) as root:
                frames += read_frames(root["frames"], rows=taken)
    return frames


def _structures(parts: PartReader, point: StatePoint) -> list[Frame]:
    """The user's starting structures of a system; empty if there are none."""
    with parts.open(names.initial_frames(point.system)) as root:
        return read_frames(root["structures"]) if "structures" in root else []


def near_initial_frames(parts: PartReader, point: StatePoint) -> list[Frame]:
    """The half of the initial frames of a system whose anneal temperature is nearest to a temperature."""
    with parts.open(names.initial_frames(point.system)) as root:
        frames = read_frames(root["starts"])
        temperatures = root["starts"]["temperature_kelvin"][()]
    distance = np.where(np.isfinite(temperatures), np.abs(temperatures - point.temperature_kelvin), 0.0)
    near = np.argsort(distance, kind="stable")[: max(1, (len(frames) + 1) // 2)]
    return [frames[index] for index in near.tolist()]
