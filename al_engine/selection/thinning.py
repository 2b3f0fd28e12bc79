"""Thinning in time: of the frames of a trajectory that are close in time, only the frame of highest worth is kept."""

import numpy as np

from al_engine.structures.frames import BoolArray, FloatArray, IntArray


def thinned(trajectory: IntArray, time: IntArray, worth: FloatArray, *, separation: float) -> BoolArray:
    """Choose frames so that no two kept frames of a trajectory are closer in time than a separation.

    The algorithm is greedy. It keeps the frame of highest worth (the earliest of several frames of this worth), drops
    all frames that are too close to it, and repeats this with the frames that are left. So every dropped frame is close
    to a kept frame of at least the same worth.

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
    by_trajectory = np.split(order, np.flatnonzero(np.diff(trajectory[order])) + 1)
    for frames in by_trajectory:  # in order of time
        times = time[frames]
        # The frames from `first` up to, but without, `end` are too close to a frame; they include the frame itself.
        first = np.searchsorted(times, times - separation, side="right")
        end = np.searchsorted(times, times + separation, side="left")
        done = np.zeros(len(frames), dtype=bool)  # kept or dropped
        for index in np.lexsort((times, -worth[frames])):  # highest worth first, then earliest
            if not done[index]:
                kept[frames[index]] = True
                done[first[index] : end[index]] = True
    return kept
