"""A campaign on a real Slurm (`make cluster-test`): jobs are cancelled and the coordinator killed, the digest stays.

Slurm runs on this machine alone, with two GPUs that do not exist: jobs ask for them, and compute on the CPU.
"""

import os
import re
import signal
import subprocess
import time
from collections import Counter

import pytest
from one_node_slurm import is_possible, jobs, slurm

from campaigns import digest, ended, start, wait_for_part

pytestmark = [
    pytest.mark.skipif(not is_possible(), reason="needs root, slurm-wlm and munge"),
    pytest.mark.timeout(900),
]
EXECUTION = """
execution:
  executor: dask
  device: cpu
  stages:
    all: {at_once: 2, memory: 1GB}
    train: {gpus: 1, queue: gpu}
  cluster: {scheduler: slurm, queue: cpu, walltime: "00:30:00", interface: lo}
"""


def begun_again(folder):
    """Titles of the jobs that were begun more than once, by the output of the batch jobs."""
    text = "\n".join(path.read_text() for path in (folder / ".dask").glob("*.err"))
    begun = Counter(re.findall(r"runs (\S+)-[0-9a-f]{8}\b", text))
    return {title for title, times in begun.items() if times > 1}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm") / "one") as environment:
        yield environment


def test_cancelled_jobs_and_a_killed_coordinator_change_nothing(cluster, undisturbed, tmp_path):
    campaign = start(tmp_path, EXECUTION, cluster)
    wait_for_part(tmp_path, "initial-labels-*.journal", campaign)
    labelling = jobs(cluster, "cpu")
    assert labelling
    for job in labelling:
        subprocess.run(["scancel", job], env=cluster, check=True)
    wait_for_part(tmp_path, "iter000-member*.checkpoint", campaign)
    training = jobs(cluster, "gpu")
    assert training
    for job in training:
        subprocess.run(["scancel", job], env=cluster, check=True)
    wait_for_part(tmp_path, "iter001-member*.checkpoint", campaign)
    for stage in ("initial-labels", "iter000-member"):
        assert any(title.startswith(stage) for title in begun_again(tmp_path)), f"no job of {stage} was lost"
    os.killpg(campaign.pid, signal.SIGKILL)
    campaign.wait()
    deadline = time.monotonic() + 120
    while jobs(cluster):  # jobs of a coordinator that is gone end by themselves
        assert time.monotonic() < deadline, "jobs are left"
        time.sleep(0.5)
    ended(start(tmp_path, EXECUTION, cluster, command="resume"), tmp_path)
    assert digest(tmp_path, cluster) == undisturbed
    assert not jobs(cluster)
