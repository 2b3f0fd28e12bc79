"""The choice: every sampled frame's fate, and the frames to label, from the parts of an iteration and those before."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.samples import SampledFrames, read_sampled
from al_engine.config import CampaignConfig, SelectionConfig
from al_engine.files.frames_hdf5 import read_frames, write_frames
from al_engine.files.part_file import open_part
from al_engine.seeds import derived_rng
from al_engine.selection.diversity import farthest_points, standardised
from al_engine.selection.fates import Fate, FateArray, choose, open_candidates, window_fates
from al_engine.selection.thinning import thinned
from al_engine.selection.window import Window, window_of
from al_engine.statistics import statistical_inefficiency
from al_engine.structures.bonds import Bonds, longest_bonds
from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray
from al_engine.structures.identity import duplicates
from al_engine.structures.sanity import screen_contacts, screen_system
from flows.stages.cutting import Cutting, ForLabel

Describe = Callable[[Sequence[Frame]], Iterable[FloatArray]]
"""Descriptors of every atom of frames, one array (N, D) per frame."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What was decided about the S frames of an iteration.

    Attributes:
        sampled: The frames.
        fates: Fate of each, `LABELLED` for those chosen, shape (S,).
        chosen: Indices of the chosen frames, ascending.
        labelled_as: What is labelled of each of those: the frame, or a cluster cut from it.
        rank: Place of each candidate that could be labelled in the order of the choice, from 0; else -1, shape (S,).
        window: The window that decided.
        separation_strides: How far apart in time candidates of each sample part were kept.
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
        """What is labelled, as frames."""
        return [one.frame for one in self.labelled_as]

    def write(self, root: h5py.File) -> None:
        """Write it into an empty part, with all that is needed to choose again by other rules."""
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


