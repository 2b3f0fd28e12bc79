"""The executor that a config asks for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from al_engine.config import CampaignConfig, ExecutionConfig
from al_engine.errors import InputError
from flows.compute.devices import choose_device, visible_gpus, worker_counts
from flows.compute.local import LocalExecutor
from flows.compute.remote import Cluster, RemoteExecutor
from flows.compute.stage_call import Executor
from flows.compute.worker_pool import ComputePool
from labelers.pool.pool import LabelPool

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "local": (),
    "dask": ("distributed", "dask_jobqueue", "cryptography"),
    "ray": ("ray",),
}
"""Packages that an executor needs, by its name."""
DASK_FOLDER = ".dask"
"""Folder of a campaign directory with the credentials and logs of batch jobs."""


@contextmanager
def opened_executor(directory: Path, config: CampaignConfig) -> Iterator[Executor]:
    """The executor of a campaign, with its workers, for as long as the block runs.

    Args:
        directory: The campaign directory.
        config: The campaign's config.

    Raises:
        InputError: If the device, the cluster, or a package that it needs does not exist.
    """
    execution = config.execution
    if execution.executor == "local":
        device = choose_device(config)
        compute_workers, label_workers = worker_counts(config, device)
        gpus = visible_gpus()[: execution.gpus] if device == "cuda" else []
        with (
            ComputePool(compute_workers, gpus=gpus) as compute,
            LabelPool(config.labels, workers=label_workers, periodic=config.labels_boxes) as label_pool,
        ):
            yield LocalExecutor(
                directory, device=device, compute=compute, label_pool=label_pool, label_workers=label_workers
            )
        return
    with (
        _opened_cluster(directory, config) as cluster,
        LabelPool(config.labels, workers=1, periodic=config.labels_boxes) as label_pool,
    ):
        yield RemoteExecutor(directory, execution=execution, cluster=cluster, label_pool=label_pool)


def refuse_missing_packages(execution: ExecutionConfig) -> None:
    """Refuse an executor whose packages, which are extras, are not installed.

    Raises:
        InputError: The message names the extra.
    """
    name = execution.executor
    missing = [package for package in PACKAGES[name] if find_spec(package) is None]
    if missing:
        raise InputError(
            f"`execution.executor: {name}` needs the package {missing[0]}: pip install 'al-engine[{name}]'"
        )


@contextmanager
def _opened_cluster(directory: Path, config: CampaignConfig) -> Iterator[Cluster]:
    """The cluster of `execution`; its package is imported only here, because it is an extra."""
    execution = config.execution
    refuse_missing_packages(execution)
    module = import_module(f"flows.compute.{execution.executor}_cluster")
    if execution.executor == "dask":
        with module.dask_cluster(execution, directory.resolve() / DASK_FOLDER) as cluster:
            yield cluster
    else:
        with module.ray_cluster(execution) as cluster:
            yield cluster
