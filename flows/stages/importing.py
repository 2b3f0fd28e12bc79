"""Stage `initial-data-frames`: the user's own labelled frames, and the structures that the campaign labels."""

from typing import Any

from al_engine.campaign import names
from al_engine.campaign.inputs import input_file_hashes
from al_engine.campaign.labels import LevelOfTheory
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.system import StoredSystem
from al_engine.config import CampaignConfig
from al_engine.files.frames_hdf5 import write_frames, write_labelled
from al_engine.structures.frames import Frame
from flows.compute.stage_call import Stage, Work, summarise


def plan(ledger: Ledger, level: LevelOfTheory) -> Stage:
    """The stage that reads the files of `data`; the systems must be built."""
    config = ledger.config
    return Stage(
        name=names.DATA,
        job=f"{__name__}:read",
        inputs={
            "data": [item.key_values() for item in config.data],
            "files": input_file_hashes(config, ledger.directory),
            "level": level.fingerprint(),
        },
        parents=tuple(names.all_initial_frames(config)),
        arguments={"level": level.to_dict()},
        needs="nothing",
    )


def read(work: Work, *, level: dict[str, Any]) -> None:
    """Read the files, and write the labels that are kept and the structures that are labelled.

    Raises:
        InputError: If a file cannot be used.
    """
    from samplers.initial.user_data import user_data

    config = work.config
    found = [
        user_data(
            item,
            _known_systems(work.parts, config),
            base_dir=work.directory,
            level=level,
            max_force_ev_per_ang=config.labels.max_force_ev_per_ang,
        )
        for item in config.data
    ]
    kept = [frame for data in found for frame in data.labelled]
    unlabelled = [frame for data in found for frame in data.unlabelled]
    with work.write() as root:
        write_labelled(root.create_group("labelled"), kept)
        write_frames(root.create_group("train"), unlabelled)
        write_frames(root.create_group("test"), [])
        root.attrs["left_out"] = [str(fault) for data in found for fault in data.faults]
        left_out = sum(len(data.faults) for data in found)
        summarise(root, f"{len(kept)} labelled frames, {len(unlabelled)} frames to label, {left_out} left out")


def _known_systems(parts: PartReader, config: CampaignConfig) -> list[Frame]:
    """The systems of the campaign, and the clusters that are labelled."""
    frames = []
    for name in names.all_initial_frames(config):
        with parts.open(name) as root:
            stored = StoredSystem.read(root)
        frames += [stored.frame, *([] if stored.cluster is None else [stored.cluster])]
    return frames
