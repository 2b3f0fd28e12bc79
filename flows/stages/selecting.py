"""Stage `iterNNN-selection`: the fate of every sampled frame, and the frames to label."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.samples import SampledFrames, read_sampled
from al_engine.config import CampaignConfig, SelectionConfig
from al_engine.files.frames_hdf5 import read_frames, write_frames
from al_engine.seeds import derived_rng
from al_engine.selection.diversity import farthest_points, standardised
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
from al_engine.selection.thinning import thinned
from al_engine.selection.window import Window, window_of
from al_engine.statistics import statistical_inefficiency
from al_engine.structures.bonds import Bonds, longest_bonds
from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray
from al_engine.structures.identity import duplicates
from al_engine.structures.sanity import screen_contacts, screen_system
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.cutting import Cutting, ForLabel
from flows.stages.training import load_committee

if TYPE_CHECKING:
    from models.ms_mace import MSMACE

Describe = Callable[[Sequence[Frame]], Iterable[FloatArray]]
"""Computes the descriptors of every atom, one array of shape (N, D) per frame."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The fates of the S sampled frames of an iteration, and the frames that were chosen to be labelled.

    Attributes:
        sampled: The sampled frames.
        fates: Fate of each frame; `LABELLED` for a chosen frame, shape (S,).
        chosen: Indices of the chosen frames, ascending.
        labelled_as: The structure to label for each chosen frame: the frame, or a cluster cut from it.
        rank: Rank, from 0, of each candidate that could be labelled; -1 for all other frames, shape (S,).
        window: The window that was applied.
        separation_strides: Smallest distance in time between kept candidates, in strides, for each sample part.
    """

    sampled: SampledFrames
    fates: FateArray
    chosen: IntArray
    labelled_as: list[ForLabel]
    rank: IntArray
    window: Window
    separation_strides: tuple[int, ...]

    @property
    def selected(self) -> list[Frame]:
        """The structures to label."""
        return [one.frame for one in self.labelled_as]

    def write(self, root: h5py.File) -> None:
        """Write the selection into an empty part, with all data that is needed to select again by other rules."""
        selected = root.create_group("selected")
        write_frames(selected, self.selected)
        selected["atom"] = np.concatenate([np.empty(0, dtype=np.int64), *(one.atoms for one in self.labelled_as)])
        selected["centre_molecule"] = np.array([one.molecule for one in self.labelled_as], dtype=np.int64)
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
    config, kelvins = ledger.config.selection, ledger.config.sampling.temperatures_kelvin
    parents = [
        names.INITIAL_FRAMES,
        *(name for k in _looked_at(config, iteration) for name in names.samples(k, kelvins)),
        *names.dataset_before(iteration),
        *(names.selection(k) for k in range(iteration)),
        names.member(iteration, 0),
    ]
    return Stage(
        name=names.selection(iteration),
        job=f"{__name__}:select",
        inputs={"selection": config.model_dump(mode="json"), "seed": ledger.config.seed, "iteration": iteration},
        parents=tuple(parents),
        arguments={"iteration": iteration},
    )


def _looked_at(config: SelectionConfig, iteration: int) -> range:
    """Iterations whose samples the window depends on, including the iteration itself."""
    back = config.adaptive.iterations if config.adaptive.enabled else 1
    return range(max(0, iteration + 1 - back), iteration + 1)


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
    sampled = read_sampled(parts, names.samples(iteration, config.sampling.temperatures_kelvin))
    deviation = sampled.columns[f"deviation_{selection.deviation}"]
    net_force = sampled.columns["net_force_deviation"]
    window = window_of(selection, _recent_deviations(parts, config, iteration))
    fates = window_fates(deviation, net_force, sound=sampled.columns["sound"], window=window)
    cutting = Cutting.of(parts, config)
    labelled_as = _cut(sampled, fates, cutting, window=window, config=config, iteration=iteration)

    def still_open() -> list[Frame]:
        return [labelled_as[index].frame for index in open_candidates(fates).tolist()]

    fates[open_candidates(fates)] = gate_fates(still_open(), cutting.bonds, config=config)
    _refuse(fates, duplicates(still_open(), _known_frames(parts, iteration)), Fate.DUPLICATE)
    worth = window.excess(deviation, net_force)
    separations = separation_strides(sampled, deviation, selection)
    stride_steps = config.sampling.stride_steps
    _refuse(fates, ~_kept_in_time(sampled, open_candidates(fates), worth, separations, stride_steps), Fate.CORRELATED)

    available = open_candidates(fates)
    if selection.diversity == "random":
        order = derived_rng(config.seed, "select", iteration).permutation(available)
    elif len(available) <= selection.max_labels:
        order = available[np.argsort(-worth[available], kind="stable")]
    else:
        before = [item.frame for item in parts.dataset(before=iteration)]
        focus = np.array([labelled_as[index].focus for index in available.tolist()])
        order = available[most_novel(still_open(), focus, before, describe=describe)]
    rank = np.full(len(fates), -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    chosen = choose(fates, order, selection.max_labels)
    return Selection(
        sampled=sampled,
        fates=fates,
        chosen=chosen,
        labelled_as=[labelled_as[index] for index in chosen.tolist()],
        rank=rank,
        window=window,
        separation_strides=separations,
    )


def _cut(
    sampled: SampledFrames,
    fates: FateArray,
    cutting: Cutting,
    *,
    window: Window,
    config: CampaignConfig,
    iteration: int,
) -> dict[int, ForLabel]:
    """The structure to label for every candidate, by the candidate's index among all sampled frames."""
    candidates, columns = open_candidates(fates), sampled.columns
    deviation, net_force = columns[f"deviation_{config.selection.deviation}"], columns["net_force_deviation"]
    for_label = cutting.apply(
        sampled.frames(candidates),
        candidates,
        iteration=iteration,
        worst_atom=columns["worst_atom"][candidates],
        worst_molecule=columns["worst_molecule"][candidates],
        by_net_force=window.by_net_force(deviation, net_force)[candidates],
    )
    return dict(zip(candidates.tolist(), for_label, strict=True))


