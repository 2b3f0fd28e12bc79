"""Config section `execution`: where stages are computed, and with what."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from al_engine.config.base import Section

Acceleration: TypeAlias = Literal["auto", "kernels", "graph", "off"]
StageKind: TypeAlias = Literal["initial", "train", "sample", "label", "other"]
"""Stages that may have resources of their own. `other`: stages that compute for seconds, such as the selection."""
Size = Annotated[str, Field(pattern=r"^[1-9][0-9]*(MB|GB)$")]
StoreURL = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://.+$")]
AbsoluteFolder = Annotated[str, Field(pattern=r"^[/~]")]
Walltime = Annotated[str, Field(pattern=r"^([0-9]+-)?[0-9]{1,3}:[0-5][0-9]:[0-5][0-9]$")]


class StageResources(Section):
    """What the jobs of a stage get, and how many of them run at a time. null: the value of `all`."""

    at_once: PositiveInt | None = Field(
        None,
        le=10_000,
        description=(
            "Largest number of jobs at a time. null for `all`: on this machine as its cores or GPUs allow, on a batch "
            "system 4."
        ),
    )
    cores: PositiveInt | None = Field(
        None,
        le=1024,
        description=(
            "Cores of a job. A job that labels uses all of them, a label on each; training and MD on a CPU use one. "
            "null for `all`: 1."
        ),
    )
    gpus: NonNegativeInt | None = Field(
        None, le=16, description="GPUs of a job, which uses one; 0: it runs on a CPU. null for `all`: 0."
    )
    memory: Size | None = Field(
        None, description="Memory of a job in a batch system or in Ray, such as `8GB`. null for `all`: `4GB`."
    )
    time_limit_s: PositiveFloat | None = Field(
        None, description="Time after which a job is killed and tried again, s. null for `all`: no limit."
    )
    retries: NonNegativeInt | None = Field(
        None,
        le=100,
        description="How often a job is tried again after its process or machine was lost. null for `all`: 1.",
    )
    queue: str | None = Field(
        None, min_length=1, description="Queue or partition of the batch system. null for `all`: `cluster.queue`."
    )
    directives: list[str] | None = Field(
        None,
        description=(
            "Further options of the batch jobs of this stage, such as `--gres=gpu:a100:1`; they are added to "
            "`cluster.directives`. null for `all`: none."
        ),
    )


class ClusterConfig(Section):
    """The cluster of Dask or Ray that takes the jobs, for `executor: dask` and `executor: ray`."""

    scheduler: Literal["local", "slurm", "pbs", "lsf", "sge"] = Field(
        "local",
        description=(
            "What starts the workers. `local`: they are processes of this machine. A batch system: every worker is a "
            "batch job, submitted by dask-jobqueue when it is needed, and ended when it has been idle for five "
            "minutes; for Dask only."
        ),
    )
    address: str | None = Field(
        None,
        min_length=1,
        description=(
            "Address of a Dask scheduler or Ray cluster that runs already, such as `tcp://10.0.0.1:8786`; `scheduler` "
            "is not used then. Workers of Dask that have a GPU must offer it: `dask worker --resources GPU=1`. null: "
            "a cluster is started, and ended with the campaign."
        ),
    )
    queue: str | None = Field(None, min_length=1, description="Queue or partition of the batch system.")
    account: str | None = Field(
        None, min_length=1, description="Account or project that the batch jobs are charged to."
    )
    walltime: Walltime = Field(
        "24:00:00",
        description=(
            "Time limit of a batch job, which may run many jobs of stages: `hours:minutes:seconds` or "
            "`days-hours:minutes:seconds`."
        ),
    )
    interface: str | None = Field(
        None,
        min_length=1,
        description="Network interface over which workers and scheduler talk, such as `ib0`. null: the default.",
    )
    directives: list[str] = Field(
        default_factory=list,
        description=(
            "Further options of the batch jobs of all stages, such as `--exclusive`. Options that ask for GPUs belong "
            "to the stages that use them: `stages.train.directives`. With `gpus`, Slurm is asked by `--gpus=N` and PBS "
            "by `ngpus=N` if no directive names GPUs; LSF and SGE need a directive. SGE needs one that names a "
            "parallel environment, such as `-pe smp 4`, for jobs of several cores."
        ),
    )
    prologue: list[str] = Field(
        default_factory=list,
        description="Shell commands at the start of a batch job, such as `module load gcc`.",
    )


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of the jobs of a stage, with nothing left open: see `StageResources`.

    Attributes:
        at_once: Jobs at a time; None: as the executor decides.
        cores: Cores of a job.
        gpus: GPUs of a job.
        memory: Memory of a job.
        time_limit_s: Time limit of a job, s; None: none.
        retries: Further attempts after a loss.
        queue: Queue of the batch system; None: its default.
        directives: Further options of a batch job.
    """

    at_once: int | None
    cores: int
    gpus: int
    memory: str
    time_limit_s: float | None
    retries: int
    queue: str | None
    directives: tuple[str, ...] = ()


