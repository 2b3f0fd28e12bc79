"""Ways to choose what is labelled next from a pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from al_engine.selection.choice import Describe, most_novel
from al_engine.selection.diversity import farthest_points, standardised
from al_engine.selection.window import Window
from al_engine.structures.frames import FloatArray, Frame, IntArray

Strategy = Literal["random", "window", "farthest", "window + farthest"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
MEANING: dict[Strategy, str] = {
    "random": "by lot from the whole pool",
    "window": "by lot from the frames whose deviation lies in the window",
    "farthest": "farthest points of the whole pool, by the mean features of a frame's atoms of each element",
    "window + farthest": "farthest points of those in the window, by the features of the worst atom: the default",
}


@dataclass(frozen=True, slots=True, eq=False)
class Unlabelled:
    """What of a pool can be chosen.

    Attributes:
        frames: The F frames.
        deviation: Force deviation (norm) in eV/Å, shape (F,); None for a choice that asks no committee.
        worst_atom: Atom with the largest deviation, shape (F,); None as well.
    """

    frames: Sequence[Frame]
    deviation: FloatArray | None = None
    worst_atom: IntArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What a strategy chose.

    Attributes:
        chosen: Indices of the frames to label, ascending.
        in_window: How many frames the window held; None where there is none.
    """

    chosen: IntArray
    in_window: int | None = None


def asks_committee(strategy: Strategy) -> bool:
    """Whether the strategy needs deviations."""
    return strategy.startswith("window")


def choose(
    strategy: Strategy,
    available: Unlabelled,
    known: Sequence[Frame],
    *,
    count: int,
    window: Window,
    describe: Describe,
    rng: np.random.Generator,
) -> Choice:
    """Choose frames to label.

    Args:
        strategy: How.
        available: What there is to choose from.
        known: Frames that are labelled already.
        count: How many.
        window: Of those that ask the committee.
        describe: The model's features of every atom.
        rng: For lots.
    """
    if strategy == "random":
        return Choice(np.sort(rng.choice(len(available.frames), size=count, replace=False)))
    if strategy == "farthest":
        points, reference = frame_points(available.frames, describe), frame_points(known, describe)
        kinds = {
            "kinds": np.zeros(len(points), dtype=np.int64),
            "reference_kinds": np.zeros(len(reference), dtype=np.int64),
        }
        return Choice(np.sort(farthest_points(*standardised(points, reference, **kinds), count)))
    if available.deviation is None or available.worst_atom is None:
        raise ValueError(f"`{strategy}` needs deviations")
    eligible, in_window = window_indices(available.deviation, window, count=count)
    if strategy == "window":
        return Choice(np.sort(rng.choice(eligible, size=count, replace=False)), in_window)
    frames = [available.frames[k] for k in eligible]
    order = most_novel(frames, available.worst_atom[eligible], known, describe=describe)
    return Choice(np.sort(eligible[order[:count]]), in_window)


def window_indices(deviation: FloatArray, window: Window, *, count: int) -> tuple[IntArray, int]:
    """The frames in a window, which is opened where it holds too few for equal numbers of labels.

    Its lower end falls as far as it takes; if there still are too few, its upper end rises as far as it takes.

    Args:
        deviation: Force deviation in eV/Å, shape (F,).
        window: The window.
        count: How many are needed at least; all F if that is fewer.

    Returns:
        Indices of the frames, ascending, and how many of them the window held as it was.
    """
    nothing = np.zeros_like(deviation)
    accurate, trusted = window.accurate(deviation, nothing), window.trusted(deviation, nothing)
    inside = np.flatnonzero(trusted & ~accurate)
    below, above = np.flatnonzero(accurate), np.flatnonzero(~trusted)
    below = below[np.argsort(-deviation[below], kind="stable")]
    above = above[np.argsort(deviation[above], kind="stable")]
    in_order = np.concatenate([inside, below, above])
    return np.sort(in_order[: max(count, len(inside))]), len(inside)


def frame_points(frames: Sequence[Frame], describe: Describe) -> FloatArray:
    """One point per frame of one composition: the mean of its atoms' features, element by element, shape (F, E * D)."""
    elements = np.unique(frames[0].numbers)
    return np.array(
        [
            np.concatenate([rows[frame.numbers == element].mean(axis=0) for element in elements])
            for frame, rows in zip(frames, describe(frames), strict=True)
        ]
    )
