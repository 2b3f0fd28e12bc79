"""The digest of a campaign does not depend on the number of workers (`make cluster-test`)."""

import os

import pytest

from campaigns import digest, ended, start

pytestmark = pytest.mark.timeout(900)
EXECUTIONS = {
    "two processes": "{device: cpu, workers: 2}",
    "eight processes": "{device: cpu, workers: 8}",
    "eight workers of Dask": "{device: cpu, executor: dask, stages: {all: {at_once: 8}}}",
    "Ray, with as many jobs as the machine has cores": "{device: cpu, executor: ray, stages: {all: {at_once: 8}}}",
}


@pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=EXECUTIONS)
def test_the_number_of_workers_changes_nothing(execution, undisturbed, tmp_path):
    ended(start(tmp_path / "campaign", f"execution: {execution}\n", dict(os.environ)), tmp_path / "campaign")
    assert digest(tmp_path / "campaign", dict(os.environ)) == undisturbed
