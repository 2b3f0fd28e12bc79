"""The simulation of an iteration on a node: known schedules."""

import pytest

from overlap import Iteration, Node, simulated

NODE = Node(gpus=1, cores=2, gpu_speed=2.0, label_s=3.0)


def iteration(**changes):
    values = {
        "trainings": (4.0, 4.0),
        "samplings": ((8.0, 4), (4.0, 2)),
        "candidates": 6,
        "max_labels": 6,
        "other": 1.0,
    }
    return Iteration(**(values | changes))


def test_labels_begin_when_their_temperature_is_sampled():
    """Trained after 4 s; sampled after 8 s (four labels) and 10 s (two labels), selected after 11 s."""
    strict = simulated([iteration()], NODE, overlap=False)
    assert strict.seconds == 11.0 + 3 * 3.0
    assert strict.idle(NODE) == (1 - 10.0 / 20.0, 1 - 18.0 / 40.0)
    assert simulated([iteration()], NODE, overlap=True).seconds == 8.0 + 3 * 3.0


def test_nothing_is_labelled_ahead_if_the_choice_is_open():
    many = iteration(candidates=7)
    assert simulated([many], NODE, overlap=True) == simulated([many], NODE, overlap=False)


def test_a_second_gpu_takes_half_of_the_trainings_and_the_other_temperature():
    node = Node(gpus=2, cores=2, gpu_speed=2.0, label_s=0.0)
    assert simulated([iteration()], node, overlap=False).seconds == pytest.approx(2.0 + 4.0 + 1.0)