def select_frames(ledger: Ledger, iteration: int, *, describe: Describe) -> Selection:
    """Decide every sampled frame's fate, and choose what is labelled.

    Args:
        ledger: The campaign; the iteration has been sampled.
        iteration: The iteration.
        describe: The model's descriptors; called only if there are more candidates than labels.
    """
    config = ledger.config.selection
    sampled = read_sampled(_sample_paths(ledger, iteration))
    columns = sampled.columns
    deviation, net_force = columns[f"deviation_{config.deviation}"], columns["net_force_deviation"]
    window = window_of(config, _recent_deviations(ledger, iteration))
    fates = window_fates(deviation, net_force, sound=columns["sound"], window=window)
    candidates = open_candidates(fates)
    cutting = Cutting.of(ledger)
    for_label = cutting.apply(
        sampled.frames(candidates),
        candidates,
        iteration=iteration,
        worst_atom=columns["worst_atom"][candidates],
        worst_molecule=columns["worst_molecule"][candidates],
        by_net_force=window.by_net_force(deviation, net_force)[candidates],
    )
    labelled_as = dict(zip(candidates.tolist(), for_label, strict=True))

    def still_open() -> list[Frame]:
        return [labelled_as[index].frame for index in open_candidates(fates).tolist()]

    fates[candidates] = gate_fates(still_open(), cutting.bonds, config=ledger.config)
    _refuse(fates, duplicates(still_open(), _known_frames(ledger, iteration)), Fate.DUPLICATE)
    worth = window.excess(deviation, net_force)
    separations = separation_strides(sampled, deviation, config)
    _refuse(fates, ~_kept_in_time(sampled, open_candidates(fates), worth, separations, ledger), Fate.CORRELATED)

    available = open_candidates(fates)
    if config.diversity == "random":
        order = derived_rng(ledger.config.seed, "select", iteration).permutation(available)
    elif len(available) <= config.max_labels:
        order = available[np.argsort(-worth[available], kind="stable")]
    else:
        before = [item.frame for item in ledger.dataset(before=iteration)]
        focus = np.array([labelled_as[index].focus for index in available.tolist()])
        order = available[most_novel(still_open(), focus, before, describe=describe)]
    rank = np.full(len(fates), -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    chosen = choose(fates, order, config.max_labels)
    return Selection(
        sampled=sampled,
        fates=fates,
        chosen=chosen,
        labelled_as=[labelled_as[index] for index in chosen.tolist()],
        rank=rank,
        window=window,
        separation_strides=separations,
    )


def _refuse(fates: FateArray, where: BoolArray, fate: Fate) -> None:
    """Give some of the open candidates a fate; `where` has one entry for each of them."""
    fates[open_candidates(fates)[where]] = fate


def gate_fates(frames: Sequence[Frame], bonds: Bonds, *, config: CampaignConfig) -> FateArray:
    """What the sanity gate says of candidates: too close, fragmented, refused, or `OVER_CAP` if nothing.

    Args:
        frames: F candidates, as they would be labelled.
        bonds: Bonds of what is labelled.
        config: The campaign's.

    Returns:
        Fates, shape (F,).
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
    """How many strides apart candidates of one trajectory are kept, for every sample part.

    The statistical inefficiency of the deviation within a trajectory, so that what is kept is about independent.
    """
    if config.min_separation_strides is not None:
        return (config.min_separation_strides,) * len(sampled.paths)
    return tuple(
        round(statistical_inefficiency([deviation[rows] for rows in trajectories], own_means=True))
        for trajectories in sampled.trajectories()
    )


def _kept_in_time(
    sampled: SampledFrames, available: IntArray, worth: FloatArray, separations: Sequence[int], ledger: Ledger
) -> BoolArray:
    """Which of the available candidates are kept, the farthest into the window first."""
    part, step = sampled.source[available, 0], sampled.columns["step"][available]
    kept = np.zeros(len(available), dtype=bool)
    for index, strides in enumerate(separations):
        here = np.flatnonzero(part == index)
        kept[here] = thinned(
            sampled.columns["replica"][available[here]],
            step[here],
            worth[available[here]],
            separation=strides * ledger.config.sampling.stride_steps,
        )
    return kept


def most_novel(
    frames: Sequence[Frame], worst_atom: IntArray, known: Sequence[Frame], *, describe: Describe
) -> IntArray:
    """Candidates in the order of how little the data set and the ones before them have of the kind.

    A frame is a candidate for one atom's sake, the one about whose force the members disagree most. So frames are
    compared by that atom's environment: with every environment of the same element in the data set, and in the frames
    picked before.

    Args:
        frames: F candidates.
        worst_atom: That atom of each, shape (F,).
        known: The data set.
        describe: The model's descriptors.

    Returns:
        Indices of the candidates in order, shape (F,).
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


# -- what is read --------------------------------------------------------------------------------------------------


def _sample_paths(ledger: Ledger, iteration: int) -> list[Path]:
    return [ledger.part_path(names.sample(iteration, kelvin)) for kelvin in ledger.config.sampling.temperatures_kelvin]


def _recent_deviations(ledger: Ledger, iteration: int) -> FloatArray:
    """Deviations of all sound frames that an adaptive window looks back on, eV/Å; none for a fixed one."""
    config = ledger.config.selection
    values = [np.empty(0)]
    if config.adaptive.enabled:
        for k in range(max(0, iteration + 1 - config.adaptive.iterations), iteration + 1):
            for path in _sample_paths(ledger, k):
                with open_part(path) as root:
                    values.append(root[f"deviation_{config.deviation}"][()][root["sound"][()]])
    return np.concatenate(values)


def _known_frames(ledger: Ledger, iteration: int) -> list[Frame]:
    """All frames that were ever chosen to be labelled: initial, test and of earlier iterations, failures among them."""
    with open_part(ledger.part_path(names.INITIAL_FRAMES)) as root:
        known = read_frames(root["train"]) + read_frames(root["test"])
    for k in range(iteration):
        with open_part(ledger.part_path(names.selection(k))) as root:
            known += read_frames(root["selected"])
    return known
