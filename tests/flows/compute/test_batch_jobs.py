"""What is asked of a batch system: the script of a job, as dask-jobqueue writes it; jobs that never begin."""

import os

import pytest
from worker_jobs import slow_job

from al_engine.config import ExecutionConfig
from al_engine.config.reader import parse_config
from al_engine.errors import InputError, ResumableError
from al_engine.protocols import silent
from flows.compute.worker_pool import request_of, result_of

batch_jobs = pytest.importorskip("flows.compute.batch_jobs")
dask_cluster = pytest.importorskip("flows.compute.dask_cluster")


def configured(execution):
    return ExecutionConfig.model_validate({"executor": "dask", **execution})


def script(execution, kind, folder):
    """The script of a batch job for a stage."""
    config = configured(execution)
    options = batch_jobs.batch_options(config.cluster, config.resources(kind), folder)
    own = {key: value for key, value in options.items() if key not in ("scheduler_options", "shared_temp_directory")}
    job = batch_jobs.BATCH_SYSTEMS[config.cluster.scheduler].cluster.job_cls
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


def test_directives_of_a_stage_are_added_to_those_of_all_and_may_name_the_gpus(tmp_path):
    execution = {
        "stages": {"train": {"gpus": 1, "directives": ["--gres=gpu:a100:1"]}},
        "cluster": {"scheduler": "slurm", "interface": "lo", "directives": ["--exclusive=user"]},
    }
    train, label = (script(execution, kind, tmp_path) for kind in ("train", "label"))
    assert "#SBATCH --gres=gpu:a100:1" in train
    assert "--gpus" not in train
    assert "gres" not in label
    for found in (train, label):
        assert "#SBATCH --exclusive=user" in found


@pytest.mark.parametrize(
    ("scheduler", "directives", "lines"),
    [
        ("slurm", [], ["#SBATCH -t 1-02:30:15\n", "#SBATCH --mem=8G\n", "#SBATCH --gpus=1\n"]),
        ("pbs", [], ["#PBS -l select=1:ncpus=4:mem=8GB:ngpus=1\n", "#PBS -q long", "#PBS -l walltime=26:30:15\n"]),
        (
            "lsf",
            ["-gpu num=1"],
            ["#BSUB -n 4", "#BSUB -q long", "#BSUB -M 8000", "#BSUB -W 26:31\n", "#BSUB -gpu num=1\n"],
        ),
        (
            "sge",
            ["-l gpu=1", "-pe smp 4"],
            ["#$ -l h_vmem=2000M\n", "#$ -q long", "#$ -l h_rt=26:30:15\n", "#$ -l gpu=1\n", "#$ -pe smp 4\n"],
        ),
    ],
)
def test_each_batch_system_has_its_own_words(scheduler, directives, lines, tmp_path):
    execution = {
        "stages": {"all": {"cores": 4, "memory": "8GB"}, "sample": {"gpus": 1, "directives": directives}},
        "cluster": {"scheduler": scheduler, "queue": "long", "interface": "lo", "walltime": "1-02:30:15"},
    }
    found = script(execution, "sample", tmp_path)
    for line in lines:
        assert line in found


@pytest.mark.parametrize(
    ("scheduler", "stage", "message"),
    [
        ("lsf", {"gpus": 1}, "`-gpu num=1`"),
        ("sge", {"gpus": 1}, "`-l gpu=1`"),
        ("sge", {"cores": 4}, "`-pe smp 4`"),
    ],
)
def test_what_differs_between_clusters_must_be_given(scheduler, stage, message, tmp_path):
    execution = configured({"stages": {"train": stage}, "cluster": {"scheduler": scheduler, "interface": "lo"}})
    with pytest.raises(InputError, match=message):
        dask_cluster.DaskCluster(execution, tmp_path / ".dask")


@pytest.mark.parametrize("name", ["my runs", "a$b", "it's", "50%"])
def test_a_path_that_a_script_cannot_name_is_refused(name, tmp_path):
    execution = configured({"cluster": {"scheduler": "slurm", "interface": "lo"}})
    with pytest.raises(InputError, match=r"scripts of batch systems cannot name this path"):
        dask_cluster.DaskCluster(execution, tmp_path / name / ".dask")
    dask_cluster.DaskCluster(execution, tmp_path / "größe-1,5_a" / ".dask")


