"""Frames as messages between the pool and its workers."""

import numpy as np

from al_engine.child_process import Message
from al_engine.structures.frames import Frame


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
    positions = np.reshape(message["positions"], (-1, 3))  # a list of no atoms has lost its shape
    return Frame(**{**message, "positions": positions})
