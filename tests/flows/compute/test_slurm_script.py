"""`examples/slurm.sh`: the job that conducts a campaign submits itself again at its time limit, and only then."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "examples" / "slurm.sh"
ENDS = "exit {status}"
WAITS = "trap 'exit {status}' TERM; touch started; while true; do sleep 0.1; done"


@pytest.mark.parametrize(
    ("program", "status", "submitted"),
    [(WAITS, 4, True), (WAITS, 0, False), (WAITS, 1, False), (ENDS, 4, False), (ENDS, 3, False)],
)
def test_it_submits_itself_again_at_its_time_limit_alone(program, status, submitted, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    run = program.format(status=status)
    for name, text in (("al-engine", f'echo "$@" "$PREFECT_HOME" > run; {run}'), ("sbatch", 'echo "$@" > submitted')):
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": "/local", "SLURM_JOB_ID": "7"}
    with subprocess.Popen(["bash", SCRIPT, "runs/my own"], cwd=tmp_path, env=environment) as job:
        if program == WAITS:
            while not (tmp_path / "started").exists():
                time.sleep(0.05)
            job.send_signal(signal.SIGTERM)
        assert job.wait(30) == status
    assert (tmp_path / "run").read_text().startswith("resume runs/my own /local/al-engine-prefect-")
    assert (tmp_path / "submitted").exists() == submitted
    if submitted:
        assert (tmp_path / "submitted").read_text() == f"{SCRIPT} runs/my own\n"
