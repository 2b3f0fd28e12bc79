"""Checks that a campaign directory is as al-engine left it: every file, every hash, every link.

Nothing is changed. The seal of a file is checked before HDF5 opens it, because HDF5 may crash on damaged bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import h5py

from al_engine.campaign.campaign_file import CAMPAIGN_FILE, open_index
from al_engine.campaign.ledger import CONFIG_FILE, Ledger, config_of
from al_engine.campaign.part import DATASET_STAGES, PART_NAME, PARTS, Part, link_of
from al_engine.config import is_mutable
from al_engine.config.reader import differences, how_to_have
from al_engine.errors import AlEngineError, LedgerError
from al_engine.files.hdf5 import UNREADABLE, hdf5_for_reading
from al_engine.protocols import Progress, silent


class Problem(StrEnum):
    """What is wrong with a file."""

    MISSING = "missing"
    """The campaign had the file, and it is gone."""
    DAMAGED = "damaged"
    """The bytes of the file are not those that were written."""
    REPLACED = "replaced"
    """The file is undamaged, but not the file that the campaign wrote."""
    FOREIGN = "foreign"
    """The file is no part of a campaign, but lies among the parts."""
    OUTDATED = "outdated"
    """The content of `campaign.h5` does not agree with the parts."""
    CHANGED = "changed"
    """The file was edited after the campaign began."""
    MISCOUNTED = "miscounted"
    """Numbers in the file do not agree with other files."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem found in one file.

    Attributes:
        file: The file, relative to the campaign directory.
        stage: The stage that the file belongs to, in words.
        problem: Kind of problem.
        message: What is wrong, in words.
        fix: What to do about it.
    """

    file: str
    stage: str
    problem: Problem
    message: str
    fix: str

    def to_dict(self) -> dict[str, str]:
        """As plain JSON-able values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.file} ({self.stage}): {self.message}; {self.fix}"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A part as the table `ledger` in campaign.h5 records it.

    Attributes:
        key: Hash of the inputs of the part's stage.
        content_hash: Hash of the part's content.
        seconds: Time that the stage took, s.
    """

    key: str
    content_hash: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of checking the files of a campaign directory.

    Attributes:
        findings: All problems; empty if the files are sound.
        parts: The undamaged parts, by name; parts that were replaced by other undamaged parts are included.
        recorded: The parts listed in campaign.h5, by name; empty if that file is missing or can't be read.
    """

    findings: tuple[Finding, ...]
    parts: Mapping[str, Part]
    recorded: Mapping[str, Recorded]


def stage_of(name: str) -> str:
    """Iteration and stage of the part of this name, in words, such as `iteration 3, selection`."""
    match = PART_NAME.fullmatch(name)
    if match is None:
        return "no part of a campaign"
    stage = match["stage"].replace("-", " ")
    return f"initial set, {stage}" if match["iteration"] is None else f"iteration {int(match['iteration'])}, {stage}"


def verify_files(directory: Path, *, progress: Progress = silent) -> Verification:
    """Check config, campaign.h5 and all parts.

    Args:
        directory: The campaign directory.
        progress: Receives the number of parts that have been read.

    Raises:
        InputError: If the directory is not a campaign directory.
    """
    recorded, findings = _recorded(directory)
    findings = [*_config_findings(directory), *findings]
    parts: dict[str, Part] = {}
    paths = sorted((directory / PARTS).glob("*.h5"))
    for done, path in enumerate(paths):
        progress(done, len(paths), path.stem)
        try:
            part = Part.load(path, verify=True)
            _ = part.link  # raises an error if the file does not have the name of a part
        except LedgerError as error:
            findings.append(_damaged_part(path, error))
        else:
            parts[part.name] = part
            findings += _against_record(part, recorded)
    progress(len(paths), len(paths))
    known = {path.stem for path in paths}
    findings += [
        Finding(
            f"{PARTS}/{name}.h5",
            stage_of(name),
            Problem.MISSING,
            "is missing, although campaign.h5 lists it",
            "restore it from a copy, or run `verify --repair` and then resume, which computes it again",
        )
        for name in recorded
        if name not in known
    ]
    if recorded:
        findings += _index_findings(directory, parts, recorded)
    return Verification(tuple(findings), parts, recorded)


def _config_findings(directory: Path) -> Iterator[Finding]:
    """Find a config that can't be read, and values that differ from the config that the campaign began with.

    Raises:
        InputError: If the directory has neither config nor campaign.h5: it is not a campaign directory.
    """
    stage, index = "the config", directory / CAMPAIGN_FILE
    try:
        config = config_of(directory)
        launched = Ledger(directory, config).launched_config()
    except AlEngineError as error:
        if not (directory / CONFIG_FILE).exists() and not index.exists():
            raise
        if index.exists() and str(index) in str(error):
            return  # the error is about campaign.h5, whose damage `_recorded` reports
        yield Finding(
            CONFIG_FILE, stage, Problem.DAMAGED, f"cannot be read: {error}", "`verify --repair` writes it again"
        )
        return
    if launched is None:
        return
    for key, (old, new) in differences(launched, config).items():
        if is_mutable(key):
            continue
        yield Finding(
            CONFIG_FILE,
            stage,
            Problem.CHANGED,
            f"{key} is {new}, but the campaign began with {old}",
            f"put the old value back, or {how_to_have({key: (old, new)}, directory)}",
        )


