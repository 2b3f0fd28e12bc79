"""Labels as a campaign stores them: the level of theory, what became of each frame, and the parts that hold both."""

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


FRAMES_TURNED = "frames_turned"
"""Setting in the level of theory of the labels of xtb since frames are turned (`labelers.backends.xtb`); labels without
it may have wrong forces."""


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


LONGEST_WORDS = 300
"""Characters of a failed label's message that are shown."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What became of a list of frames.

    Attributes:
        labelled: The labelled frames by position in the list.
        reasons: One reason code per frame.
        messages: The cause in words of each; empty for a label.
    """

    labelled: dict[int, LabelledFrame]
    reasons: tuple[str, ...]
    messages: tuple[str, ...]

    @classmethod
    def of(cls, outcomes: Sequence[LabelOutcome]) -> "Labels":
        """From the outcome of each frame."""
        return cls(
            labelled={index: o.labelled for index, o in enumerate(outcomes) if o.labelled is not None},
            reasons=tuple(o.reason.value for o in outcomes),
            messages=tuple(o.message for o in outcomes),
        )

    @property
    def failures(self) -> int:
        """Frames without a label."""
        return len(self.reasons) - len(self.labelled)

    def failure_words(self) -> str:
        """The most frequent reason of the failures and what most of those say, in one line; empty if there are none."""
        counts = Counter(reason for reason in self.reasons if reason != LabelReason.OK)
        if not counts:
            return ""
        reason, count = counts.most_common(1)[0]
        pairs = zip(self.reasons, self.messages, strict=True)
        message, _ = Counter(message for code, message in pairs if code == reason).most_common(1)[0]
        share = "" if count == self.failures else f"{count} of them "
        return f"{share}`{reason}`: {textwrap.shorten(message, LONGEST_WORDS, placeholder=' ...')}"


def read_labels(paths: Iterable[Path]) -> Labels:
    """Read label parts in order."""
    labelled: dict[int, LabelledFrame] = {}
    reasons: list[str] = []
    messages: list[str] = []
    for path in paths:
        with open_part(path) as root:
            codes = [code.decode() for code in root["reason"][()]]
            messages += [message.decode(errors="ignore") for message in root["message"][()]]  # one may be cut off
            found = iter(read_labelled(root["labelled"]))
        labelled |= {len(reasons) + i: next(found) for i, code in enumerate(codes) if code == LabelReason.OK}
        reasons += codes
    return Labels(labelled=labelled, reasons=tuple(reasons), messages=tuple(messages))


def stored_level(ledger: Ledger) -> dict[str, Any] | None:
    """The level of theory of a campaign's labels, as stored with the first of them; None before there are any."""
    for path in ledger.label_parts(None)[:1]:  # one level per campaign, so the first speaks for all
        with open_part(path) as root:
            return dict(json.loads(str(root.attrs["level_of_theory"])))
    return None
