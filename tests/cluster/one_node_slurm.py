"""A real Slurm on this machine, with GPUs that do not exist; everything it writes lies in one folder.

It needs root, and Debian's packages slurm-wlm and munge.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
START_LIMIT_S = 60
CPUS = 4
"""CPUs that Slurm hands out, also if the machine has fewer: idle jobs of one queue keep theirs for five minutes, and
those of the other must not wait for them."""
SLURM_CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={controller}
SlurmdPort={daemon}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
MinJobAge=300
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes={host} MaxTime=60 State=UP
"""
GRES_CONF = """\
NodeName={host} Name=gpu File=/dev/null Count=1
NodeName={host} Name=gpu File=/dev/zero Count=1
"""
CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
ConstrainCores=no
ConstrainDevices=no
ConstrainRAMSpace=no
"""


def is_possible():
    """Whether Slurm can be started here."""
    return os.geteuid() == 0 and all(shutil.which(program) for program in PROGRAMS)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def slurm(folder):
    """A running Slurm; gives the environment in which its commands find it."""
    folder = Path(folder)
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    values = {"folder": folder, "host": socket.gethostname().split(".")[0], "cpus": CPUS}
    values |= {"controller": _free_port(), "daemon": _free_port()}
    for name, text in (("slurm.conf", SLURM_CONF), ("gres.conf", GRES_CONF), ("cgroup.conf", CGROUP_CONF)):
        (folder / name).write_text(text.format(**values))
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    commands = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-c"],
    ]
    with ExitStack() as running:
        for command in commands:
            log = running.enter_context((folder / f"{command[0]}.out").open("wb"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            running.callback(_end, process)
            time.sleep(1.0)
        deadline = time.monotonic() + START_LIMIT_S
        while "idle" not in _output(["sinfo", "-h", "-o", "%T"], environment):
            if time.monotonic() > deadline:
                raise RuntimeError("\n".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.out"))))
            time.sleep(0.5)
        yield environment
        subprocess.run(["scancel", "--signal=KILL", "--full", "--user=root"], env=environment, check=False)


def _end(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _output(command, environment):
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def jobs(environment, queue=None):
    """Ids of the running jobs, of all queues or of one."""
    return _output(["squeue", "-h", "-t", "R", "-o", "%A", *(["-p", queue] if queue else [])], environment).split()
