"""Stage `initial-data-frames`: the user's own labelled frames, and the structures that the campaign labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.inputs import input_file_hashes
from al_engine.campaign.labels import LevelOfTheory
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.system import StoredSystem
from al_engine.config import CampaignConfig
from al_engine.files.frames_hdf5 import read_frames, write_frames, write_labelled
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.structures.identity import duplicates
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.labels.labelling import other_limits

LONGEST_BYTES = 400
"""Largest number of bytes of the reason why a frame was left out."""


def plan(ledger: Ledger, level: LevelOfTheory) -> Stage:
    """The stage that reads the files of `data`; the systems must be built."""
    config = ledger.config
    max_force = other_limits(config).get("max_force_ev_per_ang")
    return Stage(
        name=names.DATA,
        job=f"{__name__}:read",
        inputs={
            "data": [item.key_values() for item in config.data],
            "files": input_file_hashes(config, ledger.directory),
            "level": level.fingerprint(),
            # Left out if they have their defaults, because the keys of earlier versions lack them.
            **({} if max_force is None else {"max_force_ev_per_ang": max_force}),
            **({"elements": config.file_elements} if config.file_elements else {}),
        },
        parents=tuple(names.all_initial_frames(config)),
        arguments={"level": level.to_dict()},
        needs="nothing",
    )


def read(work: Work, *, level: dict[str, Any]) -> None:
    """Read the files, and write the labels that are kept and the structures that are labelled.

    Raises:
        InputError: If a file cannot be used, or if a frame has the atoms of a frame of the campaign but another charge
            or spin.
    """
    from samplers.initial.user_data import user_data
    from samplers.reading.charge_spin import refuse_mixed_electrons

    config = work.config
    known = _initial_frames(work.parts, config)
    stored = stored_systems(work.parts, config)
    systems = known_systems(stored)
    sources = [("the campaign", frame) for frame in [*systems, *known]]
    kept: list[LabelledFrame] = []
    unlabelled: list[Frame] = []
    weights: list[float] = []
    left_out: list[str] = []
    n_left_out = 0
    for item in config.data:
        data = user_data(
            item,
            systems,
            base_dir=work.directory,
            level=level,
            max_force_ev_per_ang=config.labels.max_force_ev_per_ang,
            has_ions=any(system.has_ions for system in stored),
            has_open_shells=any(system.has_open_shells for system in stored),
            elements=config.file_elements,
        )
        left_out += map(str, data.faults)
        n_left_out += len(data.faults)
        frames = [*(labelled.frame for labelled in data.labelled), *data.unlabelled]
        copied = duplicates(frames, known)  # above all of test frames, which must not be trained on
        n_left_out += int(copied.sum())
        if copied.any():
            left_out.append(f"{item.file}: {int(copied.sum())} copies of frames of the campaign or of another file")
        labelled = dict(enumerate(data.labelled))
        for index in np.flatnonzero(~copied).tolist():
            if index in labelled:
                kept.append(labelled[index])
            else:
                unlabelled.append(frames[index])
                weights.append(data.weights[index - len(data.labelled)])
        sources += [(item.file, frame) for frame in frames]
        known += [frame for frame, is_copy in zip(frames, copied, strict=True) if not is_copy]
    # Clusters that are cut from a mixture have many compositions, of which the checks before the campaign see one.
    refuse_mixed_electrons(sources, config.labels)
    with work.write() as root:
        write_labelled(root.create_group("labelled"), kept)
        write_frames(root.create_group("train"), unlabelled)
        if any(weight != 1.0 for weight in weights):
            root["train/weight"] = np.array(weights)
        write_frames(root.create_group("test"), [])
        root["left_out"] = np.array([text.encode()[:LONGEST_BYTES] for text in left_out], dtype=f"S{LONGEST_BYTES}")
        summarise(root, f"{len(kept)} labelled frames, {len(unlabelled)} frames to label, left out: {n_left_out}")


def _initial_frames(parts: PartReader, config: CampaignConfig) -> list[Frame]:
    """The initial frames and the test frames of all systems."""
    frames: list[Frame] = []
    for name in names.all_initial_frames(config):
        with parts.open(name) as root:
            frames += read_frames(root["train"]) + read_frames(root["test"])
    return frames


def stored_systems(parts: PartReader, config: CampaignConfig) -> list[StoredSystem]:
    """The systems of the campaign."""
    systems = []
    for name in names.all_initial_frames(config):
        with parts.open(name) as root:
            systems.append(StoredSystem.read(root))
    return systems


def known_systems(systems: Sequence[StoredSystem]) -> list[Frame]:
    """The structures of systems, and the clusters that are labelled for them."""
    return [frame for system in systems for frame in (system.frame, system.cluster) if frame is not None]
