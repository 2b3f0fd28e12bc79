"""A flow that is interrupted while Prefect sets up its task; prints what Prefect made of it, if it is known."""

import os
import signal
import sys
import time

import prefect.task_engine
from prefect import flow, task

from flows.session.interrupts import Interrupts

create = prefect.task_engine._create_task_run_locally


@task
def work():
    """Is never begun."""


@flow
def inner():
    work()


@flow
def outer():
    inner()


for number in (signal.SIGTERM, signal.SIGINT):

    def interrupted(*arguments, number=number, **options):
        os.kill(os.getpid(), number)
        time.sleep(0.05)  # the signal arrives
        return create(*arguments, **options)

    prefect.task_engine._create_task_run_locally = interrupted
    with Interrupts() as interrupts:
        try:
            outer(return_state=True).result()
        except Exception as error:  # noqa: BLE001 (whatever Prefect makes of it)
            made = type(error).__name__
        try:
            interrupts.check()
        except KeyboardInterrupt:
            sys.stdout.write(f"{number.name}: {made}, known\n")
