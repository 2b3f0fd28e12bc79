"""The accuracy page: it has the numbers of the result file and keeps text written by hand."""

from ablation.metrics import summary
from ablation.report import SHORT, markdown, result_name
from pages import READING, reading_of

ERRORS = {"energy_mev_per_atom": 0.4, "force_mev_per_ang": 25.0, "net_force_mev_per_ang": 30.0, "torque_mev": 80.0}


def result(**changes):
    runs = [
        {"seed": seed, "facts": {"updates": 2000, "seconds": 180.0, "weights": 19000}, "errors": {"test": errors}}
        for seed, errors in enumerate([ERRORS, {**ERRORS, "force_mev_per_ang": 27.0}])
    ]
    row = {
        "variant": "ms-mace",
        "evaluation_ms": 6.7,
        "runs": runs,
        "failed": [],
        "errors": {"test": summary([run["errors"]["test"] for run in runs])},
    }
    return {
        "about": {"command": "python x.py", "date": "2026-01-01", "machine": "a CPU", "versions": {"torch": "2.0"}},
        "system": {"name": "dmso", "title": "DMSO", "polarity": "polar"},
        "budget_s": 180.0,
        "updates": None,
        "device": "cpu",
        "seeds": [0, 1],
        "learning_rate": 0.01,
        "optimizer": "muon",
        "rates": {"share": 1 / 3, "validation_loss": [{"rate": 0.01, "ms-mace": 0.25, "mace, 10 Å": None}]},
        "timed_updates": 40,
        "data": {
            "sizes": dict.fromkeys(["train", "molecules", "test", "large", "large_molecules", "bulk", "curves"], 3),
            "test_kelvin": [300.0, 900.0],
            "description": "Made up.",
        },
        "magnitudes": {"test": ERRORS},
        "periodic": {},
        "variants": [row, {"variant": "untrained", "runs": [], "failed": [], "evaluation_ms": None, "errors": {}}],
        **changes,
    }


def test_a_row_has_mean_and_half_the_range_over_seeds():
    assert "| ms-mace | 0.40 ± 0.00 | 26.0 ± 1.0 | 30.0 ± 0.0 | 80 ± 0 |" in markdown([result()], reading="")


def test_sets_without_errors_have_no_table():
    page = markdown([result()], reading="")
    assert "### Test clusters" in page
    assert "### Two molecules" not in page


def test_what_was_not_trained_or_diverged_is_said_not_tabulated():
    page = markdown([result()], reading="")
    assert "| untrained |" not in page
    assert "Not trained yet: `untrained`." in page
    assert "`mace, 10 Å` diverged" in page


def test_what_is_written_by_hand_survives_a_new_table(tmp_path):
    first = tmp_path / "accuracy.md"
    first.write_text(markdown([result()], reading="## Reading\n\nThe long path pays.\n"))
    second = markdown([result(learning_rate=0.005)], reading=reading_of(first))
    assert second.endswith(f"{READING}\n## Reading\n\nThe long path pays.\n")
    assert "learning rate 0.005" in second


def test_the_summary_compares_two_scales_with_one_at_equal_training():
    both = result()
    row = both["variants"][0]
    half = {name: (2 * mean, spread) for name, (mean, spread) in row["errors"]["test"].items()}
    both["variants"].append({**row, "variant": SHORT, "errors": {"test": half}})
    page = markdown([both], reading="")
    assert "| DMSO (polar) | about 180 CPU seconds on one core | 0.50 () | 0.50 () | 0.50 () | 0.50 () |  |  |" in page


def test_results_have_names_by_liquid_and_training():
    assert result_name(result()) == "accuracy-dmso"
    assert result_name(result(budget_s=900.0)) == "accuracy-dmso-900s"
    assert result_name(result(budget_s=None, updates=3000)) == "accuracy-dmso-3000u"


def test_a_learning_rate_that_was_given_is_said_to_be():
    page = markdown([result(rates={"share": 1 / 3, "validation_loss": []})], reading="")
    assert "was given without a scan" in page
    assert "diverged" not in page
