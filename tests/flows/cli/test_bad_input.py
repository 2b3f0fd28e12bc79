"""Bad input: exit 2, one clear message, no traceback, nothing written."""

import subprocess
import sys

import pytest

from al_engine.config.reader import load_config

CASES = {
    "init": (["init", "new", "--smiles", "C1CC"], "C1CC"),
    "run": (["run", "typo.yaml"], "selection.max_labels"),
    "no campaign directory": (["resume", "."], "campaign.yaml"),
    "unknown option": (["init", "new", "--smile", "C"], "--smile"),
}
"""In processes of their own; `campaigns/test_bad_inputs.py` has more than a hundred others."""


@pytest.mark.parametrize("case", CASES)
def test_one_message_exit_2_nothing_written(case, command_line):
    arguments, named = CASES[case]
    (command_line.directory / "typo.yaml").write_text("name: x\nsystem: {smiles: C}\nselection: {max_lables: 3}\n")
    before = sorted(command_line.directory.rglob("*"))
    answer = command_line(*arguments)
    assert answer.returncode == 2, answer.stderr
    assert named in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""
    assert sorted(command_line.directory.rglob("*")) == before


def test_another_machines_server_that_does_not_answer(command_line):
    (command_line.directory / "ok.yaml").write_text("name: x\nsystem: {smiles: C}\n")
    command_line.environment["PREFECT_API_URL"] = "http://me:secret@192.0.2.1:4200/api"
    answer = command_line("ui")
    assert answer.returncode == 2
    assert "PREFECT_API_URL is http://192.0.2.1:4200/api" in answer.stderr
    assert "secret" not in answer.stderr


def test_help_is_light():
    code = (
        "import sys, flows.cli.app; heavy = {'torch', 'prefect', 'rdkit', 'openmm', 'h5py', 'e3nn', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_mixture_from_counted_smiles(command_line):
    answer = command_line("init", "brine", "--smiles", "[Na+].[Cl-]", "--smiles", "2 O", "--preset", "quick", "--json")
    assert answer.returncode == 0, answer.stderr
    system = load_config(command_line.directory / "brine" / "campaign.yaml").system
    assert [(species.smiles, species.count) for species in system.species] == [("[Na+].[Cl-]", 1), ("O", 2)]


def test_a_campaign_directory_from_a_smiles(command_line):
    answer = command_line("init", "mine", "--smiles", "CC(=O)N", "--preset", "quick")
    assert answer.returncode == 0, answer.stderr
    text = (command_line.directory / "mine" / "campaign.yaml").read_text()
    assert "# Lower threshold: " in text
    assert command_line("status", "mine").returncode == 0
    assert command_line("init", "mine", "--smiles", "C").returncode == 2
