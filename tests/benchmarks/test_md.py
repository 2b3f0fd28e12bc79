"""Atom-steps per second from the times of different tasks."""

from pathlib import Path

import pytest

from harness import Entry, Timing
from md import rows, steps_of
from memory import kib_per_frame
from result_tables import md_table, memory_table

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


ABOUT = {
    "command": "python benchmarks/md.py --json",
    "date": "2026-11-21",
    "machine": "a machine",
    "load_average_before": 0.1,
    "conditions": {"device": "cpu", "threads": 1, "malloc": "tuned", "clock": "cpu_ms", "rounds": 3},
    "contestants": {"ours": {"versions": {"torch": "2.13.0"}}},
    "missing": {},
}


def test_the_table_has_rates_and_how_many_times_as_fast():
    row = {"atom_steps_per_s": 344.4, "ours_times_as_fast": 18.17}
    row |= {"ours_times_as_fast_low": 17.0, "ours_times_as_fast_high": 19.55}
    system = {"atoms": 120, "replicas": 2, "contestants": {"mace_r5_stride": row}}
    text = md_table({"md": {"temperatures_kelvin": [300.0, 900.0], "systems": {"cluster_120": system}}, "about": ABOUT})
    assert "cluster_120: 2 replicas of 120 atoms at each of 300, 900 K:" in text
    assert "| mace_r5_stride | 344 | 18.2 (17-19.6) |" in text


def test_memory_of_further_frames_is_counted_from_the_shortest_run():
    found = [
        {"kept": True, "steps": 1000, "frames": 100, "peak_mib": 2.0},
        {"kept": True, "steps": 10_000, "frames": 1100, "peak_mib": 4.0},
        {"kept": False, "steps": 1000, "frames": 100, "peak_mib": 2.5},
    ]
    kib_per_frame(found)
    assert [entry["kib_per_frame"] for entry in found] == [None, pytest.approx(2.048), None]
    text = memory_table({"memory": {"rows": found}, "about": ABOUT})
    assert "| kept | 10,000 | 1,100 | 4 | 2.05 |" in text
    assert "| handed on | 1,000 | 100 | 2.5 | - |" in text