def _recorded(directory: Path) -> tuple[dict[str, Recorded], list[Finding]]:
    """The parts recorded in campaign.h5, and problems of that file."""
    path = directory / CAMPAIGN_FILE
    fix = "`verify --repair` or `resume` rebuilds it from the parts"
    if not path.exists():
        begun = any((directory / PARTS).glob("*.h5"))
        missing = Finding(CAMPAIGN_FILE, "the index", Problem.MISSING, "is missing", fix)
        return {}, [missing] if begun else []
    try:
        with open_index(path) as root:
            table = root["ledger"]
            columns = {name: table[name][()] for name in ("name", "key", "content_hash", "seconds")}
    except (LedgerError, *UNREADABLE) as error:
        return {}, [Finding(CAMPAIGN_FILE, "the index", Problem.DAMAGED, f"cannot be read: {error}", fix)]
    rows = zip(*(columns[name].tolist() for name in columns), strict=True)
    return {name.decode(): Recorded(key.decode(), hashed.decode(), seconds) for name, key, hashed, seconds in rows}, []


def _damaged_part(path: Path, error: LedgerError) -> Finding:
    """The finding for a file among the parts that can't be read as a part."""
    if PART_NAME.fullmatch(path.stem) is None:
        problem, fix = Problem.FOREIGN, "move it away"
    else:
        problem = Problem.DAMAGED
        fix = "`verify --repair` sets it aside and rebuilds it if possible; otherwise `resume` computes it again"
    return Finding(f"{PARTS}/{path.name}", stage_of(path.stem), problem, str(error).removeprefix(f"{path}: "), fix)


def _against_record(part: Part, recorded: Mapping[str, Recorded]) -> Iterator[Finding]:
    """Compare the key and the content hash of a part with those in campaign.h5, if it lists the part."""
    record = recorded.get(part.name)
    if record is not None and (record.key, record.content_hash) != (part.key, part.content_hash):
        yield Finding(
            f"{PARTS}/{part.path.name}",
            stage_of(part.name),
            Problem.REPLACED,
            "is undamaged, but not the file that the campaign wrote",
            "restore the original from a copy; or `verify --repair` sets it aside, and `resume` computes it again",
        )


def _index_findings(directory: Path, parts: Mapping[str, Part], recorded: Mapping[str, Recorded]) -> Iterator[Finding]:
    """Find links that are missing or wrong in campaign.h5, and a data set of the wrong size."""
    fix = "`verify --repair` or `resume` rebuilds it from the parts"
    for name in parts.keys() - recorded.keys():
        yield Finding(CAMPAIGN_FILE, "the index", Problem.OUTDATED, f"does not link {PARTS}/{name}.h5", fix)
    with open_index(directory / CAMPAIGN_FILE) as root:
        for name in recorded:
            link = _link(root, name)
            if link != f"{PARTS}/{name}.h5":
                message = f"links {link} in place of {PARTS}/{name}.h5" if link else f"does not link {PARTS}/{name}.h5"
                yield Finding(CAMPAIGN_FILE, "the index", Problem.OUTDATED, message, fix)
        dataset_parts = [name for name in recorded if name.partition("-")[2] in DATASET_STAGES]
        if all(name in parts for name in dataset_parts):
            stored, linked = sum(_labelled_frames(parts[name]) for name in dataset_parts), len(root["dataset/n_atoms"])
            if stored != linked:
                message = f"its data set has {linked} frames, but the parts have {stored}"
                yield Finding(CAMPAIGN_FILE, "the data set", Problem.OUTDATED, message, fix)


def _link(root: h5py.File, name: str) -> str | None:
    """The file to which campaign.h5 links a part, relative to the campaign directory; None if there is no link."""
    link: Any = root.get(link_of(Path(f"{name}.h5")), getlink=True)
    return link.filename if isinstance(link, h5py.ExternalLink) else None


def _labelled_frames(part: Part) -> int:
    """Number of frames that a part adds to the data set."""
    with hdf5_for_reading(part.path) as root:
        return len(root["labelled/n_atoms"])


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Sort findings by urgency, which is the order of the kinds in `Problem`; equal kinds by file."""
    order = list(Problem)
    return sorted(findings, key=lambda finding: (order.index(finding.problem), finding.file))
