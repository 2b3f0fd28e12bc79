"""What a labeler is, what it was run with, and what became of a frame."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from al_engine.frames import FloatArray, Frame, LabelledFrame


class LabelReason(StrEnum):
    """What became of a frame that was to be labelled."""

    OK = "ok"
    """It has a label."""
    NOT_CONVERGED = "not_converged"
    """The self-consistent field did not converge."""
    BAD_INPUT = "bad_input"
    """Refused before any calculation: the structure, charge or spin can't be right."""
    NON_FINITE = "non_finite"
    """The energy or a force is NaN or infinite."""
    ABSURD_FORCES = "absurd_forces"
    """A force component is above the configured cap."""
    TIME_LIMIT = "time_limit"
    """The label took longer than allowed; its worker was killed."""
    WORKER_DIED = "worker_died"
    """The worker process crashed while it had this frame."""
    BACKEND_ERROR = "backend_error"
    """The backend refused or failed for another reason; the message has its words."""


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


FRAMES_TURNED = "frames_turned"
"""Setting in the level of theory of xtb's labels since frames are turned (`labelers.gfn2_xtb`); labels without it may
have wrong forces."""


@dataclass(frozen=True, slots=True)
class LevelOfTheory:
    """Everything that decides what a label is. Labels of two levels are never mixed.

    Attributes:
        method: The method, such as "GFN2-xTB".
        backend: The program interface that computes it: "xtb", "tblite" or "ase".
        backend_version: Version of the installed distribution that provides it.
        settings: JSON-able settings that the result depends on.
    """

    method: str
    backend: str
    backend_version: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The level as plain JSON-able values."""
        return asdict(self)

    def fingerprint(self) -> str:
        """SHA-256 of the level's canonical JSON; equal levels have equal fingerprints on every machine."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    """What became of one frame.

    Attributes:
        reason: `LabelReason.OK`, or why there is no label.
        message: The cause in words; empty for a label.
        labelled: The labelled frame; None unless `reason` is OK.
        seconds: Wall time spent on the frame; for the reader's information, part of no result.
        rescue: The rung of the rescue ladder on which it converged; empty where none was needed.
    """

    reason: LabelReason
    message: str
    labelled: LabelledFrame | None
    seconds: float
    rescue: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is a label."""
        return self.reason is LabelReason.OK
