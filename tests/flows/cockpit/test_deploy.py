"""A campaign as a deployment of Prefect: a worker runs it to its verdict."""

import json
import shutil
import subprocess
import sys
import time

import pytest

HEARTBEATS = {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}}
"""Without it a run sends one in three minutes, and after 90 s the server would take it for crashed."""


@pytest.fixture
def campaign(finished, tmp_path):
    """A copy of a finished campaign that has another iteration to go, and its command line."""
    command_line, directory, _ = finished
    copy = shutil.copytree(directory, tmp_path / "campaign")
    return command_line, copy


def prefect(environment, *arguments, limit_s=120):
    return subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


@pytest.mark.timeout(900)
def test_a_worker_runs_a_deployed_campaign(campaign, prefect_server):
    command_line, directory = campaign
    answer = command_line("deploy", directory, "--pool", "tests", "--json")
    assert answer.returncode == 0, answer.stderr
    deployed = json.loads(answer.stdout)
    assert (deployed["pool"], deployed["made_pool"]) == ("tests", True)
    again = json.loads(command_line("deploy", directory, "--pool", "tests", "--json").stdout)
    assert again["made_pool"] is False
    shown = json.loads(prefect(prefect_server, "deployment", "inspect", deployed["name"], "--output", "json").stdout)
    assert shown["job_variables"] == HEARTBEATS
    assert not shown["parameter_openapi_schema"].get("required")  # Quick run would ask for these
    run = prefect(prefect_server, "deployment", "run", deployed["name"])
    assert run.returncode == 0, run.stderr
    with subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "tests", "--type", "process", "--run-once"],
        env=prefect_server,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        worker.wait(180)
    deadline = time.monotonic() + 60
    while (state := state_of(prefect_server)) not in ("COMPLETED", "FAILED", "CRASHED"):
        assert time.monotonic() < deadline, state
        time.sleep(1)
    assert state == "COMPLETED"


def state_of(environment):
    """State of the newest run of a deployment."""
    program = (
        "from prefect.client.orchestration import get_client\n"
        "from prefect.client.schemas.sorting import FlowRunSort\n"
        "with get_client(sync_client=True) as client:\n"
        "    runs = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=20)\n"
        "print(next(run.state_type.value for run in runs if run.deployment_id is not None))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return found.stdout.strip()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--type", "docker"], "needs --image"),
        (["--type", "kubernetes", "--image", "al-engine"], "needs --claim"),
        (["--claim", "runs"], "has no volume claims"),
        (["--image", "al-engine"], "runs no containers"),
    ],
)
def test_contradicting_options_are_refused(campaign, options, message):
    command_line, directory = campaign
    answer = command_line("deploy", directory, *options)
    assert answer.returncode == 2
    assert message in answer.stderr


def test_jobs_of_kubernetes_see_the_campaign(campaign, prefect_server):
    command_line, directory = campaign
    options = ["--pool", "cluster", "--type", "kubernetes", "--image", "al-engine", "--claim", "shared"]
    answer = command_line("deploy", directory, *options)
    assert answer.returncode == 0, answer.stderr
    shown = json.loads(prefect(prefect_server, "work-pool", "inspect", "cluster", "--output", "json").stdout)
    pod = shown["base_job_template"]["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "{{ runs_claim }}"
    assert pod["containers"][0]["volumeMounts"] == [{"name": "runs", "mountPath": "{{ runs_path }}"}]
    name = "active-learning campaign/tiny"
    deployed = json.loads(prefect(prefect_server, "deployment", "inspect", name, "--output", "json").stdout)
    assert deployed["job_variables"] == {
        **HEARTBEATS, "image": "al-engine", "runs_claim": "shared", "runs_path": str(directory.parent),
    }  # fmt: skip


def test_containers_use_an_image_of_this_machine_and_the_worker_is_told_its_server(campaign, prefect_server):
    command_line, directory = campaign
    answer = command_line("deploy", directory, "--pool", "containers", "--type", "docker", "--image", "al-engine")
    assert answer.returncode == 0, answer.stderr
    server = f"PREFECT_API_URL={prefect_server['PREFECT_API_URL']}"
    assert f"`{server} prefect worker start --pool containers --type docker`" in answer.stdout
    name = "active-learning campaign/tiny"
    deployed = json.loads(prefect(prefect_server, "deployment", "inspect", name, "--output", "json").stdout)
    assert deployed["job_variables"] == {
        **HEARTBEATS,
        "image": "al-engine",
        "image_pull_policy": "IfNotPresent",
        "volumes": [f"{directory}:{directory}"],
        "auto_remove": True,
    }


def test_a_pool_of_another_type_is_refused(campaign, prefect_server):
    command_line, directory = campaign
    assert prefect(prefect_server, "work-pool", "create", "contained", "--type", "docker").returncode == 0
    answer = command_line("deploy", directory, "--pool", "contained")
    assert answer.returncode == 2
    assert "exists with the type docker" in answer.stderr