# -- jobs that never begin ----------------------------------------------------------------------------------------


@pytest.fixture
def batch_system(tmp_path, monkeypatch):
    """Makes programs of a batch system from shell scripts; their folder has what they leave."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(dask_cluster, "INTERVAL_S", 0.5)

    def make(**scripts):
        for name, text in scripts.items():
            (programs / name).write_text(f"#!/bin/bash\ncd {programs}\n{text}\n")
            (programs / name).chmod(0o755)
        return programs

    return make


def answer(folder, **options):
    """The answer of a job on Slurm."""
    cluster = {"scheduler": "slurm", "interface": "lo"}
    execution = configured({"stages": {"all": {"memory": "500MB"}}, "cluster": cluster})
    with dask_cluster.dask_cluster(execution, folder / "campaign" / ".dask") as own:
        return own.answer(request_of(slow_job, options), "job", execution.resources("train"), silent)


@pytest.mark.timeout(120)
def test_a_refused_submission_ends_the_wait_with_the_words_of_the_batch_system(batch_system, tmp_path):
    made = batch_system(
        sbatch="echo >> tried; echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1"
    )
    with pytest.raises(ResumableError, match=r"SLURM: .* refuses the jobs: sbatch: error: .*Invalid account\. Correct"):
        answer(tmp_path, seconds=0.0)
    assert len((made / "tried").read_text().splitlines()) == batch_jobs.ATTEMPTS


@pytest.mark.timeout(120)
def test_jobs_that_end_before_their_worker_is_there_end_the_wait(batch_system, tmp_path):
    made = batch_system(sbatch="echo >> tried; echo Submitted batch job $(wc -l < tried)", squeue="", scancel="")
    with pytest.raises(ResumableError, match=r"before their workers had reached this process, 3 times .*/\.dask\."):
        answer(tmp_path, seconds=0.0)
    assert len((made / "tried").read_text().splitlines()) == batch_jobs.ATTEMPTS


@pytest.mark.timeout(240)
def test_a_job_that_ended_before_its_worker_was_there_is_submitted_again(batch_system, tmp_path):
    """The first submission is refused, the second job dies, the third waits in the queue and then runs."""
    made = batch_system(
        sbatch=(
            "echo >> tried; number=$(wc -l < tried); [ $number = 1 ] && exit 1\n"
            'if [ $number = 3 ]; then echo 3 > queued; cp "$1" job; (sleep 4; bash job >job.out 2>&1 &) >&- 2>&-; fi\n'
            "echo Submitted batch job $number"
        ),
        squeue="cat queued 2>/dev/null; true",
        scancel="",
    )
    assert result_of(answer(tmp_path, seconds=0.0)) > 0
    assert len((made / "tried").read_text().splitlines()) == 3
    assert "runs job-" in (made / "job.out").read_text()  # the output says which jobs a worker has run


@pytest.mark.timeout(120)
def test_a_batch_system_that_does_not_answer_loses_no_job(batch_system, tmp_path):
    made = batch_system(
        sbatch=('echo >> tried; cp "$1" job; (sleep 5; bash job >job.out 2>&1 &) >&- 2>&-; echo Submitted batch job 1'),
        squeue="echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1",
        scancel="",
    )
    assert result_of(answer(tmp_path, seconds=0.0)) > 0
    assert len((made / "tried").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{executor: ray, cluster: {scheduler: slurm}}", "for `executor: dask` only"),
        ("{executor: dask, stages: {train: {gpus: 1}}}", "use `executor: local`"),
        ("{stages: {training: {gpus: 1}}}", "execution.stages"),
        ("{stages: {train: {memory: 8}}}", "memory"),
        ("{stages: {train: {memory: '8 GiB'}}}", "memory"),
        ("{cluster: {walltime: '8h'}}", "walltime"),
        ("{stages: {train: {directives: --exclusive}}}", "directives"),
    ],
)
def test_wrong_resources_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_config(f"name: a\nsystem: {{smiles: O}}\nexecution: {text}\n", source="test")
