import json

import pytest

from result_tables import HERE, filled, number, table

SCALING = {
    "scaling": {
        "ours": [{"atoms": 520, "ms": 88.123, "us_per_atom": 169.5, "peak_mib": 52.0, "peak_kib_per_atom": 102.4}]
    },
    "about": {
        "command": "python benchmarks/scaling.py --json",
        "date": "2026-11-21",
        "machine": "a machine",
        "load_average_before": 0.1,
        "conditions": {"device": "cpu", "threads": 1, "malloc": "tuned", "clock": "cpu_ms", "rounds": 7},
        "contestants": {"ours": {"versions": {"torch": "2.13.0"}}},
        "missing": {"mace_r10": "out of memory"},
    },
}


def test_the_pages_tables_are_those_of_the_result_files():
    page = (HERE / "README.md").read_text(encoding="utf-8")
    assert filled(page, HERE / "results") == page


def test_a_table_is_replaced_between_its_marks_and_nothing_else(tmp_path):
    (tmp_path / "scaling.json").write_text(json.dumps(SCALING))
    page = "before\n<!-- scaling -->\nold\n<!-- end -->\nafter\n<!-- forces -->\n<!-- end -->\n"
    new = filled(page, tmp_path)
    assert new.startswith("before\n<!-- scaling -->\n")
    assert new.endswith("<!-- end -->\nafter\n<!-- forces -->\n<!-- end -->\n")
    assert "| ours | 520 | 88.1 | 170 | 52 | 102 |" in new
    assert "Missing: mace_r10 (out of memory)." in new
    assert "old" not in new
    assert filled(new, tmp_path) == new


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0123456, "0.0123"), (15.678, "15.7"), (99.96, "100"), (12345.6, "12,346")]
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_figures_are_aligned_to_the_right():
    assert table(["", "ms"], [["ours", "1"]]).splitlines() == ["|  | ms |", "| --- | ---: |", "| ours | 1 |"]
