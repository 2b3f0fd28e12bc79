"""A small campaign that is run on clusters, and its digest."""

import json
import subprocess
import sys
import time

CAMPAIGN = """
name: cluster
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
WAIT_S = 300


def start(folder, execution, environment, *, command="run", before=()):
    """Begin or resume the campaign in a folder, by a command that begins with `before`."""
    folder.mkdir(exist_ok=True)
    config = folder / "campaign.yaml"
    if not config.exists():
        config.write_text(CAMPAIGN + execution)
    environment = {**environment, "PREFECT_HOME": str(folder / "prefect"), "NO_COLOR": "1"}
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(
            [*before, sys.executable, "-m", "flows.cli.app", command, str(folder)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def digest(folder, environment):
    """The digest of a campaign that has ended."""
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
        time.sleep(0.02)
    return found


def wait_for_part(folder, pattern, process):
    """Wait until a job is in the middle of a part: until a file beside it exists."""
    return wait_for(lambda: next((folder / "parts").glob(pattern), None), process)


def ended(process, folder):
    """Wait for the end of a campaign, which must have a verdict."""
    status = process.wait(WAIT_S)
    assert status in (0, 3), (folder / "run.log").read_text()[-3000:]
