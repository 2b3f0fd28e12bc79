"""Labels as a campaign stores them: level of theory, outcome for each frame, and the label parts with both."""

import hashlib
import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from al_engine.campaign.ledger import Ledger
from al_engine.files.frames_hdf5 import read_labelled
from al_engine.files.part_file import open_part
from al_engine.structures.frames import LabelledFrame


class LabelReason(StrEnum):
    """Outcome of labelling a frame."""

    OK = "ok"
    """The frame has a label."""
    NOT_CONVERGED = "not_converged"
    """The self-consistent field did not converge."""
    BAD_INPUT = "bad_input"
    """Refused before any calculation: the structure, charge or spin is impossible."""
    NON_FINITE = "non_finite"
    """The energy or a force is NaN or infinite."""
    ABSURD_FORCES = "absurd_forces"
    """A force component is above the configured cap."""
    TIME_LIMIT = "time_limit"
    """The calculation took longer than allowed, and its worker was killed."""
    WORKER_DIED = "worker_died"
    """The worker process crashed while it had this frame."""
    BACKEND_ERROR = "backend_error"
    """The backend refused the frame or failed for another reason; its message is kept."""


FILES = "files"
"""Setting in the level of theory of ASE's calculators: the SHA-256 of each file that their parameters name."""
FRAMES_TURNED = "frames_turned"
"""Setting in the level of theory of xtb labels that were computed on rotated frames (`labelers.backends.xtb`). Without
this setting, xtb labels may have wrong forces."""


@dataclass(frozen=True, slots=True)
class LevelOfTheory:
    """Everything that the values of a label depend on. Labels of two levels are never mixed.

    Attributes:
        method: The method, such as "GFN2-xTB".
        backend: Program interface that computes the labels: "xtb", "tblite" or "ase".
        backend_version: Version of the installed distribution that provides the backend.
        settings: Settings that the result depends on, as JSON-able values.
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
    """Outcome of labelling one frame.

    Attributes:
        reason: `LabelReason.OK`, or why the label failed.
        message: The cause in words; empty if the frame has a label.
        labelled: The labelled frame; None unless `reason` is OK.
        seconds: Wall time spent on the frame, s; for information only, not part of any result.
        rescue: Step of the rescue ladder on which the calculation converged; empty if no rescue was needed.
    """

    reason: LabelReason
    message: str
    labelled: LabelledFrame | None
    seconds: float
    rescue: str = ""

    @property
    def ok(self) -> bool:
        """Whether the frame has a label."""
        return self.reason is LabelReason.OK

    @property
    def failure(self) -> str:
        """Reason code and cause of a failure, for messages; empty if the frame has a label."""
        return "" if self.ok else f"{self.reason.value}: {self.message}"


LONGEST_WORDS = 300
"""Largest number of characters of a failed label's message that are shown."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Outcome of labelling a list of frames.

    Attributes:
        labelled: The labelled frames, by index in the list.
        reasons: Reason code of each frame.
        messages: Cause in words for each frame; empty if the frame has a label.
    """

    labelled: dict[int, LabelledFrame]
    reasons: tuple[str, ...]
    messages: tuple[str, ...]

    @classmethod
    def of(cls, outcomes: Sequence[LabelOutcome]) -> "Labels":
        """Collect the outcomes of the frames of a list."""
        return cls(
            labelled={index: o.labelled for index, o in enumerate(outcomes) if o.labelled is not None},
            reasons=tuple(o.reason.value for o in outcomes),
            messages=tuple(o.message for o in outcomes),
        )

    @property
    def failures(self) -> int:
        """Number of frames without a label."""
        return len(self.reasons) - len(self.labelled)

    def failure_words(self) -> str:
        """Most frequent reason of the failures and its most frequent message, in one line; empty without failures."""
        counts = Counter(reason for reason in self.reasons if reason != LabelReason.OK)
        if not counts:
            return ""
        reason, count = counts.most_common(1)[0]
        pairs = zip(self.reasons, self.messages, strict=True)
        message, _ = Counter(message for code, message in pairs if code == reason).most_common(1)[0]
        share = "" if count == self.failures else f"{count} of them "
        return f"{share}`{reason}`: {textwrap.shorten(message, LONGEST_WORDS, placeholder=' ...')}"


def read_labels(paths: Iterable[Path]) -> Labels:
    """Read label parts; the frames are numbered through all parts in order."""
    labelled: dict[int, LabelledFrame] = {}
    reasons: list[str] = []
    messages: list[str] = []
    for path in paths:
        with open_part(path) as root:
            codes = [code.decode() for code in root["reason"][()]]
            # A stored message may be cut off within a character.
            messages += [message.decode(errors="ignore") for message in root["message"][()]]
            found = iter(read_labelled(root["labelled"]))
        labelled |= {len(reasons) + i: next(found) for i, code in enumerate(codes) if code == LabelReason.OK}
        reasons += codes
    return Labels(labelled=labelled, reasons=tuple(reasons), messages=tuple(messages))


def stored_level(ledger: Ledger) -> dict[str, Any] | None:
    """Level of theory of a campaign's labels, as stored in the first label part; None without label parts."""
    for path in ledger.initial_label_parts()[:1]:  # a campaign has one level of theory, so the first part suffices
        with open_part(path) as root:
            return dict(json.loads(str(root.attrs["level_of_theory"])))
    return None
