"""The rule of the verdict as a whole, on simulated campaigns; `python benchmarks/verdict.py` makes the large table."""

import json
import math
import sys

import pytest

import verdict
from verdict import Case, run


@pytest.mark.parametrize(
    "case",
    [
        Case("quick", 0.0, 1.0, 1.5),
        Case("quick", 0.6, 100.0, 1.5),
        Case("quick", 0.8, 1000.0, 1.5),
        Case("standard", 0.6, 100.0, 1.5),
        Case("standard", 0.4, math.inf, 1.5),
        Case("quick", 0.6, 100.0, 1.5, one_temperature=True),
    ],
    ids=lambda case: f"{case.preset}-{case.slow_share:.0%}-{case.correlation_strides}-{case.one_temperature}",
)
def test_a_campaign_above_the_limit_is_not_called_converged(case):
    """With the rule that this one replaced, 12 to 21 of 80 such campaigns were."""
    assert run(case, 3).converged == 0


@pytest.mark.parametrize("case", [Case("quick", 0.4, 10.0, 0.5), Case("standard", 0.8, 10.0, 0.5)])
def test_a_campaign_below_the_limit_is_called_converged(case):
    row = run(case, 6)
    assert row.converged >= 5
    assert row.mean_iterations < 6


def test_the_table_as_json_and_as_a_page(monkeypatch, capsys):
    """The command, with the easiest case of the table."""
    (case, *others) = verdict.cases(["quick"], [0.1])
    assert len(others) == 14
    monkeypatch.setattr(verdict, "cases", lambda *_: [case])
    monkeypatch.setattr(sys, "argv", ["verdict.py", "--campaigns", "1", "--jobs", "1", "--json"])
    verdict.main()
    rows = json.loads(capsys.readouterr().out)
    assert (rows[0]["preset"], rows[0]["limit_factor"], rows[0]["converged"]) == ("quick", 0.1, 1)
    about = {"command": "python", "date": "today", "machine": "this", "versions": {}, "rows": rows}
    assert "| quick | 0% | - | 1 |" in verdict.markdown(about, reading="")
