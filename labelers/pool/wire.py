"""Messages between the pool and its workers: JSON over a private socket.

JSON because a worker may be corrupted by the Fortran it runs, and must not be able to make the parent execute anything;
Python writes floats so that they read back bit for bit, NaN and infinity included.
"""

import json
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from al_engine.structures.frames import Frame

Message = dict[str, Any]


def send(connection: Connection, message: Message) -> None:
    """Send one message.

    Raises:
        OSError: If the other side is gone.
    """
    connection.send_bytes(json.dumps(message).encode())


def receive(connection: Connection) -> Message:
    """Wait for one message.

    Raises:
        EOFError: If the other side is gone.
        OSError: Likewise.
        ValueError: If what came is no message.
    """
    message = json.loads(connection.recv_bytes())
    if not isinstance(message, dict):
        raise ValueError(f"expected a JSON object, got {type(message).__name__}")  # noqa: TRY004 - bad data, not a bug
    return message


def frame_to_message(frame: Frame) -> Message:
    """A frame as JSON-able values."""
    return {
        "numbers": frame.numbers.tolist(),
        "positions": frame.positions.tolist(),
        "cell": frame.cell.tolist(),
        "pbc": frame.pbc.tolist(),
        "charge": frame.charge,
        "unpaired_electrons": frame.unpaired_electrons,
    }


def frame_from_message(message: Message) -> Frame:
    """The frame that `frame_to_message` was given, bit for bit."""
    return Frame(**{**message, "positions": np.reshape(message["positions"], (-1, 3))})
