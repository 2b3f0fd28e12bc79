"""The program of a labelling worker: `python -m labelers.pool.worker SOCKET PARENT`, started by `labelers.pool.pool`.

It builds its labeler once, then answers one frame at a time until the pool is gone. It imports neither torch nor
Prefect, so it starts in half a second and stays small.
"""

import importlib
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection

import numpy as np

from al_engine.campaign.labels import LabelReason
from al_engine.child_process import die_with_parent
from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from labelers.backends.openblas import preload_openblas
from labelers.backends.protocol import FrameChecker, Labeler, LabelError
from labelers.backends.rescue import label_or_rescue
from labelers.pool import wire


def _build(order: wire.Message) -> Labeler:
    config = LabelsConfig.model_validate(order["config"])
    if config.memory_limit_mib is not None:
        limit = config.memory_limit_mib * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if config.backend == "tblite":
        preload_openblas()
    module_name, _, function_name = order["factory"].partition(":")
    labeler: Labeler = getattr(importlib.import_module(module_name), function_name)(config)
    if order["frame"] is not None and isinstance(labeler, FrameChecker):
        labeler.check(wire.frame_from_message(order["frame"]))
    return labeler


def _answer(labeler: Labeler, request: wire.Message) -> wire.Message:
    start = time.perf_counter()
    try:
        energy, forces, rung = label_or_rescue(labeler, wire.frame_from_message(request))
        answer = {"energy": float(energy), "forces": np.asarray(forces, dtype=np.float64).tolist(), "rescue": rung}
    except LabelError as error:
        answer = {"reason": error.reason.value, "message": error.message}
    except Exception as error:  # noqa: BLE001 - whatever a backend raises costs this frame only
        answer = {"reason": LabelReason.BACKEND_ERROR.value, "message": f"{type(error).__name__}: {error}"}
    return {**answer, "seconds": time.perf_counter() - start}


@contextmanager
def _programs_end_with_us() -> Iterator[None]:
    """Let a shell wait for this process's end, however that comes, and then end the programs that it has started.

    They are of its process group, which `worker_process` gives every worker. The kernel ends a worker with the pool,
    but not a worker's programs with the worker.
    """
    # The other end of the shell's input is this process's alone, and closes with it.
    with subprocess.Popen(["/bin/sh", "-c", "read _; kill -KILL 0"], stdin=subprocess.PIPE) as guard:
        try:
            yield
        finally:
            guard.kill()


def serve(connection: Connection) -> None:
    """Build the labeler that the first message orders, then label frame after frame until the pool hangs up."""
    order = wire.receive(connection)
    with _programs_end_with_us() if order["config"]["backend"] == "ase" else nullcontext():
        _serve(connection, order)


def _serve(connection: Connection, order: wire.Message) -> None:
    try:
        labeler = _build(order)
    except InputError as error:
        wire.send(connection, {"fatal": str(error)})
        return
    except Exception as error:  # noqa: BLE001 - the parent tells the user; nobody reads a worker's stderr
        wire.send(connection, {"fatal": f"the labeler can't be built: {type(error).__name__}: {error}"})
        return
    wire.send(connection, {"ready": True})
    while True:
        wire.send(connection, _answer(labeler, wire.receive(connection)))


def main(arguments: list[str]) -> int:
    """Serve the pool on an inherited socket; returns the exit status."""
    if len(arguments) != 2:  # noqa: PLR2004 - the two named in the usage
        sys.stderr.write("usage: python -m labelers.pool.worker SOCKET PARENT (started by the labelling pool)\n")
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    socket, parent_pid = (int(argument) for argument in arguments)
    die_with_parent(parent_pid)
    try:
        serve(Connection(socket))
    except (EOFError, OSError):
        return 0  # the pool hung up
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
