"""A part as the ledger knows it: name, file, key and hash, and where campaign.h5 links the part."""

import re
from dataclasses import dataclass
from pathlib import Path

from al_engine.errors import LedgerError
from al_engine.files.part_file import MADE_BY, SUMMARY, open_part

PARTS = "parts"
"""The folder of a campaign directory that contains the parts."""
PART_NAME = re.compile(r"(?P<group>initial|iter(?P<iteration>\d{3}))-(?P<stage>[A-Za-z0-9._-]+)")
DATASET_STAGES = ("dataset", "append", "audited")
"""Stages whose parts make the data set: `initial-dataset`, `iter000-append`, `iter000-audited` (empty unless an audit
failed), ..., in order of name."""


def iteration_of(name: str) -> int | None:
    """The iteration that a part of this name belongs to; None for the initial set."""
    match = PART_NAME.fullmatch(name)
    return int(match["iteration"]) if match and match["iteration"] else None


def link_of(path: Path) -> str:
    """Path of the link to a part in campaign.h5, such as `/iterations/003/member0`.

    Raises:
        LedgerError: If the file name is not that of a part.
    """
    match = PART_NAME.fullmatch(path.stem)
    if match is None:
        raise LedgerError(f"{path}: is not the name of a part")
    group = "initial" if match["iteration"] is None else f"iterations/{match['iteration']}"
    return f"/{group}/{match['stage']}"


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a finished stage.

    Attributes:
        name: File name without its ending, such as `iter003-member0`.
        path: The file.
        key: Hash of the stage's inputs.
        content_hash: Hash of the part's content.
        seconds: Time that the stage took, s.
        summary: One line for the reader; empty in parts of schema 1 and 2.
        made_by: Versions, device and host that made the part, as JSON; empty in parts of schema 1 and 2.
    """

    name: str
    path: Path
    key: str
    content_hash: str
    seconds: float
    summary: str = ""
    made_by: str = ""

    @classmethod
    def load(cls, path: Path, *, verify: bool = False) -> "Part":
        """Read a part's attributes; with `verify`, all bytes of the file are also compared with its seal.

        Raises:
            LedgerError: If the file is missing, damaged or not a part of a campaign.
        """
        with open_part(path, verify=verify) as root:
            attributes = dict(root.attrs)
        try:
            return cls(
                name=path.stem,
                path=path,
                key=str(attributes["key"]),
                content_hash=str(attributes["content_hash"]),
                seconds=float(attributes.get("seconds", 0.0)),
                summary=str(attributes.get(SUMMARY, "")),
                made_by=str(attributes.get(MADE_BY, "")),
            )
        except KeyError as error:
            raise LedgerError(f"{path}: lacks the attribute {error}; it is not a part of a campaign") from None

    @property
    def link(self) -> str:
        """Path of the link to the part in campaign.h5, such as `/iterations/003/member0`."""
        return link_of(self.path)

    @property
    def iteration(self) -> int | None:
        """The iteration that the part belongs to; None for the initial set."""
        return iteration_of(self.name)

    @property
    def has_labels(self) -> bool:
        """Whether the part's `labelled` group belongs to the data set."""
        return self.link.rsplit("/", 1)[-1] in DATASET_STAGES
