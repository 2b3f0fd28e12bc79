"""Scores in an evaluation part: what is written is what was predicted, and what is said of it."""

from dataclasses import replace
from io import BytesIO, StringIO

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from al_engine.campaign.scores import GROUPS, Labelled, assess, box_scores, read_member_forces, read_scored
from al_engine.committee.calibration import ScoredFrames
from al_engine.committee.deviation import force_deviation
from al_engine.config import StatePoint
from al_engine.files.part_file import open_part, write_part
from al_engine.selection.fates import Counts
from al_engine.selection.window import Window
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.verdict.records import IterationRecord, TemperatureRecord
from flows.pages import plots
from flows.pages.status import remarks, status_table
from flows.stages.search.scoring import write_scores

WINDOW = Window(100.0, 300.0)
ELEMENTS = [6, 8, 1, 1, 1, 1]


class NoisyCommittee:
    """Members that are wrong by Gaussians of a size of their own for each frame."""

    def __init__(self, labelled, *, size, members=4, correlation=0.4, factors=None):
        rng = np.random.default_rng(1)
        self.n_members = members
        self._truth = {id(item.frame): item for item in labelled}
        self.errors = {}
        factors = np.ones(members) if factors is None else np.asarray(factors)
        for item, scale in zip(labelled, size, strict=True):
            own, common = rng.normal(size=(members, len(item), 3)), rng.normal(size=(len(item), 3))
            error = np.sqrt(1 - correlation) * own + np.sqrt(correlation) * common
            self.errors[id(item.frame)] = scale * factors[:, None, None] * error

    def predict(self, frames, *, batch_size):
        del batch_size
        energies = [self._truth[id(f)].energy + np.arange(self.n_members) for f in frames]
        forces = [self._truth[id(f)].forces + self.errors[id(f)] for f in frames]
        return np.array(energies).reshape(len(frames), self.n_members).T, forces


def labels(count, seed):
    rng = np.random.default_rng(seed)
    frames = [Frame(numbers=ELEMENTS, positions=rng.normal(size=(6, 3))) for _ in range(count)]
    return [LabelledFrame(frame, float(rng.normal()), rng.normal(size=(6, 3))) for frame in frames]


@pytest.fixture
def written(tmp_path):
    """An evaluation part; returns its path, the labels by group, and the committee."""

    def make(*, test=30, new=20, **options):
        rng = np.random.default_rng(0)
        groups = {"test": labels(test, 2), "new": labels(new, 3)}
        size = np.concatenate([0.02 * rng.lognormal(0, 0.6, test), 0.05 * rng.lognormal(0, 0.2, new)])
        committee = NoisyCommittee([*groups["test"], *groups["new"]], size=size, **options)
        path = tmp_path / "iter000-evaluation.h5"
        with write_part(path, kind="iter000-evaluation", key="a") as root:
            for name, found in groups.items():
                kelvins = np.resize([300.0, 900.0], len(found))
                write_scores(root.create_group(name), committee, Labelled(found, kelvins))
        return path, groups, committee

    return make


def assessed(path, **options):
    with open_part(path) as root:
        return assess(root, **options)


def test_scores_are_those_of_the_predictions(written):
    path, groups, committee = written()
    with open_part(path) as root:
        for name in GROUPS:
            energies, forces = committee.predict([item.frame for item in groups[name]], batch_size=1)
            scored = read_scored(root[name], "norm")
            deviation = [force_deviation(f).norm.max() for f in forces]
            error = [
                np.linalg.norm(f.mean(0) - i.forces, axis=1).max() for f, i in zip(forces, groups[name], strict=True)
            ]
            np.testing.assert_allclose(scored.deviation, deviation)
            np.testing.assert_allclose(scored.error, error)
            components = np.concatenate([f.mean(0) - i.forces for f, i in zip(forces, groups[name], strict=True)])
            assert root[name].attrs["force_mae_mev_per_ang"] == pytest.approx(1e3 * np.abs(components).mean())
            assert root[name].attrs["energy_mae_mev_per_atom"] == pytest.approx(1e3 * 1.5 / 6)
            np.testing.assert_allclose(root[name]["energy_members"][()], energies)
            for read, true, item in zip(read_member_forces(root[name]), forces, groups[name], strict=True):
                np.testing.assert_allclose(read.predicted, true, atol=1e-6)
                np.testing.assert_array_equal(read.reference, item.forces)


def test_frames_of_one_temperature_are_read_apart(written):
    path, _, _ = written(test=31)
    with open_part(path) as root:
        cold, hot = (read_scored(root["test"], "norm", point=StatePoint("", kelvin)) for kelvin in (300.0, 900.0))
        both = read_scored(root["test"], "norm")
    assert (len(cold), len(hot)) == (16, 15)
    np.testing.assert_array_equal(np.sort(np.r_[cold.error, hot.error]), np.sort(both.error))


def test_an_iteration_without_new_labels_is_assessed_by_its_test_set(written):
    path, _, _ = written(new=0)
    with open_part(path) as root:
        assert root["new/forces_members"].shape == (4, 0, 3)
        assert "force_mae_mev_per_ang" not in root["new"].attrs
    found = assessed(path, window=WINDOW, deviation="norm")
    assert found.calibration.test.frames == 30
    assert found.calibration.new is None
    assert found.health.error_over_spread is not None
    assert found.warnings == ()


def test_a_rogue_member_is_warned_of(written):
    path, _, _ = written(factors=[1, 1, 4, 1], correlation=0.2)
    found = assessed(path, window=WINDOW, deviation="component")
    assert found.health.rogue == 2
    assert any("member 2 is rogue" in warning for warning in found.warnings)


