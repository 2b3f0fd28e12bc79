"""`al-engine evaluate` on a finished campaign: numbers that agree with the ledger, plots, nothing made twice."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from flow_runs import with_one_worker

from al_engine.campaign.ledger import Ledger
from al_engine.errors import InputError
from al_engine.files.part_file import open_part
from flows.evaluation.subject import newest_iteration
from flows.evaluation.verb import evaluate
from flows.pages.display import Display

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def campaign(finished, tmp_path_factory):
    """A copy of the campaign (its results would be found by other tests), and its files as they are."""
    command_line, directory, _ = finished
    copy = tmp_path_factory.mktemp("evaluated") / "tiny"
    shutil.copytree(directory, copy)
    with_one_worker(copy)
    return command_line, copy, files_of(copy)


def files_of(directory):
    return {
        path.relative_to(directory): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "evaluation" not in path.parts
    }


def said(campaign, *arguments):
    """What the command line answers."""
    command_line, directory, _ = campaign
    done = command_line("evaluate", directory, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return sound(campaign, json.loads(done.stdout))


def evaluated(campaign, what, *, iteration=None, output=None, **options):
    """The answer of the function behind the command, in this process: another process would load torch again."""
    display = Display(quiet=True)
    answer, _ = evaluate(campaign[1], what, iteration=iteration, output=output, options=options, display=display)
    return sound(campaign, json.loads(json.dumps(answer)))


def sound(campaign, answer):
    """An answer that is written as it is given, has a plot, and has changed nothing of the campaign."""
    _, directory, before = campaign
    assert json.loads(Path(answer["json"]).read_text()) == answer
    assert Path(answer["plot"]).read_bytes().startswith(PNG)
    assert files_of(directory) == before
    return answer


def test_errors_are_those_of_the_ledger_and_temperatures_add_up(campaign):
    answer = said(campaign, "--what", "errors")
    ledger = Ledger.open(campaign[1])
    assert answer["iteration"] == newest_iteration(ledger) == len(ledger.history()) - 1
    record = ledger.history()[-1]
    overall = answer["all"]["mean"]
    assert overall["forces_mev_per_ang"]["mae"] == pytest.approx(record.test_force_mae_mev_per_ang, rel=1e-4)
    assert overall["energy_mev_per_atom"]["mae"] == pytest.approx(record.test_energy_mae_mev_per_atom, rel=1e-4)
    assert [row["kelvin"] for row in answer["temperatures"]] == [300.0, 900.0]
    assert sum(row["mean"]["frames"] for row in answer["temperatures"]) == overall["frames"] == 8
    squares = [row["mean"]["forces_mev_per_ang"]["rmse"] ** 2 * row["mean"]["frames"] for row in answer["temperatures"]]
    assert np.sqrt(sum(squares) / 8) == pytest.approx(overall["forces_mev_per_ang"]["rmse"])
    assert len(answer["all"]["members"]) == answer["members"] == 4
    # A mean's squared error is at most the average of its members' (Jensen).
    members = [member["forces_mev_per_ang"]["rmse"] ** 2 for member in answer["all"]["members"]]
    assert overall["forces_mev_per_ang"]["rmse"] ** 2 <= np.mean(members)


def test_bond_lengths_are_labelled_once(campaign):
    answer = said(campaign, "--what", "bond-length", "--points", "6", "--frames", "1", "--bonds", "2")
    assert answer["labelled"] + answer["colliding"] + answer["label_failures"] == 12
    (labels,) = (campaign[1] / "evaluation").glob("bond-length-labels-*.h5")
    made = labels.stat().st_mtime_ns
    assert {bond["elements"] for bond in answer["bonds"]} <= {"C-O", "C-H", "H-O"}
    for bond in answer["bonds"]:
        factors = np.array(bond["lengths_ang"]) / bond["equilibrium_ang"]
        np.testing.assert_allclose(factors, np.linspace(0.85, 2.0, 6))
        assert min(bond["reference_ev"]) == min(bond["predicted_ev"]) == 0.0
        assert bond["reference_ev"][-1] > 2.0  # twice as long: most of a bond's energy
    assert [part["from"] for part in answer["ranges"]] == [0.85, 1.15, 1.5]
    assert sum(part["errors"]["frames"] for part in answer["ranges"]) == answer["labelled"]
    older = evaluated(campaign, "bond-length", points=6, frames=1, bonds=2, iteration=0)
    assert labels.stat().st_mtime_ns == made
    assert len(list((campaign[1] / "evaluation").glob("bond-length-labels-*.h5"))) == 1
    assert older["bonds"][0]["reference_ev"] == answer["bonds"][0]["reference_ev"]
    assert older["all"] != answer["all"]


def test_stability_counts_every_replica(campaign, tmp_path):
    output = tmp_path / "mine"
    answer = said(campaign, "--what", "stability", "--steps", "100", "--replicas", "5", "--output", output)
    assert (answer["steps"], answer["kelvin"], answer["replicas"]) == (100, 800.0, 5)
    others = sum(answer["stopped_otherwise"].values())
    assert answer["survived"] + answer["collapsed"] + others == 5
    assert [row["driver"] for row in answer["trajectories"]] == [0, 1, 2, 3, 0]
    for row in answer["trajectories"]:
        assert (row["stop_step"] == 100) or row["stop_reason"] != "completed"
    data = sorted(output.glob("*.h5"))
    assert sorted(answer["data"]) == [str(path) for path in data]
    with open_part(data[0]) as root:
        assert root["stretch_ang"].shape == (2, 2)
        assert root["replica"][()].tolist() == [0, 4]
    times = [path.stat().st_mtime_ns for path in data]
    assert evaluated(campaign, "stability", steps=100, replicas=5, output=output) == answer
    assert [path.stat().st_mtime_ns for path in data] == times


def test_an_interrupted_test_keeps_what_is_finished(campaign, tmp_path):
    command_line, directory, _ = campaign
    arguments = ("evaluate", directory, "--what", "stability", "--steps", "20000", "--replicas", "4")
    process = command_line.start(*arguments, "--output", tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / ".lock").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    time.sleep(1.0)  # anywhere from here on
    os.killpg(os.getpgid(process.pid), signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 4, errors
    assert "same command" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("errors", {"steps": 5}, "--steps is an option of --what stability, not of --what errors"),
        (
            "stability",
            {"steps": 99},
            "--steps 99 is no multiple of 50, the steps between two observations; give 50 or 100",
        ),
        ("stability", {"of": "system"}, "--of is an option of --what bond-length"),
        ("errors", {"iteration": 7}, "--iteration 7: .* of the iterations 0 to 1"),
    ],
)
def test_options_that_do_not_fit(campaign, what, options, message):
    with pytest.raises(InputError, match=message):
        evaluated(campaign, what, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--what", "everything"), "errors.*bond-length"),
        (("--what", "stability", "--steps", "0"), "--steps"),
    ],
)
def test_wrong_options(campaign, arguments, message):
    command_line, directory, _ = campaign
    done = command_line("evaluate", directory, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert re.search(message, " ".join(done.stderr.split())), done.stderr


def test_a_campaign_without_iterations(command_line, tmp_path):
    assert command_line("init", "new", "--smiles", "CO", "--preset", "quick").returncode == 0
    done = command_line("evaluate", "new", "--what", "errors")
    assert done.returncode == 2
    assert "new: has no finished iteration" in done.stderr
    assert not (tmp_path / "new" / "evaluation").exists()
    with pytest.raises(InputError, match="nowhere"):
        evaluate(tmp_path / "nowhere", "errors", options={}, display=Display(quiet=True))
