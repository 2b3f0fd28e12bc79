"""Comparison of campaigns: their differences, costs, and the page."""

import pytest

from al_engine.config.reader import differences
from pages import spread
from trials.report import markdown
from trials.runs import Costs, Trial
from trials.variants import BASE, QUICK, SECTIONS, STRETCHING, VARIANTS, Plan, config

CHANGED = {
    "from scratch": {"training.warm_start"},
    "warm start, as many updates in each iteration": {"training.updates_growth"},
    "from scratch, as many updates in each iteration": {"training.updates_growth", "training.warm_start"},
    "the mean drives": {"sampling.driver"},
    SECTIONS[STRETCHING][1]: {"initial.stretch.share"},
}


def test_variants_differ_from_the_base_in_what_they_are_named_for():
    base = config(Plan(), VARIANTS[BASE], seed=3)
    found = {
        name: set(differences(base, config(Plan(), changes, seed=3)))
        for name, changes in VARIANTS.items()
        if name != BASE
    }
    assert found == CHANGED


def test_every_trial_has_a_directory_and_a_key_of_its_own(tmp_path):
    trials = [Trial(name, seed, plan, tmp_path) for name in VARIANTS for seed in (0, 1) for plan in (Plan(), QUICK)]
    assert len({trial.directory for trial in trials}) == len(trials) / 2  # plans do not share a folder
    assert len({trial.key("digest") for trial in trials}) == len(trials)
    assert trials[0].key("digest") != trials[0].key("other test set")


def test_costs_of_an_interrupted_campaign_add_up(tmp_path):
    def work():
        sum(range(200_000))

    Costs(tmp_path / "costs.json").count("0/train", work)
    before = Costs(tmp_path / "costs.json").seconds["0/train"]
    again = Costs(tmp_path / "costs.json")
    again.count("0/train", work)
    assert Costs(tmp_path / "costs.json").seconds == again.seconds
    assert again.seconds["0/train"] > before > 0


def run(*, test_mae, acceptance):
    errors = {"force_mev_per_ang": test_mae, "force_p95_mev_per_ang": 3 * test_mae, "energy_mev_per_atom": 0.5}
    iteration = {
        "acceptance": acceptance,
        "rejected_share": 0.01,
        "stopped_share": 0.0,
        "dataset_size": 300,
        "error_before_training_mev_per_ang": None,
        "test": {
            "errors": {"all": errors},
            "deviation_mev_per_ang": 90.0,
            "error_over_deviation": 1.4,
            "rank_correlation": 0.7,
        },
    }
    ranges = [
        {"from": 0.85, "to": 1.15, "force_mae_mev_per_ang": 55.0, "energy_mae_mev_per_atom": 4.0},
        {"from": 1.5, "to": 2.0, "force_mae_mev_per_ang": None, "energy_mae_mev_per_atom": None},
    ]
    stability = {
        "steps": 100,
        "kelvin": 800.0,
        "replicas": 8,
        "picoseconds": 0.05,
        "survived": 6,
        "collapsed": 1,
        "stopped_otherwise": {"too_hot": 1},
    }
    return {
        "costs": {"0/train": 20.0, "0/sample": 3.25},
        "iterations": [iteration],
        "evaluations": {"0": {"bond-length": {"ranges": ranges}, "stability": stability}},
    }


def result(variants):
    return {
        "about": {"command": "python x.py", "date": "2026-01-01", "machine": "a CPU", "versions": {"torch": "2.0"}},
        "plan": Plan(iterations=1).as_dict(),
        "kelvins": [300.0, 900.0],
        "test_frames": 200,
        "scan_frames": 2,
        "seeds": [0, 1],
        "config": config(Plan(), {}, seed=0).model_dump(mode="json"),
        "variants": variants,
    }


def test_the_page_has_mean_and_spread_over_seeds_and_what_lasted():
    stretched = SECTIONS[STRETCHING][1]
    runs = [run(test_mae=20.0, acceptance=0.05), run(test_mae=24.0, acceptance=0.07)]
    page = markdown(result({BASE: runs, stretched: runs}), reading="")
    assert f"| {BASE} | 22.0 ± 2.0 |" in page
    assert f"| {BASE} | 6.00 ± 1.00 |" in page
    assert f"| {stretched}, iteration 0 | 55 ± 0 |  | 4.0 ± 0.0 |  | 6/8 (1), 6/8 (1) |" in page
    assert "## Who drives" not in page  # it lacks one of the two


@pytest.mark.parametrize(
    ("values", "text"), [([1.0, 2.0], "1.5 ± 0.5"), ([None, 2.0], "2.0"), ([None], ""), ([1.0, 2.0, 6.0], "3.0 ± 2.5")]
)
def test_spread_is_mean_and_half_the_range_of_what_is_known(values, text):
    assert spread(values, 1) == text
