"""What a labeler is, what it was run with, and what became of a frame."""

from typing import Protocol, runtime_checkable

from al_engine.campaign.labels import LabelReason
from al_engine.structures.frames import FloatArray, Frame


class LabelError(Exception):
    """A frame that a labeler can't label.

    Attributes:
        reason: The reason code.
        message: The cause in words, one line.
    """

    def __init__(self, reason: LabelReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Labeler(Protocol):
    """Gives reference energies and forces, one frame at a time, each independent of the frames before it."""

    def label(self, frame: Frame) -> tuple[float, FloatArray]:
        """Energy in eV and forces in eV/Å, shape (N, 3), of one frame.

        Raises:
            LabelError: If the frame can't be labelled.
        """


@runtime_checkable
class FrameChecker(Protocol):
    """A labeler that can tell before the first label that it can't label a system."""

    def check(self, frame: Frame) -> None:
        """Refuse a frame that stands for all that is to be labelled.

        Raises:
            InputError: Saying why, and what to change.
        """
