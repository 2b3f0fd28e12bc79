"""The benchmark of the ASE calculator measures a checkout, and has a row for each case."""

import calculator


def test_a_checkout_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(calculator, "CALLS", {"ethanol": 2})
    atoms = calculator.prepare(tmp_path)
    assert atoms == {"ethanol": 9}
    assert 0.1 < calculator.measure(tmp_path, calculator.HERE.parent, "ethanol", threads=1, beside=False) < 5000


def test_versions_stand_side_by_side():
    cases = [(label, beside) for label in ("before", "now") for beside in (False, True)]
    rows = [
        {"label": label, "atoms": 9, "threads": 1, "beside": beside, "ms": 1.0 + beside, "turns": []}
        for label, beside in cases
    ]
    about = {"command": "c", "date": "d", "machine": "m", "versions": {}}
    page = calculator.markdown({"about": about, "rounds": 1, "rows": rows}, reading="")
    assert "| 9 | 1 | busy program | 2.0 | 2.0 |" in page
