"""Messages between the pool and its workers: JSON over a private socket.

JSON rather than pickle: Fortran code may corrupt a worker, and a corrupt message must not make the parent process
execute code. Python's JSON floats are read back bit for bit, NaN and infinity included.
"""

import json
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from al_engine.structures.frames import Frame

Message = dict[str, Any]


def send(connection: Connection, message: Message) -> None:
    """Send a message.

    Raises:
        OSError: If the other process has closed the connection.
    """
    connection.send_bytes(json.dumps(message).encode())


def receive(connection: Connection) -> Message:
    """Wait for a message.

    Raises:
        EOFError: If the other process has closed the connection.
        OSError: If the connection is broken.
        ValueError: If the bytes received are not a JSON object.
    """
    message = json.loads(connection.recv_bytes())
    if not isinstance(message, dict):
        raise ValueError(f"expected a JSON object, got {type(message).__name__}")  # noqa: TRY004 - bad data, not a bug
    return message


def frame_to_message(frame: Frame) -> Message:
    """Convert a frame to a message of values that JSON can hold."""
    return {
        "numbers": frame.numbers.tolist(),
        "positions": frame.positions.tolist(),
        "cell": frame.cell.tolist(),
        "pbc": frame.pbc.tolist(),
        "charge": frame.charge,
        "unpaired_electrons": frame.unpaired_electrons,
    }


def frame_from_message(message: Message) -> Frame:
    """Convert a message of `frame_to_message` back to the frame, bit for bit."""
    return Frame(**{**message, "positions": np.reshape(message["positions"], (-1, 3))})
