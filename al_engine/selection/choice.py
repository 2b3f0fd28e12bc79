"""Which candidates are labelled: the sanity gate, the thinning in time, and the order of the candidates.

The functions take arrays and frames, and return fates, masks and orders; the stage `selection` reads the parts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from al_engine.config import SelectionConfig
from al_engine.seeds import derived_rng
from al_engine.selection.cutting import LabelStructure
from al_engine.selection.diversity import farthest_points, standardised
from al_engine.selection.fates import Fate, FateArray, open_candidates
from al_engine.selection.thinning import thinned
from al_engine.statistics import statistical_inefficiency
from al_engine.structures.bonds import Bonds, is_fragmented
from al_engine.structures.frames import BoolArray, FloatArray, Frame, IntArray
from al_engine.structures.sanity import screen_contacts, screen_system

Describe = Callable[[Sequence[Frame]], Iterable[FloatArray]]
"""Computes the descriptors of every atom, one array of shape (N, D) per frame."""


def refuse(fates: FateArray, where: BoolArray, fate: Fate) -> None:
    """Give a fate to open candidates, in place.

    Args:
        fates: Fates of the S sampled frames, shape (S,).
        where: Whether each open candidate gets the fate, shape (number of open candidates,).
        fate: The fate.
    """
    fates[open_candidates(fates)[where]] = fate


def gate_fates(frames: Sequence[Frame], bonds: Sequence[Bonds], config: SelectionConfig, *, gfn2: bool) -> FateArray:
    """The fates that the sanity checks give to candidates.

    Args:
        frames: F candidates, as they would be labelled.
        bonds: Bonds of each candidate.
        config: Settings of the selection.
        gfn2: Whether GFN2-xTB labels the candidates, which has its own limits on elements and electrons.

    Returns:
        `TOO_CLOSE`, `FRAGMENTED`, `REFUSED`, or `OVER_CAP` for a sound candidate, which stays open, shape (F,).
    """
    fates = np.full(len(frames), Fate.OVER_CAP, dtype=np.int8)
    for index, (frame, own) in enumerate(zip(frames, bonds, strict=True)):
        if is_fragmented(frame, own, config.max_bond_factor):
            fates[index] = Fate.FRAGMENTED
        if screen_system(frame, gfn2=gfn2):
            fates[index] = Fate.REFUSED
        elif screen_contacts(
            frame, min_distance_ang=config.min_distance_ang, min_contact_factor=config.min_contact_factor
        ):
            fates[index] = Fate.TOO_CLOSE
    return fates


def separation_strides(
    deviation: FloatArray, trajectories: Sequence[Sequence[IntArray]], config: SelectionConfig
) -> tuple[int, ...]:
    """Smallest distance between kept candidates of one trajectory, in strides, for every sample part.

    By default it is the statistical inefficiency of the deviation within trajectories, so that kept candidates are
    nearly independent.

    Args:
        deviation: Force deviation of the S sampled frames, shape (S,).
        trajectories: For each sample part, the indices of the frames of every trajectory, in order of time.
        config: Settings of the selection.
    """
    if config.min_separation_strides is not None:
        return (config.min_separation_strides,) * len(trajectories)
    return tuple(
        round(statistical_inefficiency([deviation[frames] for frames in part], own_means=True)) for part in trajectories
    )


def kept_in_time(
    part: IntArray, trajectory: IntArray, step: IntArray, worth: FloatArray, separation_steps: Sequence[int]
) -> BoolArray:
    """Which candidates are kept so that no two of one trajectory are too close in time; the worthiest are kept first.

    Args:
        part: Index of the sample part of each candidate, shape (F,).
        trajectory: Index of the trajectory of each candidate within its part, shape (F,).
        step: MD step of each candidate, shape (F,).
        worth: Worth of each candidate, shape (F,).
        separation_steps: Smallest distance in time for each sample part, MD steps.

    Returns:
        Whether each candidate is kept, shape (F,).
    """
    kept = np.zeros(len(part), dtype=bool)
    for index, separation in enumerate(separation_steps):
        here = np.flatnonzero(part == index)
        kept[here] = thinned(trajectory[here], step[here], worth[here], separation=separation)
    return kept


def label_order(
    available: IntArray,
    worth: FloatArray,
    structures: Mapping[int, LabelStructure],
    known: Callable[[], Sequence[Frame]],
    config: SelectionConfig,
    *,
    describe: Describe,
    seed: int,
    iteration: int,
) -> IntArray:
    """The order in which open candidates would be labelled.

    Args:
        available: Indices of the C open candidates among the sampled frames, ascending, shape (C,).
        worth: Worth of the S sampled frames, shape (S,).
        structures: The structure to label for each candidate, by the candidate's index among the sampled frames.
        known: Reads the data set.
        config: Settings of the selection.
        describe: Computes the model's descriptors; called only if there are more candidates than allowed labels.
        seed: The campaign's seed.
        iteration: The iteration.

    Returns:
        `available` in another order: at random with `diversity: random`; by worth if all candidates can be labelled;
        otherwise by novelty, see `most_novel`.
    """
    if config.diversity == "random":
        return derived_rng(seed, "select", iteration).permutation(available)
    if len(available) <= config.max_labels:
        return available[np.argsort(-worth[available], kind="stable")]
    candidates = [structures[index] for index in available.tolist()]
    focus = np.array([candidate.focus for candidate in candidates])
    return available[most_novel([candidate.frame for candidate in candidates], focus, known(), describe=describe)]


def shared_among(order: IntArray, system: NDArray[np.str_], labels: int) -> IntArray:
    """Change the order of candidates so that no system of several is left without labels.

    Half of the labels are divided equally among the systems; the other half go to the candidates that are next in the
    order, whatever their system, so that a system with more or with newer candidates gets more.

    Args:
        order: Indices of the C candidates in the order in which they would be labelled, shape (C,).
        system: Name of the system of each candidate in this order, shape (C,).
        labels: Largest number of labels.
    """
    names = np.unique(system)
    reserved = np.zeros(len(order), dtype=bool)
    for name in names:
        reserved[np.flatnonzero(system == name)[: labels // (2 * len(names))]] = True
    return np.concatenate([order[reserved], order[~reserved]])


def most_novel(
    frames: Sequence[Frame], worst_atom: IntArray, known: Sequence[Frame], *, describe: Describe
) -> IntArray:
    """Order candidates by novelty: each candidate is the farthest from the data set and from the candidates before it.

    A candidate is represented by the environment of its worst atom, on whose force the members disagree most. The
    distance of a candidate is the distance to the nearest environment of the same element, among the environments of
    the data set and of the candidates picked before.

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
    alike = [np.isin(frame.numbers, elements) for frame in known]
    reference = np.concatenate([rows[atoms] for rows, atoms in zip(describe(known), alike, strict=True)])
    kinds = {
        "kinds": elements,
        "reference_kinds": np.concatenate([frame.numbers[atoms] for frame, atoms in zip(known, alike, strict=True)]),
    }
    return farthest_points(*standardised(points, reference, **kinds), len(frames), **kinds)
