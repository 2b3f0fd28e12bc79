"""What is asked of a batch system: the script of a job, as dask-jobqueue writes it."""

import pytest

from al_engine.config import ExecutionConfig
from al_engine.config.reader import parse_config
from al_engine.errors import InputError

dask_cluster = pytest.importorskip("flows.compute.dask_cluster")


def script(execution, kind, folder):
    """The script of a batch job for a stage."""
    config = ExecutionConfig.model_validate({"executor": "dask", **execution})
    options = dask_cluster.batch_options(config.cluster, config.resources(kind), folder)
    own = {key: value for key, value in options.items() if key not in ("scheduler_options", "shared_temp_directory")}
    job = dask_cluster.BATCH_SYSTEMS[config.cluster.scheduler].job_cls
    return job(scheduler="tls://10.0.0.1:4000", name="1", **own).job_script()


def test_slurm_jobs_have_the_resources_of_their_stage(tmp_path):
    execution = {
        "stages": {"all": {"cores": 8, "memory": "16GB"}, "train": {"gpus": 1, "cores": 2, "queue": "a100"}},
        "cluster": {
            "scheduler": "slurm", "queue": "normal", "account": "chem", "walltime": "08:00:00", "interface": "lo",
            "directives": ["--exclusive=user"], "prologue": ["module load gcc"],
        },
    }  # fmt: skip
    label, train = script(execution, "label", tmp_path), script(execution, "train", tmp_path)
    for line in ("-p normal", "-A chem", "--cpus-per-task=8", "--mem=15G", "-t 08:00:00", "--exclusive=user"):
        assert f"#SBATCH {line}" in label
    for line in ("-p a100", "--cpus-per-task=2", "--gpus=1"):
        assert f"#SBATCH {line}" in train
    assert "module load gcc" in label
    assert "OMP_NUM_THREADS=1" in label
    assert "--nthreads 1" in label
    assert "GPU=1" in train
    assert "gpu" not in label.lower()


def test_a_directive_that_names_gpus_replaces_ours(tmp_path):
    execution = {
        "stages": {"train": {"gpus": 1}},
        "cluster": {"scheduler": "slurm", "interface": "lo", "directives": ["--gres=gpu:a100:1"]},
    }
    found = script(execution, "train", tmp_path)
    assert "#SBATCH --gres=gpu:a100:1" in found
    assert "--gpus" not in found


@pytest.mark.parametrize(
    ("scheduler", "lines"),
    [
        ("pbs", ["#PBS -l select=1:ncpus=4:mem=8GB:ngpus=1", "#PBS -q long"]),
        ("lsf", ["#BSUB -n 4", "#BSUB -q long", "#BSUB -M 8000"]),
        ("sge", ["#$ -l h_vmem=8GB", "#$ -q long"]),
    ],
)
def test_other_batch_systems(scheduler, lines, tmp_path):
    execution = {
        "stages": {"all": {"cores": 4, "memory": "8GB", "gpus": 1}},
        "cluster": {"scheduler": scheduler, "queue": "long", "interface": "lo"},
    }
    found = script(execution, "sample", tmp_path)
    for line in lines:
        assert line in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{executor: ray, cluster: {scheduler: slurm}}", "for `executor: dask` only"),
        ("{executor: dask, stages: {train: {gpus: 1}}}", "use `executor: local`"),
        ("{stages: {training: {gpus: 1}}}", "execution.stages"),
        ("{stages: {train: {memory: 8}}}", "memory"),
        ("{stages: {train: {memory: '8 GiB'}}}", "memory"),
        ("{cluster: {walltime: '8h'}}", "walltime"),
    ],
)
def test_wrong_resources_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_config(f"name: a\nsystem: {{smiles: O}}\nexecution: {text}\n", source="test")