def test_a_committee_that_diverged_is_written_and_read(written):
    path, _, _ = written(factors=[1, np.nan, 1, 1])
    found = assessed(path, window=WINDOW, deviation="norm")
    assert found.health.rogue == 1
    assert found.calibration.test is None  # the mean is no number either


SURFACE = 1000.0
"""Errors and deviations on the surface of clusters, in units of those of the interior."""


@pytest.fixture
def clusters(tmp_path):
    """An evaluation part of clusters whose surface is far off; returns its path and the scores of the interior."""
    rng = np.random.default_rng(0)
    groups = {"test": labels(30, 2), "new": labels(20, 3)}
    everything = [*groups["test"], *groups["new"]]
    committee = NoisyCommittee(everything, size=0.05 * rng.lognormal(0, 0.6, len(everything)))
    interior = {name: [np.arange(6) < 1 + index % 3 for index in range(len(found))] for name, found in groups.items()}
    for name, found in groups.items():
        for item, inside in zip(found, interior[name], strict=True):
            committee.errors[id(item.frame)][:, ~inside] *= SURFACE
    path = tmp_path / "iter000-evaluation.h5"
    with write_part(path, kind="iter000-evaluation", key="a") as root:
        for name, found in groups.items():
            kelvins = np.resize([300.0, 900.0], len(found))
            write_scores(root.create_group(name), committee, Labelled(found, kelvins, interior[name]))
    return path, groups, interior, committee


def test_the_surface_of_clusters_is_not_calibrated(clusters):
    """The interior alone decides deviation, error and error before training; the whole cluster stays readable."""
    path, groups, interior, committee = clusters
    with open_part(path) as root:
        for name in GROUPS:
            _, forces = committee.predict([item.frame for item in groups[name]], batch_size=1)
            inside = [f[:, k] for f, k in zip(forces, interior[name], strict=True)]
            wrong = [
                f.mean(0) - item.forces[k] for f, item, k in zip(inside, groups[name], interior[name], strict=True)
            ]
            scored = read_scored(root[name], "norm")
            np.testing.assert_allclose(scored.deviation, [force_deviation(f).norm.max() for f in inside])
            np.testing.assert_allclose(scored.error, [np.linalg.norm(w, axis=1).max() for w in wrong])
            assert scored.error.max() < 1.0 < root[name]["force_error"][()].min()
            mae = box_scores(root[name]).attrs["force_mae_mev_per_ang"]
            assert mae == pytest.approx(1e3 * np.abs(np.concatenate(wrong)).mean())
            assert root[name].attrs["force_mae_mev_per_ang"] > 100 * mae
            np.testing.assert_array_equal(root[name]["interior/atoms"][()], np.concatenate(interior[name]))
            assert root[name]["forces_members"].shape == (4, 6 * len(groups[name]), 3)  # for the parity plot
    found = assessed(path, window=WINDOW, deviation="norm").calibration
    assert found.new.frames == 20
    assert found.lower_means.typical < 1e3  # with the surface it would be some 10,000 meV/Å or unknown


def test_parts_of_earlier_versions_have_scores_of_all_atoms(clusters, tmp_path):
    path, _, _, _ = clusters
    with open_part(path) as root, write_part(tmp_path / "old.h5", kind="", key="") as old:
        for name in GROUPS:
            root.copy(name, old)
            del old[name]["interior"]
    with open_part(tmp_path / "old.h5") as root:
        np.testing.assert_array_equal(read_scored(root["new"], "norm").error, root["new/force_error"][()])
        assert box_scores(root["new"]).attrs["force_mae_mev_per_ang"] > 1e3
    assert assessed(tmp_path / "old.h5", window=WINDOW, deviation="norm").calibration.new.frames == 20


def empty():
    return ScoredFrames(np.empty(0), np.empty(0), np.empty(0))


@pytest.mark.parametrize("spoilt", [False, True])
def test_the_calibration_plot_is_a_picture_whatever_there_is_to_show(spoilt):
    rng = np.random.default_rng(0)
    some = ScoredFrames(rng.lognormal(-3, 0.5, 40), rng.lognormal(-3, 0.5, 40), np.ones(40))
    if spoilt:
        some.error[::3] = np.nan
        some.deviation[1] = 0.0
    for test, new in ((some, some), (some, empty()), (empty(), empty())):
        assert imread(BytesIO(plots.calibration_plot(test, new, WINDOW))).std() > 0.01


def status_of(record):
    return {
        "campaign": "x",
        "state": "running",
        "label_fault": None,
        "audit": record.audit and record.audit.summary(),
        "iterations": [{**record.summary(), "seconds": 5.0}],
    }


def text_of(table):
    console = Console(width=80, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def test_status_names_warnings_and_what_the_threshold_meant(written):
    found = assessed(written(factors=[1, 1, 4, 1])[0], window=WINDOW, deviation="norm")
    counts = Counts(sampled=100, accurate=90, candidate=8, rejected=2)
    record = IterationRecord(
        iteration=3,
        temperatures=(TemperatureRecord(300.0, counts, 40.0, 8, 0),),
        labelled=8,
        label_failures=0,
        dataset_size=50,
        error_before_training_mev_per_ang=None,
        test_force_mae_mev_per_ang=None,
        test_energy_mae_mev_per_atom=None,
        window=WINDOW,
        calibration=found.calibration,
        health=found.health,
        warnings=found.warnings,
    )
    text = text_of(status_table(status_of(record)))
    assert "3!" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    first, *warnings = remarks(status_of(record))
    assert first.startswith("a deviation of 100 meV/Å meant a true error of ")
    assert any(line.startswith("warning: member 2 is rogue") for line in warnings)
    quiet = replace(record, window=None, calibration=None, health=None, warnings=())
    assert "3!" not in text_of(status_table(status_of(quiet)))
    assert remarks(status_of(quiet)) == []
