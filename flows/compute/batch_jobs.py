"""Batch jobs of Slurm, PBS, LSF and SGE, as dask-jobqueue submits them: what is asked for, and what becomes of it.

Dask counts on a worker from the moment that its batch job was submitted, also if the batch system refused the job, or
the job ended before its worker had reached the scheduler. `WatchedJobs` notices both.
"""

import getpass
import math
import os
import re
import shlex
import subprocess
import sys
from asyncio import to_thread
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_jobqueue.lsf import LSFCluster
from dask_jobqueue.pbs import PBSCluster
from dask_jobqueue.sge import SGECluster
from dask_jobqueue.slurm import SLURMCluster
from distributed.core import Status
from distributed.deploy.adaptive import Adaptive
from distributed.security import Security

from al_engine.child_process import SINGLE_THREADED
from al_engine.config import ClusterConfig, Resources
from al_engine.errors import InputError

ATTEMPTS = 3
"""Number of times in a row that batch jobs may be refused or end without a worker, while no worker is there."""
LOOKS = 2
"""Looks at the queue in which a job must be missing: LSF shows a job only seconds after it was submitted."""
ASK_S = 60.0
"""Longest time that the batch system may take to list the jobs, s."""
MB_PER_GB = 1000
SPECIAL = re.compile(r"[\s\"'\\$`&|;<>()*?\[\]{}!#%]")
"""Characters that a shell, or a directive of a batch system, does not take as they are."""


@dataclass(frozen=True, slots=True)
class BatchSystem:
    """A batch system.

    Attributes:
        cluster: The cluster of dask-jobqueue.
        listing: Command that lists the jobs of `{user}` that have not ended, with their ids in the first column.
        asks_for_gpus: Whether a number of GPUs is asked for in the same way on all clusters with this system.
    """

    cluster: Any
    listing: tuple[str, ...]
    asks_for_gpus: bool


BATCH_SYSTEMS: Mapping[str, BatchSystem] = {
    "slurm": BatchSystem(SLURMCluster, ("squeue", "-h", "-u", "{user}", "-o", "%A"), asks_for_gpus=True),
    "pbs": BatchSystem(PBSCluster, ("qstat", "-u", "{user}"), asks_for_gpus=True),
    "lsf": BatchSystem(LSFCluster, ("bjobs",), asks_for_gpus=False),
    "sge": BatchSystem(SGECluster, ("qstat", "-u", "{user}"), asks_for_gpus=False),
}


def refuse_batch_jobs(cluster: ClusterConfig, resources: Resources, folder: Path) -> None:
    """Refuse resources, and a folder, that a script for the batch system cannot name.

    Args:
        cluster: The config section.
        resources: Resources of a job.
        folder: Folder for credentials and logs, within the campaign directory.

    Raises:
        InputError: The message names the path or the option.
    """
    if SPECIAL.search(str(folder)):
        raise InputError(
            f"{folder.parent}: scripts of batch systems cannot name this path: give the campaign a directory whose "
            "path has neither spaces nor special characters"
        )
    name = cluster.scheduler
    if resources.gpus and not BATCH_SYSTEMS[name].asks_for_gpus and not _names_gpus(resources):
        raise InputError(
            f"execution.stages: `gpus: {resources.gpus}`: clusters with {name.upper()} differ in how a job asks for "
            "GPUs: give the option as `directives` of the stage, such as "
            + ("`-gpu num=1`" if name == "lsf" else "`-l gpu=1`")
        )
    if name == "sge" and resources.cores > 1 and not any(line.split()[0] == "-pe" for line in resources.directives):
        raise InputError(
            f"execution.stages: `cores: {resources.cores}`: for several cores SGE needs a parallel environment, whose "
            f"name the cluster decides: give it as `directives` of the stage, such as `-pe smp {resources.cores}`"
        )


def _names_gpus(resources: Resources) -> bool:
    """Whether a directive asks for GPUs."""
    return any("gpu" in line or "gres" in line for line in resources.directives)


def batch_options(cluster: ClusterConfig, resources: Resources, folder: Path) -> dict[str, Any]:
    """The arguments of dask-jobqueue's clusters for jobs with such resources: a batch job is one worker.

    Args:
        cluster: The config section.
        resources: Resources of a job.
        folder: Folder for credentials and logs, which all machines see.
    """
    options = {
        "cores": 1,  # threads of the worker: it runs one job at a time, which has all cores of the batch job
        "processes": 1,
        "memory": resources.memory,
        "walltime": walltime_text(cluster),
        "interface": cluster.interface,
        ("account" if cluster.scheduler in {"slurm", "pbs"} else "project"): cluster.account,
        "queue": resources.queue,
        "python": shlex.quote(sys.executable),
        "job_name": "al-engine",
        "job_extra_directives": list(resources.directives),
        "job_script_prologue": [
            *cluster.prologue,
            *(f"export {name}={value}" for name, value in SINGLE_THREADED.items()),
            f"export PYTHONPATH={shlex.quote(os.pathsep.join(path for path in sys.path if path))}",
        ],
        "worker_extra_args": ["--resources", "GPU=1"] if resources.gpus else [],
        "log_directory": str(folder),
        "local_directory": "/tmp",  # noqa: S108 (of the compute node; Dask makes a folder of its own in it)
        "security": Security.temporary(),
        "protocol": "tls://",
        "shared_temp_directory": str(folder),
        "scheduler_options": {"dashboard_address": None},
    }
    asks = resources.gpus > 0 and not _names_gpus(resources)
    if cluster.scheduler == "slurm":
        options["job_cpu"] = resources.cores
        options["job_extra_directives"] += [f"--gpus={resources.gpus}"] if asks else []
    elif cluster.scheduler == "pbs":
        options["resource_spec"] = f"select=1:ncpus={resources.cores}:mem={resources.memory}" + (
            f":ngpus={resources.gpus}" if asks else ""
        )
    elif cluster.scheduler == "lsf":
        options["ncpus"] = resources.cores
    else:
        megabytes = int(resources.memory[:-2]) * (MB_PER_GB if resources.memory.endswith("GB") else 1)
        options["resource_spec"] = f"h_vmem={math.ceil(megabytes / resources.cores)}M"  # of each slot
    return options


