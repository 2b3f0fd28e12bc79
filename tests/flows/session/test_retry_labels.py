"""Labels whose failure had a cause that is gone are computed again, and the campaign ends as without failures."""

import os
from pathlib import Path

import pytest
from flow_runs import CommandLine
from kills import CAMPAIGN

from al_engine.campaign.audit.verify import verify
from al_engine.campaign.ledger import Ledger
from al_engine.structures.frames import dataset_digest
from flows.pages.status import campaign_status, remarks

HERE = Path(__file__).parents[1]
CONFIG = CAMPAIGN.replace("counting_calculator:CountingTBLite", "failing_calculator:FailingTBLite")
CONFIG = CONFIG.replace("max_iterations: 2", "max_iterations: 1") + "execution: {workers: 1}\n"


@pytest.fixture
def command_line(prefect_server, tmp_path):
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**prefect_server, "PYTHONPATH": paths, "BROKEN": str(tmp_path / "broken")}
    (tmp_path / "campaign.yaml").write_text(CONFIG)
    return CommandLine(environment, tmp_path)


def test_failed_initial_labels_are_tried_again(command_line, alone):
    broken, directory = command_line.directory / "broken", command_line.directory / "failed"
    broken.touch()
    answer = command_line("run", "campaign.yaml", "--dir", "failed")
    assert answer.returncode == 2
    cause = "RuntimeError: a licence server does not answer [/etc/licence]"
    words = f"`backend_error`: failing_calculator:FailingTBLite: {cause}"
    assert f"initial labels failed, {words}. Once their cause is gone" in answer.stderr
    assert f"failed ({words})" in answer.stderr  # of the first chunk, as soon as it is done
    assert "--retry-failed-labels` computes them again" in answer.stderr
    status = campaign_status(directory)
    assert status["label_failures"] > 0
    assert status["label_failure_words"] == words
    assert f"warning: labels of the initial set failed, {words}" in remarks(status)
    broken.unlink()
    assert command_line("resume", "failed").returncode == 2  # a recorded failure stays one until it is asked for
    answer = command_line("resume", "failed", "--retry-failed-labels")
    assert answer.returncode in (0, 3), answer.stderr
    assert "failed labels of the initial set are tried again" in answer.stderr
    retried = campaign_status(directory)
    assert retried["label_failures"] == 0
    assert retried["dataset_digest"] == dataset_digest(Ledger.open(Path(alone.directory)).dataset(before=1))
    assert verify(directory, repaired=False)[0]["sound"]


def test_there_must_be_something_to_try_again(finished):
    command_line, directory, _ = finished
    answer = command_line("resume", directory, "--retry-failed-labels")
    assert answer.returncode == 2
    assert "the newest of this campaign, has failed" in answer.stderr
