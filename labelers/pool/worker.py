"""The program of a labelling worker: `python -m labelers.pool.worker SOCKET PARENT`, started by `labelers.pool.pool`.

A worker builds its labeler once, then labels one frame at a time until the pool closes the socket. It imports neither
torch nor Prefect, so it starts in half a second and needs little memory.
"""

import importlib
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection

import numpy as np

from al_engine.campaign.labels import LabelReason
from al_engine.child_process import Message, receive, run_child, send
from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from labelers.backends.openblas import preload_openblas
from labelers.backends.protocol import FrameChecker, Labeler, LabelError
from labelers.backends.rescue import label_or_rescue
from labelers.pool.wire import frame_from_message


def _build(order: Message) -> Labeler:
    """Set the memory limit, build the labeler, and let it check the representative frame if the order holds it."""
    config = LabelsConfig.model_validate(order["config"])
    if config.memory_limit_mib is not None:
        limit = config.memory_limit_mib * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if config.backend == "tblite":
        preload_openblas()
    module_name, _, function_name = order["factory"].partition(":")
    labeler: Labeler = getattr(importlib.import_module(module_name), function_name)(config)
    if order["frame"] is not None and isinstance(labeler, FrameChecker):
        labeler.check(frame_from_message(order["frame"]))
    return labeler


def _answer(labeler: Labeler, request: Message) -> Message:
    """Label the frame of a request; the message holds the label or the reason why it failed, and the time taken (s)."""
    start = time.perf_counter()
    try:
        label, rung = label_or_rescue(labeler, frame_from_message(request))
        forces = np.asarray(label.forces, dtype=np.float64).tolist()
        answer: Message = {"energy": float(label.energy), "forces": forces, "rescue": rung}
        if label.stress is not None:
            answer["stress"] = np.asarray(label.stress, dtype=np.float64).tolist()
    except LabelError as error:
        answer = {"reason": error.reason.value, "message": error.message}
    except Exception as error:  # noqa: BLE001 - an exception of the backend costs this frame only
        answer = {"reason": LabelReason.BACKEND_ERROR.value, "message": f"{type(error).__name__}: {error}"}
    return {**answer, "seconds": time.perf_counter() - start}


@contextmanager
def _programs_end_with_us() -> Iterator[None]:
    """Start a shell that outlives this process and then kills the programs that this process has started.

    The kernel kills a worker when the pool ends, but not the worker's programs when the worker ends. The programs are
    in the worker's process group (`ChildProcess` with `own_group`), which the shell kills.
    """
    # Only this process holds the write end of the shell's input. It closes when the process ends, however that happens.
    with subprocess.Popen(["/bin/sh", "-c", "read _; kill -KILL 0"], stdin=subprocess.PIPE) as guard:
        try:
            yield
        finally:
            guard.kill()


def serve(connection: Connection) -> None:
    """Build the labeler that the first message describes, then label frames until the pool closes the connection.

    Raises:
        EOFError: If the pool has closed the connection.
        OSError: If the connection is broken.
    """
    order = receive(connection)
    with _programs_end_with_us() if order["config"]["backend"] == "ase" else nullcontext():
        _serve(connection, order)


def _serve(connection: Connection, order: Message) -> None:
    try:
        labeler = _build(order)
    except InputError as error:
        send(connection, {"fatal": str(error)})
        return
    except Exception as error:  # noqa: BLE001 - the parent reports it; a worker's stderr is discarded
        send(connection, {"fatal": f"the labeler can't be built: {type(error).__name__}: {error}"})
        return
    send(connection, {"ready": True})
    while True:
        send(connection, _answer(labeler, receive(connection)))


if __name__ == "__main__":
    sys.exit(run_child(sys.argv[1:], serve))
