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
from flows.compute.store import Store
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
        InputError: If the device, the cluster, the store, or a package that it needs does not exist, or options
            contradict each other.
        ResumableError: If the store does not answer.
    """
    execution = config.execution
    refuse_contradictions(execution)
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
    store = None if execution.store is None else Store(execution.store)
    if store is not None:
        store.check()
    with _opened_cluster(directory, config) as cluster:
        yield RemoteExecutor(directory, execution=execution, cluster=cluster, store=store)


def refuse_missing_packages(execution: ExecutionConfig) -> None:
    """Refuse an executor or a store whose packages, which are extras, are not installed.

    Raises:
        InputError: The message names the extra.
    """
    name = execution.executor
    missing = [package for package in PACKAGES[name] if find_spec(package) is None]
    if missing:
        raise InputError(
            f"`execution.executor: {name}` needs the package {missing[0]}: pip install 'al-engine[{name}]'"
        )
    if execution.store is not None:
        Store(execution.store)


def refuse_contradictions(execution: ExecutionConfig) -> None:
    """Refuse options of which one would be ignored in silence.

    It is asked when a campaign is run: the config of an earlier run, which may have them, can still be read.

    Raises:
        InputError: The message names the options.
    """
    cluster, name = execution.cluster, execution.executor
    if name == "local":
        if cluster.address is not None or cluster.scheduler != "local":
            given = "scheduler" if cluster.address is None else "address"
            raise InputError(
                f"`execution.cluster.{given}` needs `execution.executor: dask` or `ray`; it is `local`, which computes "
                "with processes of this machine"
            )
        if execution.store is not None:
            raise InputError(
                "`execution.store` is for machines that do not see the campaign directory: it needs "
                "`execution.executor: dask` or `ray`; it is `local`"
            )
        return
    if execution.store is None and execution.scratch is not None:
        raise InputError(
            "`execution.scratch` is where machines copy the campaign from `execution.store`, which is null"
        )
    if execution.store is not None and execution.overlap:
        raise InputError(
            "`execution.overlap` hands labels over in the campaign directory, which machines with `execution.store` do "
            "not see; set `overlap: false`"
        )
    uses_gpus = any(own.gpus for own in execution.resources_of_stages().values())
    if execution.device == "cuda" and not uses_gpus:
        raise InputError(
            f"`execution.device: cuda` with `executor: {name}`: a job has a GPU only if its stage asks for one; set "
            "`gpus`, such as `execution.stages: {train: {gpus: 1}, sample: {gpus: 1}}`"
        )
    if execution.gpus == 0 and uses_gpus:
        raise InputError(
            "`execution.gpus: 0` means the CPU, but `execution.stages` asks for GPUs; leave one of them out"
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
