"""Stage `iterNNN-selection`: the fate of every sampled frame, and the frames to label."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.samples import SampledFrames, read_sampled
from al_engine.config import CampaignConfig, StatePoint
from al_engine.selection.choice import (
    Describe,
    gate_fates,
    kept_in_time,
    label_order,
    refuse,
    separation_strides,
    shared_among,
)
from al_engine.selection.cutting import Cutting, LabelStructure
from al_engine.selection.fates import (
    CANDIDATE_FATES,
    Fate,
    FateArray,
    choose,
    count,
    count_fates,
    open_candidates,
    window_fates,
)
from al_engine.selection.window import Window, window_of
from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray
from al_engine.structures.identity import duplicates
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.search.selection_inputs import (
    known_frames,
    looked_at,
    point_cuttings,
    recent_deviations,
    structures_to_label,
    write_structures,
)
from flows.stages.training import load_committee

if TYPE_CHECKING:
    from models.ms_mace import MSMACE


@dataclass(frozen=True, slots=True)
class Candidates:
    """The S sampled frames of some state points, and which of them can be labelled.

    Attributes:
        sampled: The sampled frames.
        points: The state points, one for each sample part.
        fates: Fate of each frame; that of a frame that can be labelled is still open, shape (S,).
        structures: The structure to label for each candidate, by index of the frame.
        cuttings: How the frames of each state point become these structures.
        worth: How far each frame lies beyond the lower end of the window, shape (S,).
        window: The window that was applied.
        separation_strides: Smallest distance in time between kept candidates, in strides, for each sample part.
    """

    sampled: SampledFrames
    points: tuple[StatePoint, ...]
    fates: FateArray
    structures: dict[int, LabelStructure]
    cuttings: list[Cutting]
    worth: FloatArray
    window: Window
    separation_strides: tuple[int, ...]

    def still_open(self) -> list[Frame]:
        """The structures of the frames that can be labelled, in the order of the frames."""
        return [self.structures[index].frame for index in open_candidates(self.fates).tolist()]


@dataclass(frozen=True, slots=True)
class Selection:
    """The fates of the S sampled frames of an iteration, and the frames that were chosen to be labelled.

    Attributes:
        sampled: The sampled frames.
        fates: Fate of each frame; `LABELLED` for a chosen frame, shape (S,).
        chosen: Indices of the chosen frames, ascending.
        labelled_as: The structure to label for each chosen frame: the frame, or a cluster cut from it.
        interior: Whether each atom of these structures stands for the sampled frame (`Cutting.interior`).
        rank: Rank, from 0, of each candidate that could be labelled; -1 for all other frames, shape (S,).
        window: The window that was applied.
        separation_strides: Smallest distance in time between kept candidates, in strides, for each sample part.
    """

    sampled: SampledFrames
    fates: FateArray
    chosen: IntArray
    labelled_as: list[LabelStructure]
    interior: list[BoolArray]
    rank: IntArray
    window: Window
    separation_strides: tuple[int, ...]

    @property
    def selected(self) -> list[Frame]:
        """The structures to label."""
        return [structure.frame for structure in self.labelled_as]

    def write(self, root: h5py.File) -> None:
        """Write the selection into an empty part, with all data that is needed to select again by other rules."""
        write_structures(root.create_group("selected"), self.labelled_as, self.interior)
        root["chosen"], root["fate"], root["rank"] = self.chosen, self.fates, self.rank
        root["source"] = self.sampled.source
        for name, values in self.sampled.columns.items():
            root[name] = values
        root["separation_strides"] = np.array(self.separation_strides, dtype=np.int64)
        root.attrs.update(self.window.to_attributes())
        root.attrs["fates"] = [fate.name.lower() for fate in Fate]

    def summary(self) -> str:
        """One line for the terminal: how many candidates were chosen, and why the others were not."""
        counts = count(self.fates)
        candidates = np.isin(self.fates, CANDIDATE_FATES)
        left_out = count_fates(self.fates[candidates & (self.fates != Fate.LABELLED)])
        reasons = ", ".join(f"{name} {number}" for name, number in left_out.items())
        summary = f"{len(self.chosen)} of {counts.candidate} candidates among {counts.sampled} frames chosen"
        return f"{summary} ({reasons})" if reasons else summary


def plan(ledger: Ledger, iteration: int) -> Stage:
    """The stage that selects the frames of an iteration."""
    config, points = ledger.config.selection, ledger.config.state_points
    parents = [
        *names.initial_sources(ledger.config),
        *(name for k in looked_at(config, iteration) for name in names.samples(k, points)),
        *ledger.dataset_before(iteration),
        *(names.selection(k) for k in range(iteration)),
        names.member(iteration, 0),
    ]
    return Stage(
        name=names.selection(iteration),
        job=f"{__name__}:select",
        inputs={"selection": config.key_values(), "seed": ledger.config.seed, "iteration": iteration},
        parents=tuple(parents),
        arguments={"iteration": iteration},
    )


def select(work: Work, *, iteration: int) -> None:
    """Decide the fate of every sampled frame, and choose the frames to label."""

    @cache
    def model() -> "MSMACE":
        committee = load_committee(work.parts, work.config, iteration, work.device, evaluations=0, members=1)
        return committee.models[0]

    def describe(frames: Sequence[Frame]) -> Iterator[FloatArray]:
        from models.inference.descriptors import atom_descriptors

        return atom_descriptors(model(), frames, progress=work.progress)

    selection = select_frames(work.parts, work.config, iteration, describe=describe)
    with work.write() as root:
        selection.write(root)
        summarise(root, selection.summary())


def select_frames(parts: PartReader, config: CampaignConfig, iteration: int, *, describe: Describe) -> Selection:
    """Decide the fate of every sampled frame, and choose the frames to label.

    Args:
        parts: The parts of the iteration, whose samples must exist, and of earlier iterations.
        config: The campaign's config.
        iteration: The iteration.
        describe: Computes the model's descriptors; called only if there are more candidates than allowed labels.
    """
    selection = config.selection
    found = find_candidates(parts, config, iteration, config.state_points)
    sampled, fates, structures = found.sampled, found.fates, found.structures
    order = label_order(
        open_candidates(fates),
        found.worth,
        structures,
        lambda: [item.frame for item in parts.dataset(before=iteration)],
        selection,
        describe=describe,
        seed=config.seed,
        iteration=iteration,
    )
    if config.systems:
        systems = np.array([point.system for point in found.points])
        order = shared_among(order, systems[sampled.source[order, 0]], selection.max_labels)
    rank = np.full(len(fates), -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    chosen = choose(fates, order, selection.max_labels)
    labelled_as = [structures[index] for index in chosen.tolist()]
    return Selection(
        sampled=sampled,
        fates=fates,
        chosen=chosen,
        labelled_as=labelled_as,
        interior=[
            found.cuttings[sampled.source[index, 0]].interior(
                frame, structure, cutoff_ang=config.model.short.cutoff_ang
            )
            for index, frame, structure in zip(chosen.tolist(), sampled.frames(chosen), labelled_as, strict=True)
        ],
        rank=rank,
        window=found.window,
        separation_strides=found.separation_strides,
    )


def find_candidates(
    parts: PartReader, config: CampaignConfig, iteration: int, points: Sequence[StatePoint]
) -> Candidates:
    """Find the sampled frames that can be labelled.

    Args:
        parts: The sample parts of the state points, and the parts of earlier iterations.
        config: The campaign's config.
        iteration: The iteration.
        points: The state points.
    """
    selection = config.selection
    sampled = read_sampled(parts, names.samples(iteration, points))
    deviation = sampled.columns[f"deviation_{selection.deviation}"]
    net_force = sampled.columns["net_force_deviation"]
    window = window_of(selection, recent_deviations(parts, config, iteration))
    fates = window_fates(deviation, net_force, sound=sampled.columns["sound"], window=window)
    cuttings = point_cuttings(parts, config, points)
    structures = structures_to_label(sampled, fates, cuttings, window=window, config=config, iteration=iteration)
    worth = window.excess(deviation, net_force)
    separations = separation_strides(deviation, sampled.trajectories(), selection)
    found = Candidates(sampled, tuple(points), fates, structures, cuttings, worth, window, separations)
    bonds = [
        cuttings[sampled.source[index, 0]].bonds_of(structures[index]) for index in open_candidates(fates).tolist()
    ]
    fates[open_candidates(fates)] = gate_fates(
        found.still_open(), bonds, selection, gfn2=config.labels.backend != "ase"
    )
    refuse(fates, duplicates(found.still_open(), known_frames(parts, config, iteration)), Fate.DUPLICATE)
    available = open_candidates(fates)
    kept = kept_in_time(
        sampled.source[available, 0],
        sampled.columns["replica"][available],
        sampled.columns["step"][available],
        worth[available],
        [strides * config.sampling.stride_steps for strides in separations],
    )
    refuse(fates, ~kept, Fate.CORRELATED)
    return found
