"""The ledger: the parts of a campaign directory, and `campaign.h5`, which `campaign_file` builds from the parts.

```
campaign.yaml    the config as launched
campaign.h5      links every part, one virtual data set over all labelled frames, the verdict
parts/           iter003-member0.h5, ...: written once, by `part_file.write_part`
```

The parts are the truth: `campaign.h5` can be rebuilt from them.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from al_engine.campaign import names
from al_engine.campaign.campaign_file import CAMPAIGN_FILE, open_index, write_index
from al_engine.campaign.part import PARTS, Part, iteration_of, link_of
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig
from al_engine.config.reader import load_config, refuse_changes, validate_config
from al_engine.config.writer import config_text
from al_engine.errors import InputError, LedgerError
from al_engine.files.atomic import disk_error, write_file
from al_engine.files.frames_hdf5 import read_frame_hashes
from al_engine.files.part_file import open_part, part_key
from al_engine.structures.frames import LabelledFrame, digest_of_hashes
from al_engine.verdict.audit_labels import AuditResult
from al_engine.verdict.records import IterationRecord
from al_engine.verdict.verdict import Verdict, VerdictKind

CONFIG_FILE = "campaign.yaml"
HELPERS = ("*.journal", "*.checkpoint")  # progress inside a stage; removed when its part is published


class Ledger:
    """One campaign directory. Writing requires `al_engine.files.lock.campaign_lock`; reading requires no lock."""

    def __init__(self, directory: Path, config: CampaignConfig) -> None:
        self.directory = directory
        self.config = config
        self._index_lock = threading.Lock()  # stages finish in several threads of the one writing process
        self._read: dict[Path, _Read] = {}

    # -- opening ------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, directory: Path) -> "Ledger":
        """Open a campaign directory, for reading or to continue the campaign.

        Raises:
            InputError: If the directory is not a campaign directory, or its config is wrong.
        """
        path = directory / CONFIG_FILE
        if not path.is_file():
            raise InputError(
                f"{directory}: no campaign directory (it has no {CONFIG_FILE}); make it with `al-engine init`"
            )
        return cls(directory, config_of(directory))

    def begin(self) -> None:
        """Prepare the directory of a new campaign, or check that the config of a begun campaign has not changed.

        Leftovers of killed processes are removed, and `campaign.h5` is rebuilt without a verdict.

        Raises:
            InputError: If the config differs from the config that the campaign began with; the message names the keys.
            ResumableError: If the disk is full.
        """
        self.refuse_changed_config()
        try:
            self.parts_directory.mkdir(parents=True, exist_ok=True)
            for leftover in self._leftovers():
                leftover.unlink(missing_ok=True)  # a job that outlived its run may remove its own files
        except OSError as error:
            raise disk_error(self.parts_directory, error) from error
        self.write_index(verdict=None)

    def refuse_changed_config(self) -> None:
        """Refuse a config that differs from the config that the campaign began with, in a value that may not change.

        Raises:
            InputError: If it differs; the message names the keys.
        """
        launched = self.launched_config()
        if launched is not None:
            refuse_changes(launched, self.config, source=str(self.directory / CONFIG_FILE), directory=self.directory)

    def _leftovers(self) -> list[Path]:
        """Files that a kill may leave: unfinished temporary files, and progress files of stages that have a part."""
        helpers = (path for pattern in HELPERS for path in self.parts_directory.glob(pattern))
        return [
            *self.parts_directory.glob("*.tmp"),
            *self.directory.glob("campaign.*.tmp"),
            *(path for path in helpers if path.with_suffix(".h5").exists()),
        ]

    def has_begun(self) -> bool:
        """Whether the campaign has a part: it begins with its first part."""
        return _has_parts(self.directory)

    def launched_config(self) -> CampaignConfig | None:
        """The config that the campaign began with; None before its first part."""
        return indexed_config(self.directory) if self.has_begun() else None

    def write_config(self) -> None:
        """Write `campaign.yaml`, commented and normalised."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(self.directory, error) from error
        write_file(self.directory / CONFIG_FILE, config_text(self.config).encode())

    # -- parts --------------------------------------------------------------------------------------------------

    @property
    def parts_directory(self) -> Path:
        """Folder of the parts."""
        return self.directory / PARTS

    def part_path(self, name: str) -> Path:
        """The file of a part."""
        return self.parts_directory / f"{name}.h5"

    def parts(self) -> list[Part]:
        """All finished parts, in order of name.

        Raises:
            LedgerError: If a part can't be read.
        """
        return [self._load(path) for path in sorted(self.parts_directory.glob("*.h5"))]

    def _load(self, path: Path, *, verify: bool = False) -> Part:
        """Read a part, or return the part read before if its file has not changed since.

        Raises:
            LedgerError: If the part is missing or damaged; with `verify`, also if its bytes do not match its seal.
        """
        stamp = _stamp(path)
        known = self._read.get(path)
        if stamp is None or known is None or known.stamp != stamp or (verify and not known.verified):
            known = self._read[path] = _Read(stamp, Part.load(path, verify=verify), verify)
        return known.part

    def find(self, name: str, key: str) -> Part | None:
        """The finished part of a name; None if the stage has yet to be computed.

        Raises:
            LedgerError: If the part is damaged, or was made from other inputs (another key).
        """
        path = self.part_path(name)
        if not path.exists():
            return None
        part = self._load(path, verify=True)
        if part.key != key and not self._is_inherited(name):
            raise LedgerError(
                f"{path}: was made from inputs that have changed since; move it away and resume to compute it again"
            )
        return part

    def _is_inherited(self, name: str) -> bool:
        """Whether a part was made in the campaign that this one was forked from, where its inputs were other data."""
        inherited, iteration = self.config.inherited_iterations, iteration_of(name)
        return inherited is not None and (iteration is None or iteration < inherited)

    @staticmethod
    def key(name: str, *, inputs: Mapping[str, Any], parents: Sequence[Part]) -> str:
        """The key of a stage's part, from its inputs and the content hashes of its parents."""
        return part_key(name, inputs, [parent.content_hash for parent in parents])

    def sound_part(self, name: str) -> Part:
        """A finished part whose bytes match its seal. Each version of the file is checked once per process.

        Raises:
            LedgerError: If the part is missing or damaged.
        """
        return self._load(self.part_path(name), verify=True)

    def finish(self, names: Sequence[str]) -> list[Part]:
        """Add parts that have just been written to `campaign.h5`.

        Raises:
            LedgerError: If a part is missing or damaged.
        """
        parts = [self._load(self.part_path(name)) for name in names]
        if parts:
            self.write_index(verdict=None)
        return parts

    def reader(self) -> PartReader:
        """A reader of all finished parts.

        Raises:
            LedgerError: If a file in the folder of the parts does not have the name of a part.
        """
        paths = sorted(self.parts_directory.glob("*.h5"))
        for path in paths:
            link_of(path)
        return PartReader(self.directory, (path.stem for path in paths))

    # -- content of the parts -----------------------------------------------------------------------------------

    def dataset(self, *, before: int | None = None) -> list[LabelledFrame]:
        """Labelled frames of the data set in order, without the test set; `before` as in `PartReader.dataset_parts`."""
        return self.reader().dataset(before=before)

    def dataset_size(self) -> int:
        """Number of labelled frames of the data set, without the test set."""
        return self.reader().dataset_size()

    def dataset_digest(self) -> str:
        """SHA-256 over the content of the data set's frames in order: `frames.dataset_digest` of `dataset()`."""
        parts, hashes = self.reader(), []
        for name in parts.dataset_parts():
            with parts.open(name) as root:
                hashes.append(read_frame_hashes(root["labelled"]))
        return digest_of_hashes(hashes)

    def dataset_before(self, iteration: int) -> list[str]:
        """Names of the parts that make the data set before an iteration, in order."""
        return names.dataset_before(iteration, self.reader().names)

    def label_parts(self, source: str) -> list[Path]:
        """Files of the label parts of the frames of a part, in order."""
        found = self.parts_directory.glob(f"{names.label_group(source)}-labels-*.h5")
        return sorted(found, key=lambda path: names.label_order(path.stem))

    def initial_label_parts(self) -> list[Path]:
        """Files of the label parts of the initial sets of all systems, in order."""
        return [path for source in names.initial_sources(self.config) for path in self.label_parts(source)]

    def history(self) -> list[IterationRecord]:
        """Records of the finished iterations, oldest first, with the results of their audits."""
        records = []
        for path in sorted(self.parts_directory.glob("iter*-append.h5")):
            with open_part(path) as root:
                record = IterationRecord.from_json(str(root.attrs["record"]))
            records.append(replace(record, audit=self.audit(record.iteration)))
        return records

    def own_history(self, *, before: int | None = None) -> list[IterationRecord]:
        """Records of the finished iterations that this campaign made itself, which the verdict judges, oldest first.

        Args:
            before: Only iterations before this one; None: all.
        """
        first = self.config.inherited_iterations or 0
        return [record for record in self.history()[:before] if record.iteration >= first]

    def audit(self, iteration: int) -> AuditResult | None:
        """The result of the audit of an iteration's committee; None if there is none."""
        path = self.part_path(names.audited(iteration))
        if not path.exists():
            return None
        with open_part(path) as root:
            return AuditResult.from_json(str(root.attrs["audit"]))

    def label_failures(self) -> int:
        """Number of failed labels so far: of the initial set, of all iterations, and of all audits."""
        counted: dict[str | None, int] = {}  # results have the count; label parts may be hundreds
        for record in self.history():
            counted[names.selection(record.iteration)] = record.label_failures
            if record.audit is not None:
                counted[names.audit(record.iteration)] = record.audit.label_failures
        failures = sum(counted.values())
        for path in sorted(self.parts_directory.glob("*-labels-*.h5")):
            source = names.label_source(path.stem)
            if source is None or source in counted:  # a system may have the name `labels`
                continue
            with open_part(path) as root:
                failures += len(root["reason"]) - len(root["labelled/energy"])
        return failures

    def iteration_seconds(self, iteration: int) -> float:
        """Wall time in seconds of a finished iteration since it was started or last resumed."""
        with open_part(self.part_path(f"iter{iteration:03d}-append")) as root:
            return float(root.attrs["iteration_seconds"])

    def missing_parts(self) -> list[str]:
        """Names of the parts that `campaign.h5` links but whose files are missing.

        Raises:
            LedgerError: If `campaign.h5` is damaged.
        """
        path = self.directory / CAMPAIGN_FILE
        if not path.exists():
            return []
        with open_index(path) as root:
            linked = [name.decode() for name in root["ledger/name"][()].tolist()]
        return [name for name in linked if not self.part_path(name).exists()]

    def verdict(self) -> Verdict | None:
        """The verdict, as stored in `campaign.h5`; None while the campaign has not stopped."""
        path = self.directory / CAMPAIGN_FILE
        if not path.exists():
            return None
        with open_index(path) as root:
            if "verdict" not in root.attrs:
                return None
            return Verdict(VerdictKind(str(root.attrs["verdict"])), str(root.attrs["verdict_evidence"]))

    # -- campaign.h5 --------------------------------------------------------------------------------------------

    def write_index(self, verdict: Verdict | None) -> None:
        """Replace `campaign.h5`: links to all parts, the table of parts, the data set, the verdict.

        Raises:
            ResumableError: If the disk is full.
        """
        with self._index_lock:
            write_index(self.directory, self.config, self.parts(), verdict)


def config_of(directory: Path) -> CampaignConfig:
    """The config in a campaign directory.

    Raises:
        InputError: If `campaign.yaml` is missing or wrong.
    """
    return load_config(directory / CONFIG_FILE, begun=_has_parts(directory))


def indexed_config(directory: Path) -> CampaignConfig | None:
    """The config in `campaign.h5`: that of the last run, which `begin` has written; None if the file is missing.

    Raises:
        LedgerError: If the file is damaged.
    """
    path = directory / CAMPAIGN_FILE
    if not path.exists():
        return None
    with open_index(path) as root:
        return validate_config(json.loads(str(root.attrs["config_json"])), source=f"{path}:config_json", begun=True)


def _has_parts(directory: Path) -> bool:
    return any((directory / PARTS).glob("*.h5"))


@dataclass(frozen=True, slots=True)
class _Read:
    """A part as it was read; `verified`: all bytes of its file were compared with its seal."""

    stamp: tuple[int, ...] | None
    part: Part
    verified: bool


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Inode, times of change (ns) and size, by which an unchanged file is recognised; None if it is missing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size