class ExecutionConfig(Section):
    """Where stages are computed. These options may change at any time: they change results by no more than rounding."""

    executor: Literal["local", "dask", "ray"] = Field(
        "local",
        description=(
            "What computes the stages. `local`: processes of this machine. `dask`: a Dask cluster, on this machine or "
            "on a batch system such as Slurm (extra `al-engine[dask]`). `ray`: a Ray cluster (extra `al-engine[ray]`). "
            "docs/scaling.md shows configs for each."
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Device on which models train and run. `auto`: a GPU if there is one, otherwise the CPU."
    )
    workers: PositiveInt | None = Field(
        None,
        le=1024,
        description=(
            "Number of worker processes of this machine. null: one per core that may be used; with GPUs, one process "
            "per GPU trains and samples."
        ),
    )
    gpus: NonNegativeInt | None = Field(
        None,
        le=64,
        description=(
            "Number of GPUs of this machine that are used; 0: the CPU is used. null: all that are visible "
            "(`CUDA_VISIBLE_DEVICES`). "
            "Members and temperatures are shared out among them."
        ),
    )
    stages: dict[Literal["all", StageKind], StageResources] = Field(
        default_factory=dict,
        description=(
            "Resources of the jobs of a stage, by its name, for executors other than `local`: `initial`, `train`, "
            "`sample`, `label`, `other`, and `all` for the values that the others do not name. Such as `{all: {cores: "
            "4}, train: {gpus: 1, at_once: 4}}`."
        ),
    )
    cluster: ClusterConfig = Field(
        default_factory=ClusterConfig, description="The cluster of Dask or Ray that takes the jobs."
    )
    overlap: bool = Field(
        default=False,
        description=(
            "Label candidates of temperatures that are sampled while other temperatures are still sampled, as long as "
            "they are fewer than `selection.max_labels`. Worth it if labels take long, and cores would be idle during "
            "the MD."
        ),
    )
    acceleration: Acceleration = Field(
        "auto",
        description=(
            "How models are evaluated. `off`: plain PyTorch. `kernels`: C++ kernels for the CPU, compiled within "
            "seconds at their first use (needs g++ or clang++; without a compiler, a warning is printed and plain "
            "PyTorch is used). `graph`: with the kernels, and with energies and forces compiled as a whole by "
            "PyTorch, which takes a minute. `auto`: on a CPU `kernels`, and the MD of small clusters is traced and "
            "replayed; on a GPU `graph`, where a run is long enough. With kernels, the updates of a training are "
            "traced and replayed too."
        ),
    )
    lock: Literal["auto", "file", "none"] = Field(
        "auto",
        description=(
            "What prevents a second run of the same campaign. `auto`: a lock of the file system, which ends with its "
            "process. `file`: a file that the run renews, for file systems without locks; the file of a killed run "
            "becomes invalid at once on the same machine, and after 90 s on other machines. `none`: nothing; never "
            "start two runs of a campaign then."
        ),
    )
    label_cache: str | None = Field(
        None,
        description=(
            "File of labels that several campaigns share, such as `~/labels.sqlite`. A frame that was labelled once "
            "at a level of theory is not labelled at that level again. null: the campaign's own file, `labels.sqlite` "
            "in its directory."
        ),
    )

    store: StoreURL | None = Field(
        None,
        description=(
            "Object store through which parts travel to machines that do not see the campaign directory, such as "
            "`s3://bucket/prefix` (extra `al-engine[s3]`) or `file:///folder`. The machines find their credentials as "
            "for other programs (`AWS_ACCESS_KEY_ID`, ...). For `dask` and `ray`. null: all machines see the campaign "
            "directory at the same path."
        ),
    )
    scratch: AbsoluteFolder | None = Field(
        None,
        description=(
            "Folder of the machines of a cluster for copies of what they fetch from `store`. null: the folder of "
            "temporary files (`TMPDIR`)."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.executor == "ray" and self.cluster.scheduler != "local":
            raise ValueError(
                "`cluster.scheduler` starts batch jobs for `executor: dask` only; for Ray, start a cluster within a "
                "batch job and give its address as `cluster.address`"
            )
        kind, _, place = (self.store or "").partition("://")
        if kind == "memory" or (kind in {"file", "local"} and not place.startswith("/")):
            raise ValueError(
                f"`store: {self.store}` is nothing that other machines read; a folder is given as `file:///folder`"
            )
        starts_workers = self.cluster.address is None and self.cluster.scheduler == "local"
        if self.executor == "dask" and starts_workers and any(stage.gpus for stage in self.stages.values()):
            raise ValueError(
                "workers that Dask starts on this machine would all see its first GPU: use `executor: local`, which "
                "shares the GPUs out, or start workers yourself and give `cluster.address`"
            )
        return self

    def resources(self, kind: StageKind) -> Resources:
        """The resources of the jobs of a stage.

        An option that the stage does not set has the value of `all`; one that `all` does not set either, its default.
        """
        given = [self.stages[name] for name in (kind, "all") if name in self.stages]

        def first(name: str, default: Any) -> Any:
            values = (getattr(each, name) for each in given)
            return next((value for value in values if value is not None), default)

        return Resources(
            at_once=first("at_once", None),
            cores=first("cores", 1),
            gpus=first("gpus", 0),
            memory=first("memory", "4GB"),
            time_limit_s=first("time_limit_s", None),
            retries=first("retries", 1),
            queue=first("queue", self.cluster.queue),
            directives=(*self.cluster.directives, *first("directives", ())),
        )

    def resources_of_stages(self) -> dict[StageKind, Resources]:
        """The resources of the jobs of each stage."""
        return {kind: self.resources(kind) for kind in get_args(StageKind)}
