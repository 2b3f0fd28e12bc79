"""Different candidates among the frames of running MD."""

import numpy as np

from al_engine.selection.search import SEPARATION_STRIDES, DifferentCandidates
from al_engine.selection.window import Window

WINDOW = Window(100.0, 300.0)


def found(deviation, *, trajectory=0, sound=True, window=WINDOW, net_force=0.0, separation=None):
    """Number of different candidates in a trajectory of these deviations (meV/Å), a frame every 10 steps."""
    search = DifferentCandidates(window, deviation="norm", separation_strides=separation, stride_steps=10)
    for stride, value in enumerate(deviation, start=1):
        search.add(
            {
                "replica": np.array([trajectory, 7]),
                "step": np.array([10 * stride, 10 * stride]),
                "deviation_norm": np.array([value, 50.0]) / 1000.0,
                "net_force_deviation": np.array([net_force, 0.0]) / 1000.0,
                "sound": np.array([sound, True]),
            }
        )
    return search.number


def test_accurate_rejected_and_unsound_frames_are_no_candidates():
    assert found([50.0, 301.0, 150.0]) == 1
    assert found([150.0], sound=False) == 0
    assert found([float("nan")]) == 0


def test_candidates_close_in_time_count_once():
    assert found([150.0] * SEPARATION_STRIDES) == 1
    assert found([150.0] * (3 * SEPARATION_STRIDES)) == 3
    assert found([150.0] * 20, separation=20) == 1
    assert found([150.0, *[50.0] * (SEPARATION_STRIDES - 1), 150.0]) == 2


def test_trajectories_are_counted_each_by_itself():
    search = DifferentCandidates(WINDOW, deviation="norm", separation_strides=None, stride_steps=10)
    search.add(
        {
            "replica": np.array([0, 1, 2]),
            "step": np.array([10, 10, 10]),
            "deviation_norm": np.array([0.15, 0.15, 0.05]),
            "net_force_deviation": np.zeros(3),
            "sound": np.ones(3, dtype=bool),
        }
    )
    assert search.number == 2


def test_a_window_on_net_forces_finds_candidates_too():
    both = Window(100.0, 300.0, 20.0, 60.0)
    assert found([50.0], window=both, net_force=30.0) == 1
    assert found([50.0], window=both, net_force=10.0) == 0
