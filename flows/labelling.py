"""Label parts: chunks of labelled frames and recorded failures, and what is read back from them."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.config import LabelsConfig
from al_engine.errors import InputError, typed
from al_engine.frame_io import read_frames, read_labelled, write_labelled
from al_engine.frames import Frame, LabelledFrame
from al_engine.ledger import CONFIG_FILE, Ledger
from al_engine.parts import open_part, write_part
from al_engine.protocols import Progress
from flows import names
from flows.label_checks import checked_forces
from labelers.cache import LabelCache
from labelers.chunk import label_chunk
from labelers.journal import LabelJournal
from labelers.pool import LabelPool
from labelers.protocol import LabelReason, LevelOfTheory
from labelers.registry import known_fault


@dataclass(frozen=True, slots=True)
class Labels:
    """What became of a list of frames.

    Attributes:
        labelled: The labelled frames by position in the list.
        reasons: One reason code per frame.
    """

    labelled: dict[int, LabelledFrame]
    reasons: tuple[str, ...]

    @property
    def failures(self) -> int:
        """Frames without a label."""
        return len(self.reasons) - len(self.labelled)


def chunks(total: int, size: int) -> list[tuple[int, int]]:
    """Ranges (first, last), counted from 1, that cover `total` frames."""
    return [(start + 1, min(start + size, total)) for start in range(0, total, size)]


def frames_to_label(ledger: Ledger, iteration: int | None) -> list[Frame]:
    """The frames that an iteration has labelled, in the order of its chunks; None: those of the initial set."""
    if iteration is None:
        with open_part(ledger.part_path(names.INITIAL_FRAMES)) as root:
            return read_frames(root["train"]) + read_frames(root["test"])
    with open_part(ledger.part_path(names.selection(iteration))) as root:
        return read_frames(root["selected"])


def write_label_part(
    path: Path,
    key: str,
    pool: LabelPool,
    frames: Sequence[Frame],
    *,
    config: LabelsConfig,
    level: LevelOfTheory,
    min_distance_ang: float,
    min_contact_factor: float,
    progress: Progress,
    cache: LabelCache | None = None,
    checked_frames: int = 0,
) -> None:
    """Label a chunk of frames and publish it as a part.

    Labels finished before a kill are taken from its journal, those of the same frames and level from the cache. The
    forces of `checked_frames` of them are compared with finite differences of energies before the part is published.

    Raises:
        InputError: If forces are not the derivative of the energies.
    """
    start = time.perf_counter()
    cached = {} if cache is None else cache.find(frames)
    with LabelJournal(path.with_suffix(".journal"), key=key, frames=frames) as journal:
        outcomes = label_chunk(
            pool,
            frames,
            config,
            min_distance_ang=min_distance_ang,
            min_contact_factor=min_contact_factor,
            done=cached | journal.done,
            record=journal.record,
            progress=progress,
        )
        if cache is not None:
            cache.keep(outcome for index, outcome in enumerate(outcomes) if index not in cached)
        check = checked_forces(pool, outcomes, config, level, count=checked_frames, progress=progress, cache=cache)
        with write_part(path, kind=path.stem, key=key) as root:
            write_labelled(root.create_group("labelled"), [o.labelled for o in outcomes if o.labelled is not None])
            root["reason"] = np.array([o.reason.value for o in outcomes], dtype="S")
            root["message"] = np.array([o.message.encode()[:400] for o in outcomes], dtype="S400")
            root["rescue"] = np.array([o.rescue.encode() for o in outcomes], dtype="S40")
            root.attrs["level_of_theory"] = json.dumps(level.to_dict(), sort_keys=True)
            if check is not None:
                root.attrs["force_check"] = json.dumps(check)
            root.attrs["seconds"] = time.perf_counter() - start
    journal.path.unlink()


def read_labels(paths: Sequence[Path]) -> Labels:
    """Read label parts in order."""
    labelled: dict[int, LabelledFrame] = {}
    reasons: list[str] = []
    for path in paths:
        with open_part(path) as root:
            codes = [code.decode() for code in root["reason"][()]]
            found = iter(read_labelled(root["labelled"]))
        labelled |= {len(reasons) + i: next(found) for i, code in enumerate(codes) if code == LabelReason.OK}
        reasons += codes
    return Labels(labelled=labelled, reasons=tuple(reasons))


def refuse_failed_initial_set(labels: Labels, ledger: Ledger, *, n_train: int, n_test: int) -> None:
    """Refuse to go on with an initial set of which too little is labelled.

    Args:
        labels: The labels of initial and test frames.
        ledger: The campaign.
        n_train: Labelled initial frames.
        n_test: Labelled test frames.

    Raises:
        InputError: If more than `labels.max_failed_share` of them failed, or there are not two frames to train with and
            one to test.
    """
    allowed = ledger.config.labels.max_failed_share * len(labels.reasons)
    if labels.failures > allowed or n_train < 2 or n_test < 1:  # noqa: PLR2004 (one to train on, one to validate)
        worst = max(set(labels.reasons) - {"ok"}, key=labels.reasons.count)
        raise InputError(
            f"{labels.failures} of {len(labels.reasons)} initial labels failed, most as `{worst}`: check charge, "
            "unpaired electrons and the structure; the messages stand in "
            f"{ledger.parts_directory}/initial-labels-*.h5. Once their cause is gone, "
            f"`al-engine resume {typed(ledger.directory)} --retry-failed-labels` computes them again"
        )


def stored_level(ledger: Ledger) -> dict[str, Any] | None:
    """The level of theory of a campaign's labels, as stored with the first of them; None before there are any."""
    for path in ledger.label_parts(None)[:1]:  # one level per campaign, so the first speaks for all
        with open_part(path) as root:
            return dict(json.loads(str(root.attrs["level_of_theory"])))
    return None


def refuse_other_level(ledger: Ledger, level: LevelOfTheory) -> None:
    """Refuse to mix labels.

    Raises:
        InputError: If the campaign's labels were made with another backend, version or settings.
    """
    stored = stored_level(ledger)
    if stored is None or stored == level.to_dict():
        return
    start_over = f"`al-engine run {typed(ledger.directory / CONFIG_FILE)} --dir NEW` starts over with the same config"
    fault = known_fault(stored)
    if fault is not None:
        raise InputError(
            f"{ledger.directory}: {fault}. This version makes them otherwise and never mixes: {start_over}"
        )
    raise InputError(
        f"{ledger.directory}: this campaign was labelled with {_described(stored)}, this machine would label with "
        f"{_described(level.to_dict())}; labels are never mixed: install the former, or {start_over}"
    )


def _described(level: dict[str, object]) -> str:
    return f"{level['method']} by {level['backend']} {level['backend_version']} {json.dumps(level['settings'])}"
