"""Stage `...-labels-FIRST-LAST`: label a chunk of frames, of the initial set, an iteration or an audit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.labels import LabelOutcome, Labels, LevelOfTheory
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig, OneSystemConfig
from al_engine.files.frames_hdf5 import read_frames, write_labelled
from al_engine.files.lock import has_record_locks
from al_engine.protocols import Progress
from al_engine.structures.frames import Frame
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.labels.label_checks import checked_forces, force_check_text
from labelers.pool.cache import LabelCache
from labelers.pool.chunk import label_chunk
from labelers.pool.journal import LabelJournal
from labelers.pool.label_check import screen_label
from labelers.pool.pool import LabelPool

LABEL_CACHE = "labels.sqlite"
"""File of a campaign directory that keeps labels beside the parts."""
UNNAMED_LIMITS = {"max_force_ev_per_ang": 100.0, "min_distance_ang": 0.6, "min_contact_factor": 0.5}
"""Limits that the keys of other stages leave out, because these keys had no limits when these were the defaults."""


def chunks(parts: PartReader, config: CampaignConfig, source: str) -> list[tuple[int, int]]:
    """Ranges (first, last), counted from 1, of the frames of the part `source` that one stage labels."""
    with parts.open(source) as root:
        total = sum(len(root[group]["n_atoms"]) for group in _groups(source))
    size = config.labels.chunk_frames
    return [(start + 1, min(start + size, total)) for start in range(0, total, size)]


def _groups(source: str) -> tuple[str, ...]:
    """The groups of a part whose frames are labelled."""
    return ("train", "test") if names.is_initial(source) else ("selected",)


def frames_to_label(parts: PartReader, source: str) -> list[Frame]:
    """The frames of the part `source` that are labelled, in the order of the chunks."""
    with parts.open(source) as root:
        return [frame for group in _groups(source) for frame in read_frames(root[group])]


def plan(ledger: Ledger, level: LevelOfTheory, source: str, first: int, last: int) -> Stage:
    """The stage that labels frames of a part.

    Args:
        ledger: The campaign.
        level: The level of theory.
        source: Name of the part with the frames: the initial frames of a system, a selection, or the frames drawn for
            an audit.
        first: Number of the first frame, counted from 1.
        last: Number of the last frame.
    """
    settings = ledger.config.labels
    checked = settings.force_check.frames if first == 1 else 0
    return Stage(
        name=names.labels(source, first, last),
        job=f"{__name__}:label",
        inputs={
            "level": level.fingerprint(),
            **label_limits(ledger.config),
            "range": [first, last],
            **({"stress": True} if settings.stress and ledger.config.labels_boxes else {}),  # earlier keys lack it
        },
        parents=(source,),
        arguments={
            "source": source,
            "first": first,
            "last": last,
            "level": level.to_dict(),
            "checked_frames": checked if names.is_initial(source) else min(checked, 1),
        },
        needs="labels",
    )


def label_limits(config: CampaignConfig | OneSystemConfig) -> dict[str, float]:
    """The limits that frames and labels have to keep, by the name of the option."""
    return {
        "max_force_ev_per_ang": config.labels.max_force_ev_per_ang,
        "min_distance_ang": config.selection.min_distance_ang,
        "min_contact_factor": config.selection.min_contact_factor,
    }


def other_limits(config: CampaignConfig | OneSystemConfig) -> dict[str, float]:
    """The limits that differ from `UNNAMED_LIMITS`, for the keys of stages whose earlier keys lack them."""
    return {name: value for name, value in label_limits(config).items() if value != UNNAMED_LIMITS[name]}


def label(work: Work, *, source: str, first: int, last: int, level: dict[str, Any], checked_frames: int) -> None:
    """Label a chunk of frames; failures are recorded with their reason.

    Raises:
        InputError: If forces are not the derivative of the energies.
    """
    frames = frames_to_label(work.parts, source)[first - 1 : last]
    theory = LevelOfTheory(**level)
    with work.label_pool() as pool, label_cache(work.directory, work.config, theory) as cache:
        done = label_frames(
            pool,
            frames,
            config=work.config,
            level=theory,
            journal=work.helper(".journal"),
            key=work.outputs[0].key,
            progress=work.progress,
            cache=cache,
            checked_frames=checked_frames,
        )
    with work.write() as root:
        done.write(root)
        summarise(root, done.summary(work.seconds))
    work.helper(".journal").unlink(missing_ok=True)  # another attempt of a job taken for lost may be first


@dataclass(frozen=True, slots=True)
class DoneLabels:
    """The outcomes of some frames that were given to the labeler.

    Attributes:
        outcomes: The outcome of each frame.
        level: The level of theory.
        check: Result of the comparison of forces with finite differences of energies; None if none was made.
    """

    outcomes: list[LabelOutcome]
    level: LevelOfTheory
    check: dict[str, Any] | None

    def write(self, root: h5py.File) -> None:
        """Write the labels and the recorded failures into an empty part."""
        outcomes = self.outcomes
        write_labelled(root.create_group("labelled"), [o.labelled for o in outcomes if o.labelled is not None])
        root["reason"] = np.array([o.reason.value for o in outcomes], dtype="S")
        root["message"] = np.array([o.message.encode()[:400] for o in outcomes], dtype="S400")
        root["rescue"] = np.array([o.rescue.encode() for o in outcomes], dtype="S40")
        root.attrs["level_of_theory"] = json.dumps(self.level.to_dict(), sort_keys=True)
        if self.check is not None:
            root.attrs["force_check"] = json.dumps(self.check)

    def summary(self, seconds: float) -> str:
        """One line for the terminal: labels, failures and their most frequent reason, rate, force check."""
        labels = Labels.of(self.outcomes)
        words = f" ({labels.failure_words()})" if labels.failures else ""
        rate = f", {60 * len(self.outcomes) / seconds:.0f}/min" if seconds > 0 else ""
        return f"{len(labels.labelled)} labels, {labels.failures} failed{words}{rate}{force_check_text(self.check)}"


def label_frames(
    pool: LabelPool,
    frames: Sequence[Frame],
    *,
    config: CampaignConfig,
    level: LevelOfTheory,
    journal: Path,
    key: str,
    progress: Progress,
    cache: LabelCache | None = None,
    checked_frames: int = 0,
) -> DoneLabels:
    """Label frames; an interrupted call resumes from the journal, which the caller removes in the end.

    Labels of the same frames and level are taken from the cache, which campaigns with other limits may share: labels
    that do not pass the limits of this campaign are computed again, so that their failure is recorded. The forces of
    `checked_frames` labels are compared with finite differences of energies.

    Args:
        pool: Workers that label.
        frames: The frames.
        config: The campaign's config.
        level: The level of theory of the labels.
        journal: File of the journal.
        key: Key of the part that is being made; a journal with another key is not used.
        progress: Receives the progress of the labels.
        cache: Labels that exist already, or None.
        checked_frames: Number of labels whose forces are checked.

    Raises:
        InputError: If forces are not the derivative of the energies.
    """
    cached = {} if cache is None else cache.find(frames)
    cached = {index: outcome for index, outcome in cached.items() if _passes(outcome, config)}
    with LabelJournal(journal, key=key, frames=frames) as kept:
        outcomes = label_chunk(
            pool,
            frames,
            config.labels,
            config.selection,
            done=cached | kept.done,
            record=kept.record,
            progress=progress,
        )
        if cache is not None:
            cache.keep(outcome for index, outcome in enumerate(outcomes) if index not in cached)
        check = checked_forces(
            pool, outcomes, config.labels, level, count=checked_frames, progress=progress, cache=cache
        )
    return DoneLabels(outcomes, level, check)


def _passes(outcome: LabelOutcome, config: CampaignConfig) -> bool:
    """Whether a label passes the limits of the campaign."""
    label, limit = outcome.labelled, config.labels.max_force_ev_per_ang
    return label is None or screen_label(len(label), label.energy, label.forces, max_force_ev_per_ang=limit) is None


def label_cache(directory: Path, config: CampaignConfig, level: LevelOfTheory) -> LabelCache:
    """The cache of labels beside the parts: the campaign's own file, or a file that several campaigns share."""
    shared = config.execution.label_cache is not None
    return LabelCache(cache_path(directory, config), level, shared=shared, stress=config.labels.stress)


def cache_path(directory: Path, config: CampaignConfig) -> Path | None:
    """The file of the cache of labels; None: each job has a cache in memory.

    On a cluster several jobs label at a time. Where they could damage the campaign's own file, because its file system
    has no locks, labels of lost jobs are kept by the journals of the chunks alone.
    """
    shared = config.execution.label_cache
    if shared is not None:
        return Path(shared).expanduser()
    if config.execution.executor != "local" and not has_record_locks(directory):
        return None
    return directory / LABEL_CACHE
