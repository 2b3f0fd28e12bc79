"""A labeler for worker processes that fails on demand: the frame's charge is the number of the fault."""

import os
import signal
import sys
import time
from enum import IntEnum

import numpy as np

from al_engine.campaign.labels import LabelReason
from labelers.backends.protocol import LabelError


class Fault(IntEnum):
    NONE = 0
    SEGFAULT = 1
    HANG = 2
    NAN_ENERGY = 3
    INFINITE_FORCE = 4
    RAISE = 5
    FLOOD = 6
    WRONG_SHAPE = 7
    ABSURD = 8
    EXIT = 9
    NOT_CONVERGED = 10
    REPORT = 11
    SLOW = 12
    HUNGRY = 13


def report():
    """Facts about a worker that tests check: heavy modules, thread settings, process id."""
    heavy = [name for name in ("torch", "prefect", "e3nn", "openmm", "rdkit", "matplotlib") if name in sys.modules]
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    return {"heavy": heavy, "threads": threads, "pid": os.getpid()}


def raise_fault(fault):
    """Raise the exception of a fault that is an exception."""
    match fault:
        case Fault.RAISE:
            raise ZeroDivisionError("by zero")
        case Fault.NOT_CONVERGED:
            raise LabelError(LabelReason.NOT_CONVERGED, "no luck")
        case Fault.REPORT:
            raise LabelError(LabelReason.BACKEND_ERROR, repr(report()))


def misbehave(fault):
    """Do to the worker process what a fault does before or instead of labelling."""
    match fault:
        case Fault.SEGFAULT:
            os.kill(os.getpid(), signal.SIGSEGV)
        case Fault.EXIT:
            os._exit(3)
        case Fault.HANG:
            while True:
                time.sleep(3600.0)
        case Fault.SLOW:
            time.sleep(0.3)
        case Fault.HUNGRY:
            np.ones(2**28)
        case Fault.FLOOD:
            for _ in range(2000):
                os.write(1, b"x" * 1000)
                os.write(2, b"x" * 1000)


def spoiled(fault, energy, forces):
    """The energy and forces that the backend returns with a fault."""
    match fault:
        case Fault.NAN_ENERGY:
            return float("nan"), forces
        case Fault.INFINITE_FORCE:
            return energy, np.where(forces == forces[0, 0], np.inf, forces)
        case Fault.WRONG_SHAPE:
            return energy, forces[:, :2]
        case Fault.ABSURD:
            return energy, forces + 1e6
    return energy, forces


class FaultyLabeler:
    def label(self, frame):
        fault = Fault(frame.charge)
        raise_fault(fault)
        misbehave(fault)
        return spoiled(fault, float(frame.positions.sum()), 2.0 * frame.positions)


def create(config):
    del config
    return FaultyLabeler()


def slow_to_build(config):
    time.sleep(2.0)
    return create(config)


def unbuildable(config):
    raise RuntimeError(f"no {config.backend} today")


def dies_at_start(config):
    del config
    os.kill(os.getpid(), signal.SIGSEGV)
