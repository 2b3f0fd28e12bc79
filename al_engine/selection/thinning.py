"""Thinning in time: of frames of a trajectory that are close in time, only the frame of the highest worth is kept."""

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, IntArray


def thinned(trajectory: IntArray, time: IntArray, worth: FloatArray, *, separation: float) -> BoolArray:
    """Choose frames so that no two kept frames of a trajectory are closer in time than a separation.

    The algorithm is greedy. It keeps the frame of the highest worth (of equal frames the earliest), drops all frames
    too close to it, and repeats. So every dropped frame is close to a kept frame of at least the same worth.

    Args:
        trajectory: Index of each frame's trajectory, shape (F,).
        time: Time of each frame in any unit, shape (F,).
        worth: Worth of each frame; frames of higher worth are preferred, shape (F,).
        separation: Smallest distance in time between two kept frames, in the unit of `time`.

    Returns:
        Whether each frame is kept, shape (F,).
    """
    order = np.lexsort((time, trajectory))
    kept = np.zeros(len(order), dtype=bool)
    for members in np.split(order, np.flatnonzero(np.diff(trajectory[order])) + 1):
        times = time[members]
        # Bounds of the range of frames that are too close to each frame.
        first = np.searchsorted(times, times - separation, side="right")
        last = np.searchsorted(times, times + separation, side="left")
        taken = np.zeros(len(members), dtype=bool)
        for index in np.lexsort((times, -worth[members])):
            if not taken[index]:
                kept[members[index]] = True
                taken[first[index] : last[index]] = True
    return kept
