"""Label parts: chunks of labelled frames and recorded failures, and what is read back from them."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.labels import Labels, LevelOfTheory, stored_level
from al_engine.campaign.ledger import CONFIG_FILE, Ledger
from al_engine.config import LabelsConfig
from al_engine.errors import InputError, typed
from al_engine.files.frames_hdf5 import read_frames, write_labelled
from al_engine.files.part_file import open_part, write_part
from al_engine.protocols import Progress
from al_engine.structures.frames import Frame
from flows.stages.label_checks import checked_forces
from labelers.backends.earlier_levels import changes_since
from labelers.pool.cache import LabelCache
from labelers.pool.chunk import label_chunk
from labelers.pool.journal import LabelJournal
from labelers.pool.pool import LabelPool


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
        raise InputError(
            f"{labels.failures} of {len(labels.reasons)} initial labels failed, {labels.failure_words()}. Once their "
            f"cause is gone, `al-engine resume {typed(ledger.directory)} --retry-failed-labels` computes them again; "
            f"if it is in the config, copy {ledger.directory}/campaign.yaml beside itself, change the copy, and start "
            "over: `al-engine run COPY --dir NEW`"
        )


def refuse_mixed_charges(frames: Sequence[Frame], config: LabelsConfig) -> None:
    """Refuse frames of several charges or spins where one set of parameters says both for all of them.

    Raises:
        InputError: If `labels.ase_charge_and_spin` is `parameters` and not all frames are alike.
    """
    kinds = sorted({(frame.charge, frame.unpaired_electrons) for frame in frames})
    if config.backend == "ase" and config.ase_charge_and_spin == "parameters" and len(kinds) > 1:
        listed = ", ".join(f"charge {charge:+d} with {unpaired} unpaired electrons" for charge, unpaired in kinds)
        raise InputError(
            "labels.ase_charge_and_spin is `parameters`, which say the same for all frames, but the system and "
            f"initial.file have several ({listed}); leave frames out of the file or set it to `auto` or `atoms` in a "
            "copy of the config, and start over with another --dir"
        )


def level_to_go_on_with(ledger: Ledger, level: LevelOfTheory) -> LevelOfTheory:
    """The level of theory of a campaign's labels, if labels made now would be of it; refuses to mix labels otherwise.

    Args:
        ledger: The campaign.
        level: What a label would be now.

    Returns:
        `level`; or the campaign's own, if an earlier version wrote it in another form.

    Raises:
        InputError: If the campaign's labels were made with another backend, version or settings.
    """
    stored = stored_level(ledger)
    if stored is None or stored == level.to_dict():
        return level
    changes = changes_since(stored, level, closed_shells=_are_closed_shells(ledger.label_parts(None)))
    if changes == []:
        return LevelOfTheory(**stored)
    start_over = f"`al-engine run {typed(ledger.directory / CONFIG_FILE)} --dir NEW` starts over with the same config"
    if changes is not None:
        raise InputError(
            f"{ledger.directory}: its labels were made by an earlier version, and new ones would differ: "
            f"{'; '.join(changes)}. Labels are never mixed: {start_over}"
        )
    raise InputError(
        f"{ledger.directory}: this campaign was labelled with {_described(stored)}, this machine would label with "
        f"{_described(level.to_dict())}; labels are never mixed: install the former, or {start_over}"
    )


def _are_closed_shells(paths: Sequence[Path]) -> bool:
    """Whether all labelled frames of some parts are neutral and without unpaired electrons."""
    for path in paths:
        with open_part(path) as root:
            frames = root["labelled"]
            if np.any(frames["charge"][()]) or np.any(frames["unpaired_electrons"][()]):
                return False
    return True


def _described(level: dict[str, object]) -> str:
    return f"{level['method']} by {level['backend']} {level['backend_version']} {json.dumps(level['settings'])}"
