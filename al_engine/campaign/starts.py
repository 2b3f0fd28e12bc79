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
        continues: Whether the trajectory of each slot goes on from the iteration before, shape (B,).
    """

    frames: list[Frame]
    continues: BoolArray


def starting_frames(
    parts: PartReader, config: CampaignConfig, *, iteration: int, point: StatePoint, fresh: int = 0
) -> Starts:
    """Starting frames at a state point, one for each replica slot.

    In iteration 0 they are fresh frames: initial frames, drawn at random from `near_initial_frames`. If the user gave
    starting structures (`system.structures`), every second slot starts from one of these structures instead.

    In later iterations they depend on `sampling.start`. With `continue`, a replica slot goes on from the end of its
    last trajectory, or starts from a fresh frame if it cannot go on (`_last_frames`). With `labelled`, the replica
    slots start from sampled frames that the previous iteration labelled: first frames of the same temperature, then
    frames of the nearest temperatures. If there are fewer such frames than slots, the remaining slots start as with
    `continue`.

    Args:
        parts: Reader of the parts that the stage may read.
        config: The campaign's config.
        iteration: The iteration.
        point: The state point.
        fresh: Number of slots that start from a fresh frame in later iterations too, whatever `sampling.start` is. The
            slots take turns: in iteration i they are the slots from i * fresh on, modulo the number of slots.
    """
    config_of_system = config.by_system[point.system]
    sampling = config_of_system.sampling
    rng = derived_rng(config_of_system.seed, "start", iteration, round(1000 * point.temperature_kelvin))
    initial = near_initial_frames(parts, point)
    rows = rng.choice(len(initial), size=sampling.replicas, replace=len(initial) < sampling.replicas)
    fresh_frames = [initial[row] for row in rows]
    structures = _structures(parts, point)
    if structures:
        # All state points and iterations go through the structures in turn, so that each structure is used.
        slots_with_structure = range(0, sampling.replicas, 2)
        points = config_of_system.state_points
        first = (iteration * len(points) + points.index(point)) * len(slots_with_structure)
        for number, slot in enumerate(slots_with_structure, start=first):
            fresh_frames[slot] = structures[number % len(structures)]
    if iteration == 0:
        return Starts(fresh_frames, np.zeros(sampling.replicas, dtype=bool))
    starts, continues = _last_frames(parts, iteration - 1, point, instead=fresh_frames)
    if sampling.start == "labelled":
        labelled = _labelled_frames(parts, config, iteration - 1, point, most=sampling.replicas, rng=rng)
        starts[: len(labelled)] = labelled
        continues[: len(labelled)] = False
    for slot in ((iteration * fresh + np.arange(fresh)) % sampling.replicas).tolist():
        starts[slot], continues[slot] = fresh_frames[slot], False
    return Starts(starts, continues)


def _last_frames(
    parts: PartReader, iteration: int, point: StatePoint, *, instead: list[Frame]
) -> tuple[list[Frame], BoolArray]:
    """Last frame of the last trajectory in each replica slot, if the slot can go on from it.

    A slot cannot go on if its last trajectory was stopped, or if any of its trajectories was saturated, that is, ended
    after many candidates in a row, or if there was no such slot, as before a fork with more replicas.

    Args:
        parts: Reader of the sample part.
        iteration: The iteration with the last trajectories.
        point: The state point.
        instead: Frames for the B replica slots that cannot go on; one for each replica slot.

    Returns:
        A frame for each replica slot, and whether it is the last frame of a trajectory, shape (B,).
    """
    with parts.open(names.sample(iteration, point.temperature_kelvin, point.system)) as root:
        final, reasons, slots = read_frames(root["final"]), root["stop_reason"][()], root["slot"][()]
    # The trajectories are in order of time, so that the last trajectory of a slot stays in the mapping.
    last = {int(slot): index for index, slot in enumerate(slots)}
    # The replacement of a saturated trajectory began far from the candidates; going on, it would sample few of them.
    saturated = set(slots[reasons == SATURATED].tolist())
    goes_on = np.array(
        [slot in last and reasons[last[slot]] == COMPLETED and slot not in saturated for slot in range(len(instead))]
    )
    frames = [final[last[slot]] if goes_on[slot] else new for slot, new in enumerate(instead)]
    return frames, goes_on


def _labelled_frames(
    parts: PartReader, config: CampaignConfig, iteration: int, point: StatePoint, *, most: int, rng: np.random.Generator
) -> list[Frame]:
    """Sampled frames of a system that an iteration labelled, nearest temperatures first; at most `most` frames.

    If clusters cut from the frames were labelled, these are the whole frames.
    """
    with parts.open(names.append(iteration)) as root:
        labelled = np.flatnonzero(root["fate"][()] == Fate.LABELLED)
    with parts.open(names.selection(iteration)) as root:
        source = root["source"][()][labelled]
    of_system = [(index, other) for index, other in enumerate(config.state_points) if other.system == point.system]
    frames: list[Frame] = []
    for index, other in sorted(of_system, key=lambda item: abs(item[1].temperature_kelvin - point.temperature_kelvin)):
        rows = source[source[:, 0] == index, 1]
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
    """Half of the initial frames of a system: those whose anneal temperatures are nearest to a state point's.

    An initial frame without an anneal temperature counts as near.
    """
    with parts.open(names.initial_frames(point.system)) as root:
        frames = read_frames(root["starts"])
        temperatures = root["starts"]["temperature_kelvin"][()]
    distance = np.where(np.isfinite(temperatures), np.abs(temperatures - point.temperature_kelvin), 0.0)
    near = np.argsort(distance, kind="stable")[: max(1, (len(frames) + 1) // 2)]
    return [frames[index] for index in near.tolist()]
