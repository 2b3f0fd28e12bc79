"""A whole campaign with a Prefect server, xTB and files."""

import json
import os
import shutil
import subprocess
import sys

import ase.io
import h5py
import numpy as np
import pytest
from flow_runs import TINY, api
from prefect.settings import PREFECT_API_URL, temporary_settings

from al_engine.campaign.ledger import Ledger
from al_engine.selection.fates import CANDIDATE_FATES, Fate
from flows.cockpit.publish import publish_if_missing
from flows.pages.status import campaign_status


def test_it_ends_with_a_verdict_and_says_which(finished):
    command_line, directory, result = finished
    state = campaign_status(directory)
    assert result.returncode == (0 if state["verdict"] == "converged" else 3), result.stderr
    assert result.stdout.startswith(state["verdict"])
    assert state["state"] == "finished"
    assert "Traceback" not in result.stderr
    assert command_line.environment["PREFECT_API_URL"].removesuffix("/api") in result.stderr


def test_status_keeps_its_contract(finished):
    _, directory, _ = finished
    state = campaign_status(directory)
    assert {"campaign", "state", "verdict", "dataset_size", "dataset_digest", "label_failures", "iterations"} <= set(
        state
    )
    keys = {
        "iteration", "sampled", "accurate", "candidate", "rejected", "acceptance", "labelled", "label_failures",
        "dataset_size", "error_before_training_mev_per_ang", "test_force_mae_mev_per_ang", "seconds",
    }  # fmt: skip
    assert state["iterations"]
    for number, row in enumerate(state["iterations"]):
        assert keys <= set(row)
        assert row["iteration"] == number
        assert row["sampled"] == row["accurate"] + row["candidate"] + row["rejected"]
        assert row["acceptance"] == pytest.approx(row["candidate"] / row["sampled"])
        assert row["seconds"] > 0


def test_every_sampled_frame_has_one_fate_that_fits_its_deviation(finished):
    _, directory, _ = finished
    config = Ledger.open(directory).config.selection
    with h5py.File(directory / "campaign.h5") as root:
        for iteration in root["iterations"].values():
            fates = iteration["append/fate"][()]
            sampled = sum(len(iteration[name]["step"]) for name in iteration if name.startswith("sample"))
            assert len(fates) == sampled
            milli, sound = 1e3 * iteration["selection/deviation_norm"][()], iteration["selection/sound"][()]
            assert ((fates == Fate.UNSOUND) == ~sound).all()
            assert ((milli < config.lower_mev_per_ang) & sound == (fates == Fate.ACCURATE)).all()
            inside = (milli >= config.lower_mev_per_ang) & (milli <= config.upper_mev_per_ang) & sound
            assert (inside == np.isin(fates, CANDIDATE_FATES)).all()
            assert np.sum(fates == Fate.LABELLED) == len(iteration["append/labelled/energy"])


def test_the_data_set_grows_by_the_new_labels_and_holds_no_test_frame(finished):
    _, directory, _ = finished
    ledger = Ledger.open(directory)
    with h5py.File(directory / "campaign.h5") as root:
        energies = root["dataset/energy"][()]
        test = root["initial/dataset/test/positions"][()]
        positions = root["dataset/positions"][()]
    assert len(energies) == 24 + sum(record.labelled for record in ledger.history())
    known = {row.tobytes() for row in positions}
    assert not any(row.tobytes() in known for row in test)


def test_labels_are_what_xtb_python_says(finished):
    from labelers.backends.xtb import Gfn2XtbLabeler

    _, directory, _ = finished
    ledger = Ledger.open(directory)
    labeler = Gfn2XtbLabeler(ledger.config.labels)
    for item in ledger.dataset()[::7]:
        energy, forces, _ = labeler.label(item.frame)
        assert energy == pytest.approx(item.energy, abs=1e-3)
        assert forces == pytest.approx(item.forces, abs=2e-3)


def test_running_again_computes_nothing(finished, tmp_path):
    command_line, original, first = finished
    directory = shutil.copytree(original, tmp_path / "copy")
    before = {path.name: path.stat().st_mtime_ns for path in (directory / "parts").iterdir()}
    again = command_line("resume", directory)
    assert again.returncode == first.returncode
    assert {path.name: path.stat().st_mtime_ns for path in (directory / "parts").iterdir()} == before