def walltime_text(cluster: ClusterConfig) -> str:
    """The time limit of a batch job as its system takes it: only Slurm knows days, and LSF takes no seconds."""
    if cluster.scheduler == "slurm":
        return cluster.walltime
    days, _, clock = cluster.walltime.rpartition("-")
    hours, minutes, seconds = (int(number) for number in clock.split(":"))
    hours += 24 * int(days or 0)
    if cluster.scheduler != "lsf":
        return f"{hours:02d}:{minutes:02d}:{seconds:02d}"
    minutes += 60 * hours + (seconds > 0)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def watched_cluster(
    cluster: ClusterConfig, resources: Resources, folder: Path, *, jobs: int, interval_s: float, idle_looks: int
) -> tuple[Any, "WatchedJobs"]:
    """A cluster of dask-jobqueue whose batch jobs are submitted when there is work for them, and what watches them.

    Args:
        cluster: The config section.
        resources: Resources of a job.
        folder: Folder for credentials and logs, which all machines see.
        jobs: Largest number of batch jobs at a time.
        interval_s: Time between two looks at how many are needed, s.
        idle_looks: Number of looks after which an idle batch job is ended.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    system = BATCH_SYSTEMS[cluster.scheduler]
    options = batch_options(cluster, resources, folder)
    started = system.cluster(job_cls=_noting(system.cluster.job_cls), **options)

    def watched(own: Any, **adaptive: Any) -> WatchedJobs:
        return WatchedJobs(own, system=system, folder=folder, **adaptive)

    watch: WatchedJobs = started.adapt(
        Adaptive=watched, minimum=0, maximum_jobs=jobs, interval=f"{interval_s}s", wait_count=idle_looks
    )
    return started, watch


def _noting(job_class: Any) -> Any:
    """A class of jobs of dask-jobqueue that note why they were refused. An exception would be lost in Dask's loop."""

    class NotingJob(job_class):
        refusal = ""
        heard = False  # whether its worker was there
        missed = 0  # looks at the queue in which the job was missing

        async def start(self) -> None:
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:
                self.refusal = _words(error)
                self.status = Status.running  # Dask accepts no other status; `WatchedJobs` drops the job

    return NotingJob


def _words(error: Exception) -> str:
    """What the batch system said in an error of dask-jobqueue, which repeats the command and its whole output."""
    said = str(error).rpartition("stderr:\n")[2]
    return " ".join((said if said.strip() else str(error)).split())


class WatchedJobs(Adaptive):
    """Asks for as many batch jobs as there is work for, and submits again jobs that brought no worker.

    Args:
        cluster: The cluster of dask-jobqueue.
        system: The batch system.
        folder: Folder of the logs of batch jobs.
        options: Options of `Adaptive`.

    Attributes:
        trouble: Why no further job is submitted; empty while all is well.
    """

    def __init__(self, cluster: Any, *, system: BatchSystem, folder: Path, **options: Any) -> None:
        super().__init__(cluster, **options)
        self.trouble = ""
        self._system, self._folder = system, folder
        self._in_vain = 0

    async def adapt(self) -> None:
        """One look: drop the jobs that brought no worker, and ask for as many as are needed."""
        if not self.trouble:
            await self._drop_vain_jobs()
        if not self.trouble:
            await super().adapt()

    async def _drop_vain_jobs(self) -> None:
        cluster: Any = self.cluster
        there = set(cluster.observed)
        for name in there & cluster.workers.keys():
            cluster.workers[name].heard = True
        unheard = {name: job for name, job in cluster.workers.items() if not job.heard}
        submitted = [job for job in unheard.values() if job.job_id]
        queued = await to_thread(self._queued) if submitted else None
        for job in submitted:
            job.missed += queued is not None and job.job_id not in queued
        vain = {name: job for name, job in unheard.items() if job.refusal or job.missed >= LOOKS}
        for name in vain:
            cluster.worker_spec.pop(name, None)
        if vain:
            await cluster  # forgets them, so that others are submitted in their place
        self._in_vain = 0 if there else self._in_vain + bool(vain)
        if self._in_vain >= ATTEMPTS:
            refusals = [job.refusal for job in vain.values() if job.refusal]
            self.trouble = (
                f"the batch system refuses the jobs: {refusals[0]}"
                if refusals
                else f"batch jobs ended before their workers had reached this process, {ATTEMPTS} times in a row; "
                f"their output is in {self._folder}"
            )

    def _queued(self) -> set[str] | None:
        """Ids of the user's jobs that wait or run; None if the batch system does not answer."""
        try:
            command = [word.format(user=getpass.getuser()) for word in self._system.listing]
            listed = subprocess.run(  # noqa: S603 (a command of the batch system)
                command, capture_output=True, text=True, check=False, timeout=ASK_S
            )
        except (OSError, KeyError, subprocess.TimeoutExpired):  # KeyError: a user without a name, before Python 3.13
            return None
        nothing = "No unfinished job" in listed.stderr  # LSF ends with an error if there are no jobs
        if listed.returncode != 0 and not nothing:
            return None
        return set(re.findall(r"^\s*(\d+)", listed.stdout, re.MULTILINE))
