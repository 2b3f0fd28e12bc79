"""A campaign on a real Slurm (`make cluster-test`): jobs are cancelled and the coordinator killed, the digest stays.

Slurm runs on this machine alone, with two GPUs that do not exist: jobs ask for them, and compute on the CPU.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from one_node_slurm import is_possible, jobs, slurm

pytestmark = [
    pytest.mark.skipif(not is_possible(), reason="needs root, slurm-wlm and munge"),
    pytest.mark.timeout(900),
]
CAMPAIGN = """
name: slurm
seed: 7
system: {smiles: CO}
initial: {frames: 60, test_frames: 8, duration_ps: 1.0}
model:
  short: {cutoff_ang: 4.0, channels: 8, l_max: 1, radial_mlp: [16]}
  long: {cutoff_ang: 6.0, channels: 4, l_max: 0, radial_mlp: []}
training: {updates: 400, validation_interval: 20, members: 2}
sampling: {temperatures_kelvin: [300, 900], replicas: 3, steps: 100, stride_steps: 10, cost_share: 0}
selection: {max_labels: 10}
labels: {backend: tblite, chunk_frames: 30}
stop: {max_iterations: 2}
"""
LOCAL = "execution: {workers: 1, device: cpu}\n"
SLURM = """
execution:
  executor: dask
  device: cpu
  stages:
    all: {at_once: 2, memory: 1GB}
    train: {gpus: 1, queue: gpu}
  cluster: {scheduler: slurm, queue: cpu, walltime: "00:30:00", interface: lo}
"""
WAIT_S = 300


def start(folder, execution, environment, *, command="run"):
    """Begin or resume the campaign in a folder."""
    folder.mkdir(exist_ok=True)
    config = folder / "campaign.yaml"
    if not config.exists():
        config.write_text(CAMPAIGN + execution)
    environment = {**environment, "PREFECT_HOME": str(folder / "prefect"), "NO_COLOR": "1"}
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli.app", command, str(folder)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def digest(folder, environment):
    shown = subprocess.run(
        [sys.executable, "-m", "flows.cli.app", "status", str(folder), "--json"],
        env=environment,
        capture_output=True,
        check=True,
    )
    status = json.loads(shown.stdout)
    assert len(status["iterations"]) == 2
    return status["dataset_digest"]


def wait_for(what, process):
    """Wait until a function gives something true, while a process runs; returns it."""
    deadline = time.monotonic() + WAIT_S
    while not (found := what()):
        assert process.poll() is None, "the campaign ended before"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def ended(process, folder):
    status = process.wait(WAIT_S)
    assert status in (0, 3), (folder / "run.log").read_text()[-3000:]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The digest of the campaign on the local executor."""
    folder = tmp_path_factory.mktemp("local")
    ended(start(folder, LOCAL, dict(os.environ)), folder)
    return digest(folder, dict(os.environ))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm") / "one") as environment:
        yield environment


def job_of(environment, queue):
    """The running job of a queue, if there is one."""
    command = ["squeue", "-h", "-t", "R", "-p", queue, "-o", "%A"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_cancelled_jobs_and_a_killed_coordinator_change_nothing(cluster, undisturbed, tmp_path):
    parts = tmp_path / "parts"

    def working(pattern):
        """Whether a job is in the middle of a part."""
        return lambda: next(iter(Path(parts).glob(pattern)), None)

    campaign = start(tmp_path, SLURM, cluster)
    wait_for(working("initial-labels-*.journal"), campaign)
    for job in job_of(cluster, "cpu"):
        subprocess.run(["scancel", job], env=cluster, check=True)
    wait_for(working("iter000-member*.checkpoint"), campaign)
    training = job_of(cluster, "gpu")
    assert training
    subprocess.run(["scancel", training[0]], env=cluster, check=True)
    wait_for(working("iter001-member*.checkpoint"), campaign)
    os.killpg(campaign.pid, signal.SIGKILL)
    campaign.wait()
    deadline = time.monotonic() + 120
    while jobs(cluster):  # jobs of a coordinator that is gone end by themselves
        assert time.monotonic() < deadline, "jobs are left"
        time.sleep(0.5)
    ended(start(tmp_path, SLURM, cluster, command="resume"), tmp_path)
    assert digest(tmp_path, cluster) == undisturbed
    assert not jobs(cluster)
    shown = (tmp_path / "run.log").read_text()
    assert "✓ train member 0" in shown