def _refuse(fates: FateArray, where: BoolArray, fate: Fate) -> None:
    """Give a fate to the open candidates for which `where` is true; `where` has one entry per open candidate."""
    fates[open_candidates(fates)[where]] = fate


def gate_fates(frames: Sequence[Frame], bonds: Bonds, *, config: CampaignConfig) -> FateArray:
    """The fates that the sanity checks give to candidates.

    Args:
        frames: F candidates, as they would be labelled.
        bonds: Bonds of the labelled structures.
        config: The campaign's config.

    Returns:
        `TOO_CLOSE`, `FRAGMENTED`, `REFUSED`, or `OVER_CAP` for a sound candidate, which stays open, shape (F,).
    """
    selection, gfn2 = config.selection, config.labels.backend != "ase"
    fates = np.full(len(frames), Fate.OVER_CAP, dtype=np.int8)
    fates[longest_bonds(frames, bonds) > selection.max_bond_factor] = Fate.FRAGMENTED
    for index, frame in enumerate(frames):
        if screen_system(frame, gfn2=gfn2):
            fates[index] = Fate.REFUSED
        elif screen_contacts(
            frame, min_distance_ang=selection.min_distance_ang, min_contact_factor=selection.min_contact_factor
        ):
            fates[index] = Fate.TOO_CLOSE
    return fates


def separation_strides(sampled: SampledFrames, deviation: FloatArray, config: SelectionConfig) -> tuple[int, ...]:
    """Smallest distance between kept candidates of one trajectory, in strides, for every sample part.

    By default it is the statistical inefficiency of the deviation within trajectories, so that kept candidates are
    nearly independent.
    """
    if config.min_separation_strides is not None:
        return (config.min_separation_strides,) * len(sampled.names)
    return tuple(
        round(statistical_inefficiency([deviation[rows] for rows in trajectories], own_means=True))
        for trajectories in sampled.trajectories()
    )


def _kept_in_time(
    sampled: SampledFrames, available: IntArray, worth: FloatArray, separations: Sequence[int], stride_steps: int
) -> BoolArray:
    """Which of the available candidates are kept; candidates with the largest excess over the window are kept first."""
    part, step = sampled.source[available, 0], sampled.columns["step"][available]
    kept = np.zeros(len(available), dtype=bool)
    for index, strides in enumerate(separations):
        here = np.flatnonzero(part == index)
        kept[here] = thinned(
            sampled.columns["replica"][available[here]],
            step[here],
            worth[available[here]],
            separation=strides * stride_steps,
        )
    return kept


def most_novel(
    frames: Sequence[Frame], worst_atom: IntArray, known: Sequence[Frame], *, describe: Describe
) -> IntArray:
    """Order candidates by novelty: each candidate is the farthest from the data set and from the candidates before it.

    A candidate is represented by the environment of its worst atom, on whose force the members disagree most. Distances
    are taken to all environments of the same element in the data set, and to those of the candidates picked before.

    Args:
        frames: F candidates.
        worst_atom: Index of the worst atom of each candidate, shape (F,).
        known: The data set.
        describe: Computes the model's descriptors.

    Returns:
        Indices of the candidates, most novel first, shape (F,).
    """
    elements = np.array([frame.numbers[atom] for frame, atom in zip(frames, worst_atom, strict=True)])
    points = np.array([rows[atom] for rows, atom in zip(describe(frames), worst_atom, strict=True)])
    wanted = [np.isin(frame.numbers, elements) for frame in known]
    reference = np.concatenate([rows[those] for rows, those in zip(describe(known), wanted, strict=True)])
    kinds = {
        "kinds": elements,
        "reference_kinds": np.concatenate([frame.numbers[those] for frame, those in zip(known, wanted, strict=True)]),
    }
    return farthest_points(*standardised(points, reference, **kinds), len(frames), **kinds)


def _recent_deviations(parts: PartReader, config: CampaignConfig, iteration: int) -> FloatArray:
    """Deviations in eV/Å of all sound frames that an adaptive window depends on; empty for a fixed window."""
    values = [np.empty(0)]
    if config.selection.adaptive.enabled:
        for k in _looked_at(config.selection, iteration):
            for name in names.samples(k, config.sampling.temperatures_kelvin):
                with parts.open(name) as root:
                    values.append(root[f"deviation_{config.selection.deviation}"][()][root["sound"][()]])
    return np.concatenate(values)


def _known_frames(parts: PartReader, iteration: int) -> list[Frame]:
    """All frames ever chosen to be labelled: initial, test and selected frames, with those whose labels failed."""
    with parts.open(names.INITIAL_FRAMES) as root:
        known = read_frames(root["train"]) + read_frames(root["test"])
    for k in range(iteration):
        with parts.open(names.selection(k)) as root:
            known += read_frames(root["selected"])
    return known
