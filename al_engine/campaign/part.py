"""A finished stage, as the ledger knows it: the part's name, file and key, and where campaign.h5 links it."""

import re
from dataclasses import dataclass
from pathlib import Path

from al_engine.errors import LedgerError
from al_engine.files.part_file import MADE_BY, SUMMARY, open_part

PARTS = "parts"
"""The folder of a campaign directory that holds them."""
PART_NAME = re.compile(r"(?P<group>initial|iter(?P<iteration>\d{3}))-(?P<stage>[A-Za-z0-9.-]+)")
DATASET_STAGES = ("dataset", "append")
"""`initial-dataset`, then `iter000-append`, ...: in order of name."""


def iteration_of(name: str) -> int | None:
    """The iteration that a part of this name belongs to; None for the initial set."""
    match = PART_NAME.fullmatch(name)
    return int(match["iteration"]) if match and match["iteration"] else None


def link_of(path: Path) -> str:
    """Where a part with this file stands in campaign.h5, such as `/iterations/003/member0`.

    Raises:
        LedgerError: If no part has such a name.
    """
    match = PART_NAME.fullmatch(path.stem)
    if match is None:
        raise LedgerError(f"{path}: no name that this version gives to a part")
    group = "initial" if match["iteration"] is None else f"iterations/{match['iteration']}"
    return f"/{group}/{match['stage']}"


@dataclass(frozen=True, slots=True)
class Part:
    """A finished stage.

    Attributes:
        name: File name without its ending, such as `iter003-member0`.
        path: The file.
        key: Key of its inputs.
        content_hash: Hash of its content.
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
        """Read a part's attributes; `verify` compares all of its bytes with its seal.

        Raises:
            LedgerError: If it is missing, damaged or no part of a campaign.
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
            raise LedgerError(f"{path}: lacks the attribute {error}; it is no part of a campaign") from None

    @property
    def link(self) -> str:
        """Where the part stands in campaign.h5, such as `/iterations/003/member0`."""
        return link_of(self.path)

    @property
    def iteration(self) -> int | None:
        """The iteration it belongs to; None for the initial set."""
        return iteration_of(self.name)

    @property
    def has_labels(self) -> bool:
        """Whether its `labelled` group joins the data set."""
        return self.link.rsplit("/", 1)[-1] in DATASET_STAGES
