"""A campaign as a deployment of Prefect: its runs are started, paused and cancelled on Prefect's pages."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from al_engine.campaign.ledger import Ledger
from al_engine.errors import InputError, typed
from flows.cockpit.flow import deployed_flow
from flows.cockpit.loopback import without_password
from flows.cockpit.server import HEARTBEAT, QUIET_SETTINGS

IN_CONTAINERS = ("docker", "kubernetes")
"""Types of work pools whose runs are containers, which need an image."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A campaign that Prefect can run.

    Attributes:
        name: Name of the deployment, as `prefect deployment run` takes it.
        pool: Name of its work pool.
        made_pool: Whether the work pool was made just now.
    """

    name: str
    pool: str
    made_pool: bool


def deploy(directory: Path, *, pool: str, kind: str, image: str | None = None, claim: str | None = None) -> Deployed:
    """Register a campaign as a deployment; a work pool that does not exist is made.

    Two runs of a campaign never overlap: the deployment has a concurrency limit of one, and a run locks the directory.

    Args:
        directory: The campaign directory. Workers of the pool, and containers, must see it at the same path.
        pool: Name of the work pool.
        kind: Type of the work pool: `process`, `docker`, `kubernetes` or `slurm`.
        image: Image of the containers.
        claim: For Kubernetes: the volume claim that has the campaign directory. It is mounted at the folder above it.

    Raises:
        InputError: If the directory holds no campaign, the pool exists with another type, or an image or a claim is
            missing or cannot be used.
    """
    ledger, path = Ledger.open(directory), str(directory.resolve())
    if (kind in IN_CONTAINERS) != (image is not None):
        needs = "needs --image" if image is None else "runs no containers; leave out --image"
        raise InputError(f"--type {kind}: {needs}")
    if (kind == "kubernetes") != (claim is not None):
        needs = "needs --claim" if claim is None else "has no volume claims; leave out --claim"
        raise InputError(f"--type {kind}: {needs}")
    with get_client(sync_client=True) as client:
        made = _ensure_pool(client, pool, kind)
    name = ledger.config.name
    deployment = deployed_flow.to_deployment(
        name=name,
        parameters={"campaign": name, "directory": path},
        work_pool_name=pool,
        job_variables=_variables(kind, Path(path), image, claim),
        entrypoint_type=EntrypointType.MODULE_PATH,
        concurrency_limit=1,
        tags=[f"campaign:{name}"],
        description=f"The campaign in {path}. A run goes on from what is finished, until the verdict.",
    )
    cast("RunnerDeployment", deployment).apply()  # Prefect's types also allow for a coroutine
    return Deployed(f"{deployed_flow.name}/{name}", pool, made_pool=made)


def _ensure_pool(client: SyncPrefectClient, pool: str, kind: str) -> bool:
    """Make a work pool unless it exists; returns whether it was made."""
    try:
        found = client.read_work_pool(pool)
    except ObjectNotFound:
        template = run_coro_as_sync(get_default_base_job_template_for_infrastructure_type(kind))
        if template is None:
            raise InputError(
                f"--type {kind}: Prefect knows no such work pool; install prefect-{kind} here and for the worker"
            ) from None
        if kind == "kubernetes":
            _mount_claim(template)
        client.create_work_pool(WorkPoolCreate(name=pool, type=kind, base_job_template=template))
        return True
    if found.type != kind:
        raise InputError(f"--pool {pool}: exists with the type {found.type}; give --type {found.type} or another name")
    return False


def _mount_claim(template: dict[str, Any]) -> None:
    """Add a volume claim to Prefect's template for jobs of Kubernetes, whose containers see no files otherwise."""
    variables = template["variables"]["properties"]
    variables["runs_claim"] = {"title": "Volume claim", "type": "string", "description": "Claim with the campaigns."}
    variables["runs_path"] = {"title": "Mount path", "type": "string", "description": "Where the claim is mounted."}
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": "{{ runs_claim }}"}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "runs", "mountPath": "{{ runs_path }}"}]


def _variables(kind: str, path: Path, image: str | None, claim: str | None) -> dict[str, Any]:
    """What the jobs of a campaign need beside the template of the work pool."""
    # A worker's own settings decide about the rest. Its runs must send heartbeats as often as the watchdog expects.
    environment = {"env": {HEARTBEAT: QUIET_SETTINGS[HEARTBEAT]}}
    if kind == "docker":
        return environment | {
            "image": image,
            "image_pull_policy": "IfNotPresent",  # an image that was built here is in no registry
            "volumes": [f"{path}:{path}"],
            "auto_remove": True,
        }
    if kind == "kubernetes":
        return environment | {"image": image, "runs_claim": claim, "runs_path": str(path.parent)}
    return environment


def next_steps(deployed: Deployed, kind: str, api_url: str) -> list[str]:
    """The commands that start a worker and a run, which must name the server: its port need not be Prefect's default.

    Args:
        deployed: The deployment.
        kind: Type of the work pool.
        api_url: Address of the server's API.
    """
    server = f"PREFECT_API_URL={shlex.quote(without_password(api_url))}"
    worker = f"prefect worker start --pool {typed(Path(deployed.pool))} --type {kind}"
    return [
        f"where the campaign is to run: `{server} {worker}`",
        f"a run: `{server} prefect deployment run '{deployed.name}'`, or Quick run on Prefect's page of deployments",
    ]
