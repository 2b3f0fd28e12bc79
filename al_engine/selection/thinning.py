"""Thinning in time: of frames of one trajectory that are close in time, one is kept."""

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, IntArray


def thinned(trajectory: IntArray, time: IntArray, worth: FloatArray, *, separation: float) -> BoolArray:
    """Which frames to keep so that no two of a trajectory are closer in time than a separation.

    Greedy: the frame worth most is kept first (of equal ones the earliest), what is too close to it goes, and so on.
    Every frame that goes is within the separation of one that is kept and worth no less.

    Args:
        trajectory: Which trajectory each frame is of, shape (F,).
        time: Time of each frame in any unit, shape (F,).
        worth: What decides between frames, shape (F,).
        separation: Smallest distance in time of two frames that are kept, in the same unit.

    Returns:
        Whether each frame is kept, shape (F,).
    """
    order = np.lexsort((time, trajectory))
    kept = np.zeros(len(order), dtype=bool)
    for members in np.split(order, np.flatnonzero(np.diff(trajectory[order])) + 1):
        times = time[members]
        first = np.searchsorted(times, times - separation, side="right")  # the first that is too close to each
        last = np.searchsorted(times, times + separation, side="left")
        taken = np.zeros(len(members), dtype=bool)
        for place in np.lexsort((times, -worth[members])):
            if not taken[place]:
                kept[members[place]] = True
                taken[first[place] : last[place]] = True
    return kept
