"""`campaign.h5`: links to every part, a virtual data set over all labelled frames, the config, the verdict.

The file is rebuilt from the parts, and replaced as a whole: a reader sees either the old file or the new file.

HDF5 does not report that the source file of a virtual data set is missing. It returns the fill value, by default zero,
which would pass for data. So the fill value is NaN for floats and `MISSING` for integers.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from al_engine.campaign.part import PARTS, Part
from al_engine.config import CampaignConfig
from al_engine.errors import LedgerError
from al_engine.files.frames_hdf5 import (
    LABELS_PER_ATOM,
    LABELS_PER_FRAME,
    MISSING,
    PER_ATOM,
    PER_FRAME,
    STRESS,
    UNITS,
    WEIGHT,
    has_dataset,
)
from al_engine.files.hdf5 import in_memory_hdf5, open_hdf5, seal_state
from al_engine.files.part_file import SCHEMA_VERSION, open_part
from al_engine.files.seal import SealState
from al_engine.verdict.verdict import Verdict

CAMPAIGN_FILE = "campaign.h5"
STORED = ("n_atoms", "pbc")
"""Arrays that are copied into `campaign.h5`, not linked. `n_atoms` determines the rows of every frame: if it were
unknown for the frames of one part, the rows of all later frames would be wrong. `pbc` is boolean, and has no value left
to mark missing data."""


def write_index(directory: Path, config: CampaignConfig, parts: Sequence[Part], verdict: Verdict | None) -> None:
    """Replace a campaign's `campaign.h5`.

    Args:
        directory: The campaign directory.
        config: The config as launched.
        parts: All finished parts.
        verdict: Why the campaign stopped; None if it has not.

    Raises:
        ResumableError: If the disk is full.
    """
    with in_memory_hdf5(directory / CAMPAIGN_FILE) as root:
        root.attrs.update(
            schema_version=SCHEMA_VERSION,
            campaign=config.name,
            config_json=json.dumps(config.model_dump(mode="json"), sort_keys=True),
            units=json.dumps(UNITS, sort_keys=True),
        )
        if verdict is not None:
            root.attrs.update(verdict=verdict.kind.value, verdict_evidence=verdict.evidence)
        for part in parts:
            root[part.link] = h5py.ExternalLink(f"{PARTS}/{part.path.name}", "/")
        _write_table(root.create_group("ledger"), parts)
        _link_dataset(root.create_group("dataset"), [part for part in parts if part.has_labels])


@contextmanager
def open_index(path: Path) -> Iterator[h5py.File]:
    """Open a `campaign.h5` for reading.

    Raises:
        LedgerError: If the file is missing, damaged or not a campaign file.
    """
    fix = "delete it and resume: it is rebuilt from parts/"
    if seal_state(path) is SealState.BROKEN:
        raise LedgerError(f"{path}: its bytes are not those that were written; {fix}")
    with open_hdf5(path, fix=fix) as root:
        if "config_json" not in root.attrs:
            raise LedgerError(f"{path}: was not written by al-engine; {fix}")
        yield root


def _write_table(group: h5py.Group, parts: Sequence[Part]) -> None:
    for column in ("name", "key", "content_hash"):
        values = [os.fsencode(getattr(part, column)) for part in parts]
        group.create_dataset(column, data=np.array(values, dtype="S" if values else "S1"))
    group.create_dataset("seconds", data=np.array([part.seconds for part in parts], dtype="f8"))


@dataclass(slots=True)
class _Extras:
    """The stresses and weights of labelled frames, which only some parts have."""

    n_frames: int = 0
    stresses: list[tuple[int, h5py.VirtualSource]] = field(default_factory=list)  # with the number of frames before
    weights: list[np.ndarray] = field(default_factory=list)

    def add(self, labelled: h5py.Group, file_name: str) -> None:
        """Add the labelled frames of a part."""
        count = len(labelled["n_atoms"])
        if has_dataset(labelled, STRESS):
            stress = labelled[STRESS]
            source = h5py.VirtualSource(file_name, stress.name, stress.shape, stress.dtype)
            self.stresses.append((self.n_frames, source))
        self.weights.append(labelled[WEIGHT][()] if has_dataset(labelled, WEIGHT) else np.ones(count))
        self.n_frames += count

    def write(self, group: h5py.Group) -> None:
        """Link the stresses, NaN for frames without; copy the weights, if not all of them are 1.

        Weights are copied because a weight of NaN, as of a missing part, would be taken for a fault of the frame.
        """
        if self.stresses:
            layout = h5py.VirtualLayout((self.n_frames, 3, 3), "<f8")
            for start, source in self.stresses:
                layout[start : start + source.shape[0]] = source
            group.create_virtual_dataset(STRESS, layout, fillvalue=np.nan)
            group[STRESS].attrs["unit"] = UNITS[STRESS]
        if any(np.any(each != 1.0) for each in self.weights):
            group[WEIGHT] = np.concatenate(self.weights)


def _link_dataset(group: h5py.Group, parts: Sequence[Part]) -> None:
    """Write one virtual data set per array over all parts with labelled frames; the arrays in `STORED` are copied."""
    columns = {**PER_ATOM, **PER_FRAME, **LABELS_PER_ATOM, **LABELS_PER_FRAME}
    sources: dict[str, list[h5py.VirtualSource]] = {name: [] for name in columns}
    stored: dict[str, list[np.ndarray]] = {name: [] for name in STORED}
    extras = _Extras()
    for part in parts:
        file_name = f"{PARTS}/{part.path.name}"
        with open_part(part.path) as root:
            extras.add(root["labelled"], file_name)
            for name in columns:
                dataset = root["labelled"][name]
                if name in STORED:
                    stored[name].append(dataset[()])
                elif len(dataset):
                    sources[name].append(h5py.VirtualSource(file_name, dataset.name, dataset.shape, dataset.dtype))
    extras.write(group)
    for name, (shape, kind) in columns.items():
        dtype = np.dtype(kind).newbyteorder("<")
        if name in STORED:
            group[name] = np.concatenate([np.empty((0, *shape), dtype), *stored[name]])
        else:
            layout = h5py.VirtualLayout((sum(s.shape[0] for s in sources[name]), *shape), dtype)
            start = 0
            for source in sources[name]:
                layout[start : start + source.shape[0]] = source
                start += source.shape[0]
            group.create_virtual_dataset(name, layout, fillvalue=np.nan if dtype.kind == "f" else MISSING)
        if name in UNITS:
            group[name].attrs["unit"] = UNITS[name]
