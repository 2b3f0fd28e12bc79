"""Jobs for workers, in a module that they find by its name."""

import logging
import os
import signal
import time
from pathlib import Path

from al_engine.errors import InputError
from al_engine.files.part_file import write_part


def fatal_job(*, progress, folder, deaths):
    """Kill this worker as often as told, then return its process id."""
    del progress
    for number in range(deaths):
        try:
            (Path(folder) / f"death{number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def slow_job(*, progress, seconds):
    progress(1, 2)
    time.sleep(seconds)
    return os.getpid()


def chatty_job(*, progress):
    """Report for ever."""
    while True:
        progress(1, 2, "still here")


def noisy_job(*, progress, name):
    """Report, log, and return."""
    logging.getLogger("models.inference.compiled").info("compiling")
    progress(3, 7, "force error 40 meV/Å")
    logging.getLogger("models.inference.compiled").info("compiled in %d s", 42)
    logging.getLogger("another.library").warning("nobody wants to know")
    return [name, 0.1, None, float("inf")]


def quiet_job(*, progress):
    """Log without a report: the messages of the job before must not come again."""
    del progress
    logging.getLogger("models.inference.compiled").info("another job")


def diverging_job(*, progress):
    """Raise an error for the user, of a class that the parent may not know."""
    from models.training.trainer import DivergedError  # loads torch, which the workers of other jobs need not

    del progress
    raise DivergedError("the training diverged; lower training.learning_rate")


def faulty_job(*, progress):
    """Raise an error that is a bug."""
    del progress
    raise ZeroDivisionError("a bug of the job")


def device_job(*, progress, seconds):
    """Say which GPU this worker sees."""
    progress(0, 1)
    time.sleep(seconds)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def part_job(work, *, value):
    """Write a number into the part, as the machine has its inputs."""
    assert [path.name for path in (work.directory / "inputs").iterdir()] == ["water.xyz"]
    (work.directory / "runs").open("a").write("x")
    with work.write() as root:
        root["value"] = value
        for name in work.parts.names:
            with work.parts.open(name) as parent:
                root[name] = parent["value"][()]


def faulty_part_job(work, *, kind):
    """Write what is not the part of the call."""
    if kind == "rubbish":
        work.path().write_bytes(b"rubbish")
        return
    if kind == "words":
        raise InputError(f"{work.directory}/inputs: are no good")
    with write_part(work.path(), kind=work.outputs[0].name, key="another"):
        pass


def store_losing_job(work, *, store):
    """Make the store unreachable, then write the part."""
    Path(store).rename(f"{store}-gone")
    with work.write() as root:
        root["value"] = 1


def worker_killing_job(work, *, folder):
    """Kill the worker of Dask in the middle of the job, once; the next attempt finds the progress of the first."""
    journal = work.helper(".journal")
    if not journal.exists():
        journal.write_text("half")
        (Path(folder) / "killed").touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60.0)
    with work.write() as root:
        root["value"] = journal.read_text()
