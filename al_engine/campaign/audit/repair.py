"""Repair of a campaign directory: damaged parts are set aside, and label parts are rebuilt from the data set.

Nothing is deleted. Parts that can't be rebuilt are computed again when the campaign is resumed.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.audit.files import Problem, Recorded, Verification
from al_engine.campaign.audit.quarantine import free_name, set_aside
from al_engine.campaign.campaign_file import CAMPAIGN_FILE, open_index
from al_engine.campaign.labels import LabelReason
from al_engine.campaign.ledger import CONFIG_FILE, Ledger
from al_engine.campaign.names import label_range
from al_engine.campaign.part import Part
from al_engine.campaign.scores import of_system
from al_engine.config import CampaignConfig
from al_engine.config.reader import load_config, validate_config
from al_engine.errors import AlEngineError, LedgerError
from al_engine.files.atomic import disk_error
from al_engine.files.frames_hdf5 import read_labelled, write_labelled
from al_engine.files.lock import LockKind, campaign_lock
from al_engine.files.part_file import open_part, write_part
from al_engine.structures.frames import LabelledFrame
from al_engine.verdict.verdict import Verdict

_REPAIRED = (Problem.DAMAGED, Problem.REPLACED, Problem.MISSING)
"""Problems of a part that are repaired."""


def repair(directory: Path, verification: Verification) -> Iterator[str]:
    """Repair the problems of a campaign directory, as far as possible.

    Args:
        directory: The campaign directory.
        verification: The problems, found by `verify_files` in the same directory.

    Yields:
        One line of text for each repair.

    Raises:
        CampaignLockedError: If a process is running the campaign.
        ResumableError: If the disk is full or can't be written to.
    """
    with campaign_lock(directory, _lock_kind(directory)):
        if any(f.file == CONFIG_FILE and f.problem is Problem.DAMAGED for f in verification.findings):
            yield _write_config(directory)
        ledger = Ledger.open(directory)
        with suppress(LedgerError):  # a damaged campaign.h5 does not tell the config that the campaign began with
            ledger.config = ledger.launched_config() or ledger.config
        incomplete = False
        replaced = {Path(f.file).stem for f in verification.findings if f.problem is Problem.REPLACED}
        original = {name: part for name, part in verification.parts.items() if name not in replaced}
        sources = replace(verification, parts=original)  # nothing is rebuilt from a part that is itself set aside
        for finding in verification.findings:
            if finding.file.startswith("parts/") and finding.problem in _REPAIRED:
                path = directory / finding.file
                if path.exists():
                    yield f"{finding.file}: {set_aside(path)}"
                if _rebuild_labels(path, sources):
                    yield f"{finding.file}: rebuilt with the same content"
                else:
                    incomplete = True
                    yield f"{finding.file}: `resume` will compute it again"
        if verification.findings:
            verdict = None if incomplete else _verdict(ledger)  # a campaign that lacks a part has not ended
            ledger.write_index(verdict)
            yield f"{CAMPAIGN_FILE}: rebuilt from the parts"


def _lock_kind(directory: Path) -> LockKind:
    """The value of `execution.lock`, from campaign.yaml or, if that can't be read, from campaign.h5."""
    try:
        return load_config(directory / CONFIG_FILE).execution.lock
    except AlEngineError:
        try:
            return _launched_config(directory).execution.lock
        except AlEngineError:
            return "auto"


def _launched_config(directory: Path) -> CampaignConfig:
    """The config stored in campaign.h5."""
    with open_index(directory / CAMPAIGN_FILE) as root:
        return validate_config(json.loads(str(root.attrs["config_json"])), source=CAMPAIGN_FILE, begun=True)


def _verdict(ledger: Ledger) -> Verdict | None:
    try:
        return ledger.verdict()
    except AlEngineError:
        return None  # the verdict is formed again on resuming


def _write_config(directory: Path) -> str:
    """Write `campaign.yaml` from the config stored in campaign.h5; returns what was done, in words."""
    config = _launched_config(directory)
    path = directory / CONFIG_FILE
    if path.exists():
        _rename(path, free_name(path.with_name(f"{CONFIG_FILE}.damaged")))
    Ledger(directory, config).write_config()
    return f"{CONFIG_FILE}: written again from {CAMPAIGN_FILE}"


def _rename(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        raise disk_error(path, error) from error


def _rebuild_labels(path: Path, verification: Verification) -> bool:
    """Rebuild a label part from the data set that its labels joined; other parts can't be rebuilt.

    A label part with a failed or rescued label can't be rebuilt either, because the outcome of that frame is stored
    nowhere else.

    Returns:
        Whether the part was rebuilt with the content hash that it had.
    """
    recorded, chunk = verification.recorded.get(path.stem), label_range(path.stem)
    if recorded is None or chunk is None:
        return False
    source, first, last = chunk
    label_parts = [part for name, part in verification.parts.items() if label_range(name) is not None]
    frames = _labelled(source, verification)
    if not label_parts or frames is None or len(frames) < last:
        return False
    with open_part(label_parts[0].path) as root:  # all label parts have the same level of theory
        level, rescue = root.attrs["level_of_theory"], "rescue" in root
    _write_labels(path, recorded, frames[first - 1 : last], level=level, rescue=rescue)
    if Part.load(path).content_hash == recorded.content_hash:
        return True
    path.unlink()  # the part that was just written is not the part that was lost
    return False


def _labelled(source: str, verification: Verification) -> list[LabelledFrame] | None:
    """The labelled frames of a source, in the order in which its label parts have them.

    Args:
        source: Name of the part with the frames before they were labelled.
        verification: Has the sound parts.

    Returns:
        The frames; None if a label failed, if the labels did not join the data set, or if a part is missing.
    """
    joined = names.joined(source)
    if source == names.DATA:  # in the data set, labels of the campaign can't be told from labels that the user brought
        return None
    if source not in verification.parts or joined not in verification.parts:
        return None
    labelled: list[LabelledFrame] = []
    with open_part(verification.parts[joined].path) as root:
        for group in ("labelled", "test"):
            if group in root:
                from_source = of_system(root, group, source)
                labelled += [f for f, chosen in zip(read_labelled(root[group]), from_source, strict=True) if chosen]
    with open_part(verification.parts[source].path) as root:
        groups = ("train", "test") if names.is_initial(source) else ("selected",)
        n_frames = sum(len(root[group]["n_atoms"]) for group in groups)
    return labelled if len(labelled) == n_frames else None


def _write_labels(path: Path, recorded: Recorded, frames: list[LabelledFrame], *, level: str, rescue: bool) -> None:
    """Write a label part in which every frame has a label that needed no rescue, as the labelling stage writes it."""
    with write_part(path, kind=path.stem, key=recorded.key) as root:
        write_labelled(root.create_group("labelled"), frames)
        root["reason"] = np.array([LabelReason.OK.value] * len(frames), dtype="S")
        root["message"] = np.array([b""] * len(frames), dtype="S400")
        if rescue:  # parts of older versions lack this data set
            root["rescue"] = np.array([b""] * len(frames), dtype="S40")
        root.attrs["level_of_theory"] = level
        root.attrs["seconds"] = recorded.seconds
