"""The interface of labelers, and the exception they raise for a frame that can't be labelled."""

from typing import NamedTuple, Protocol, runtime_checkable

from al_engine.campaign.labels import LabelReason
from al_engine.structures.frames import FloatArray, Frame


class LabelError(Exception):
    """Failure of a labeler on a single frame.

    Attributes:
        reason: The reason code.
        message: The cause in words, on a single line.
    """

    def __init__(self, reason: LabelReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Label(NamedTuple):
    """A label: energy in eV, forces (N, 3) in eV/Å, and stress (3, 3) in eV/Å³ with ASE's sign, or None."""

    energy: float
    forces: FloatArray
    stress: FloatArray | None = None


class Labeler(Protocol):
    """Computes reference energies and forces, frame by frame; a label does not depend on the frames before it."""

    def label(self, frame: Frame) -> Label:
        """Compute the label of a frame; its stress if the frame is periodic and the method has stresses.

        Raises:
            LabelError: If the frame can't be labelled.
        """


@runtime_checkable
class FrameChecker(Protocol):
    """A labeler that can refuse a system before the first label."""

    def check(self, frame: Frame) -> None:
        """Check a frame that is representative of all frames to label.

        Raises:
            InputError: If the labeler can't label such frames; the message says why, and what to change.
        """
