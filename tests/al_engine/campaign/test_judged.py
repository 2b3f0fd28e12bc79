"""Trajectories of successive iterations: joined where they go on, and nowhere else."""

import numpy as np
import pytest

from al_engine.campaign import names
from al_engine.campaign.judged import CONTINUES, judged_temperatures
from al_engine.files.part_file import write_part
from al_engine.selection.fates import Fate
from al_engine.selection.window import Window

STRIDES = 30


@pytest.fixture
def ledger(open_ledger):
    return open_ledger(sampling={"temperatures_kelvin": [300.0, 900.0], "stride_steps": 20, "timestep_fs": 0.5})


def sample(ledger, iteration, *, slots, completed, continues=None, candidates=()):
    """The parts of an iteration; `candidates` are (temperature index, trajectory, stride)."""
    fates = np.full((2, len(slots), STRIDES), Fate.ACCURATE, dtype=np.int8)
    for candidate in candidates:
        fates[candidate] = Fate.LABELLED
    rng = np.random.default_rng(iteration)
    for kelvin in (300.0, 900.0):
        with write_part(ledger.part_path(names.sample(iteration, kelvin)), kind="", key="") as root:
            root["deviation_norm"] = rng.uniform(0.02, 0.03, size=STRIDES * len(slots))
            root["replica"] = np.tile(np.arange(len(slots)), STRIDES)  # interleaved, as a batch writes them
            root["slot"] = np.array(slots)
            root["stop_reason"] = np.array(["completed" if ran else "deviation" for ran in completed], dtype="S")
            if continues is not None:
                root[CONTINUES] = np.array(continues)
    with write_part(ledger.part_path(names.selection(iteration)), kind="", key="") as root:
        root.attrs.update(Window(100.0, 300.0).to_attributes())
    with write_part(ledger.part_path(names.append(iteration)), kind="", key="") as root:
        root["fate"] = np.concatenate([fates[k].T.ravel() for k in range(2)])


def seen(ledger, *iterations):
    return [record.seen for record in judged_temperatures(ledger.reader(), ledger.config, iterations)]


def test_trajectories_that_go_on_are_one(ledger):
    sample(ledger, 0, slots=[0, 1, 2], completed=[True] * 3, candidates=[(1, 2, 5)])
    sample(ledger, 1, slots=[0, 1, 2], completed=[True] * 3, continues=[True] * 3, candidates=[(1, 2, 7), (1, 0, 0)])
    cold, hot = seen(ledger, 0, 1)
    assert (cold.trajectories, cold.with_candidate) == (3, 0)
    assert (hot.trajectories, hot.with_candidate) == (3, 2)
    assert hot.picoseconds == pytest.approx(2 * STRIDES * 0.01)
    assert [record.counts.candidate for record in judged_temperatures(ledger.reader(), ledger.config, [0, 1])] == [0, 3]


def test_a_fresh_start_and_a_stop_begin_a_new_trajectory(ledger):
    """Slot 0 goes on; slot 1 starts afresh; slot 2 was stopped, so that nothing goes on there whatever is stored."""
    sample(ledger, 0, slots=[0, 1, 2], completed=[True, True, False])
    sample(ledger, 1, slots=[0, 1, 2], completed=[True] * 3, continues=[True, False, True])
    assert [evidence.trajectories for evidence in seen(ledger, 0, 1)] == [5, 5]


def test_a_replacement_is_a_trajectory_and_may_go_on(ledger):
    """The last trajectory of a slot goes on, and only the first of the next iteration continues it."""
    sample(ledger, 0, slots=[0, 1, 1], completed=[True, False, True])
    sample(ledger, 1, slots=[0, 1, 0], completed=[False, True, True], continues=[True, True, False])
    assert [evidence.trajectories for evidence in seen(ledger, 0, 1)] == [4, 4]


@pytest.mark.parametrize(("start", "trajectories"), [("continue", 3), ("labelled", 6)])
def test_parts_of_earlier_versions_go_on_if_the_config_says_so(open_ledger, start, trajectories):
    ledger = open_ledger(sampling={"temperatures_kelvin": [300.0, 900.0], "start": start})
    for iteration in range(2):
        sample(ledger, iteration, slots=[0, 1, 2], completed=[True] * 3)
    assert [evidence.trajectories for evidence in seen(ledger, 0, 1)] == [trajectories] * 2
