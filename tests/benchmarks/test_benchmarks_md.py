"""From times of unlike tasks to atom-steps per second."""

from pathlib import Path

import pytest

from harness import Entry, Timing
from md import rows, steps_of

OURS = Entry("ours", "ours", Path("python"), {"steps": 40, "replicas": 2, "temperatures_kelvin": [300.0, 900.0]})
STRIDE = Entry("mace_r5_stride", "mace", Path("python"), {"stride": 20})
ALWAYS = Entry("mace_r5_always", "mace", Path("python"), {"stride": 20})


def test_steps_of_a_task_count_all_replicas():
    assert [steps_of(entry) for entry in (OURS, STRIDE, ALWAYS)] == [160, 20, 1]


def test_rates_and_ratios_are_by_atom_and_step():
    timings = {
        "ours": Timing({"cpu_ms": [160.0, 320.0, 160.0], "wall_ms": [320.0] * 3}),
        "mace_r5_always": Timing({"cpu_ms": [20.0, 20.0, 40.0], "wall_ms": [20.0] * 3}),
    }
    found = rows(timings, {entry.name: entry for entry in (OURS, ALWAYS)}, atoms=10, clock="cpu_ms")
    assert found["ours"]["atom_steps_per_s"] == pytest.approx(10 * 160 / 0.160)
    assert found["ours"]["wall_atom_steps_per_s"] == pytest.approx(10 * 160 / 0.320)
    assert found["ours"]["ours_times_as_fast"] == 1.0
    peer = found["mace_r5_always"]
    assert peer["atom_steps_per_s"] == pytest.approx(10 / 0.020)
    assert peer["ours_times_as_fast"] == pytest.approx(20)  # rounds: 20, 10, 40
    assert (peer["ours_times_as_fast_low"], peer["ours_times_as_fast_high"]) == pytest.approx((10, 40))
