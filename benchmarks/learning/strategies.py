"""Strategies that select the next frames to label from a pool."""

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
    "random": "drawn at random from the whole pool",
    "window": "drawn at random from the frames whose deviation is in the window",
    "farthest": "farthest points of the whole pool, by the mean features of a frame's atoms of each element",
    "window + farthest": "farthest points of the frames in the window, by the features of the worst atom: the default",
}


@dataclass(frozen=True, slots=True, eq=False)
class Unlabelled:
    """The unlabelled frames of a pool.

    Attributes:
        frames: The F frames.
        deviation: Force deviation (norm) in eV/Å, shape (F,); None for a strategy that does not use it.
        worst_atom: Atom with the largest deviation, shape (F,); None for a strategy that does not use it.
    """

    frames: Sequence[Frame]
    deviation: FloatArray | None = None
    worst_atom: IntArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The selection of a strategy.

    Attributes:
        chosen: Indices of the frames to label, ascending.
        in_window: Number of frames in the window; None for a strategy without a window.
    """

    chosen: IntArray
    in_window: int | None = None


def asks_committee(strategy: Strategy) -> bool:
    """Whether the strategy needs force deviations."""
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
        strategy: The strategy.
        available: The unlabelled frames.
        known: Frames that are labelled already.
        count: Number of frames to select.
        window: Window of the strategies that need force deviations.
        describe: Returns the model's features of every atom.
        rng: Generator of the strategies that draw at random.

    Raises:
        ValueError: If the strategy needs force deviations and `available` lacks them.
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
    """The frames in a window, which is widened if it has fewer than `count` frames.

    First the lower end falls until there are enough frames; if that does not suffice, the upper end rises.

    Args:
        deviation: Force deviation in eV/Å, shape (F,).
        window: The window.
        count: Least number of frames; with fewer frames in total, all are returned.

    Returns:
        Indices of the frames, ascending, and the number of frames in the window before it was widened.
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
    """A point for each of F frames of equal composition, shape (F, E * D): the mean features of each of E elements."""
    elements = np.unique(frames[0].numbers)
    return np.array(
        [
            np.concatenate([rows[frame.numbers == element].mean(axis=0) for element in elements])
            for frame, rows in zip(frames, describe(frames), strict=True)
        ]
    )
