"""Campaigns whose labels this version would make otherwise: nothing is mixed, and their owner is told.

`data/campaign-xtb-not-turned.tar.xz` was made by `al-engine run` of commit 0ceef57, whose xtb labels may be wrong.
"""

import tarfile
from pathlib import Path

import pytest

from flows.pages.status import campaign_status

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def begun_with_xtb(command_line):
    """A campaign of the version before, in the command line's folder."""
    with tarfile.open(DATA / "campaign-xtb-not-turned.tar.xz") as archive:
        archive.extractall(command_line.directory, filter="data")
    return command_line.directory / "campaign"


@pytest.mark.parametrize("from_config_file", [False, True])
def test_a_campaign_with_doubtful_labels_is_not_gone_on_with(begun_with_xtb, command_line, from_config_file):
    before = {path: path.read_bytes() for path in (begun_with_xtb / "parts").iterdir()}
    arguments = ["resume", "campaign"]
    if from_config_file:
        config = command_line.directory / "mine.yaml"
        config.write_text((begun_with_xtb / "campaign.yaml").read_text().replace("backend: xtb", "backend: auto"))
        arguments = ["run", "mine.yaml", "--dir", "campaign"]
    answer = command_line(*arguments)
    assert answer.returncode == 2, answer.stderr
    assert "wrong forces" in answer.stderr
    assert "al-engine run campaign/campaign.yaml --dir NEW" in answer.stderr
    assert {path: path.read_bytes() for path in (begun_with_xtb / "parts").iterdir()} == before


def test_what_is_doubtful_is_said_by_status(begun_with_xtb, command_line):
    answer = command_line("status", begun_with_xtb)
    assert answer.returncode == 0
    assert "warning: labels: xtb 22.1 was given frames without rotation" in answer.stdout
    assert "wrong forces" in campaign_status(begun_with_xtb)["label_fault"]


def test_starting_over_as_the_message_says_is_possible(begun_with_xtb, command_line):
    answer = command_line("check", begun_with_xtb / "campaign.yaml")
    assert answer.returncode == 0, answer.stderr
    assert "GFN2-xTB by xtb" in answer.stdout