def test_an_iteration_that_a_kill_left_unpublished_is_published_once(finished):
    command_line, directory, _ = finished
    campaign = f"left out {os.getpid()}"  # the server is shared: the pages of other tests have other keys
    with temporary_settings({PREFECT_API_URL: command_line.environment["PREFECT_API_URL"]}):
        for _ in range(2):
            publish_if_missing(Ledger.open(directory), 0, campaign=campaign)
    key = f"left-out-{os.getpid()}-iteration-0"
    (page,) = api(command_line.environment, "/artifacts/filter", {"artifacts": {"key": {"any_": [key]}}})
    assert "| 900 K |" in page["data"]


def test_the_prefect_pages_have_names_a_chemist_reads(finished):
    command_line, _, _ = finished
    environment = command_line.environment
    ours = {"flow_runs": {"tags": {"all_": ["campaign:tiny"]}}}
    flows = api(environment, "/flow_runs/filter", ours)
    assert {"tiny", "tiny · initial set", "tiny · iteration 0"} <= {run["name"] for run in flows}
    assert any("iteration:0" in run["tags"] for run in flows)
    tasks = {run["name"]: run["tags"] for run in api(environment, "/task_runs/filter", ours)}
    names = {"train member 2", "sample 900 K", "label 1-20", "append labels", "select frames"}
    assert names <= set(tasks)
    assert not any(tasks[name] for name in names)  # each tag would cost two requests
    artifacts = api(environment, "/artifacts/filter", {"artifacts": {"key": {"any_": ["tiny-iteration-0"]}}})
    page = artifacts[0]["data"]
    assert "| 900 K |" in page
    assert page.count("data:image/png;base64,") == 4
    logs = api(environment, "/logs/filter", {"limit": 200})
    assert any("validation force MAE" in log["message"] for log in logs)


def test_exported_frames_are_read_by_ase(finished, tmp_path):
    command_line, directory, _ = finished
    answer = command_line("export", directory, "--to", "extxyz", "--output", tmp_path / "all.xyz", "--json")
    assert json.loads(answer.stdout)["frames"] == len(Ledger.open(directory).dataset())
    images = ase.io.read(tmp_path / "all.xyz", ":")
    for atoms, item in zip(images, Ledger.open(directory).dataset(), strict=True):
        assert atoms.get_potential_energy() == pytest.approx(item.energy, abs=1e-6)
        assert atoms.get_forces() == pytest.approx(item.forces, abs=1e-6)


def test_the_committee_is_an_ase_calculator(finished):
    from models import load_committee

    _, directory, _ = finished
    item = Ledger.open(directory).dataset()[0]
    atoms = item.frame.to_atoms()
    atoms.calc = load_committee(directory)
    assert atoms.get_forces().shape == (6, 3)
    assert atoms.calc.results["max_force_deviation"] > 0
    with h5py.File(directory / "campaign.h5") as root:
        assert atoms.calc.committee.n_members == sum("member" in name for name in root["iterations/001"])


def test_a_config_changed_by_hand_is_named_and_a_new_limit_goes_on(finished, tmp_path):
    command_line, directory, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    text = (copy / "campaign.yaml").read_text()
    (copy / "campaign.yaml").write_text(text.replace("upper_mev_per_ang: 300", "upper_mev_per_ang: 400"))
    refused = command_line("resume", copy)
    assert refused.returncode == 2
    assert "selection.upper_mev_per_ang" in refused.stderr
    assert "Traceback" not in refused.stderr
    (copy / "campaign.yaml").write_text(text.replace("max_iterations: 2", "max_iterations: 1"))
    fewer = command_line("resume", copy, "--json")
    assert fewer.returncode in (0, 3), fewer.stderr
    assert json.loads(fewer.stdout)["verdict"] in ("max_iterations", "unstable")


def test_another_config_file_on_the_same_directory_is_refused(finished):
    command_line, directory, _ = finished
    (directory.parent / "other.yaml").write_text(TINY.replace("smiles: CO", "smiles: CCO"))
    answer = command_line("run", "other.yaml", "--dir", directory)
    assert answer.returncode == 2
    assert "system.smiles" in answer.stderr


def test_a_deployment_needs_no_command_line(finished, tmp_path):
    """The flow opens the campaign itself; a finished campaign ends at once, in a run with the campaign's name."""
    command_line, directory, _ = finished
    copy = tmp_path / "tiny"
    shutil.copytree(directory, copy)
    verdict = campaign_status(copy)["verdict"]
    code = (
        "from flows.cockpit.flow import deployed_flow\n"
        f"state = deployed_flow('tiny', {str(copy)!r}, return_state=True)\n"
        "print(state.type.value, state.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=command_line.environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == f"COMPLETED {verdict.replace('_', ' ').capitalize()}", done.stderr
