"""What the selection reads beside the sampled frames, and the structures that are labelled for the frames."""

from collections.abc import Sequence

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.samples import SampledFrames
from al_engine.campaign.system import StoredSystem
from al_engine.config import CampaignConfig, SelectionConfig, StatePoint
from al_engine.files.frames_hdf5 import read_frames, write_frames
from al_engine.selection.cutting import Cutting, LabelStructure
from al_engine.selection.fates import FateArray, open_candidates
from al_engine.selection.window import Window
from al_engine.structures.frames import BoolArray, FloatArray, Frame


def point_cuttings(parts: PartReader, config: CampaignConfig, points: Sequence[StatePoint]) -> list[Cutting]:
    """How the frames of each state point become the structures that are labelled."""
    cuttings = {}
    for name, own in config.by_system.items():
        with parts.open(names.initial_frames(name)) as root:
            system = StoredSystem.read(root)
        cuttings[name] = Cutting.of(
            own.selection,
            bonds=system.bonds,
            molecules=system.molecules,
            cluster=system.cluster,
            electrons=system.electrons,
            seed=own.seed,
        )
    return [cuttings[point.system] for point in points]


def structures_to_label(
    sampled: SampledFrames,
    fates: FateArray,
    cuttings: Sequence[Cutting],
    *,
    window: Window,
    config: CampaignConfig,
    iteration: int,
) -> dict[int, LabelStructure]:
    """The structure to label for every candidate, by the candidate's index among all sampled frames."""
    candidates, columns = open_candidates(fates), sampled.columns
    deviation, net_force = columns[f"deviation_{config.selection.deviation}"], columns["net_force_deviation"]
    by_net_force = window.by_net_force(deviation, net_force)
    structures: dict[int, LabelStructure] = {}
    for part, cutting in enumerate(cuttings):
        here = candidates[sampled.source[candidates, 0] == part]
        for_label = cutting.apply(
            sampled.frames(here),
            here,
            iteration=iteration,
            worst_atom=columns["worst_atom"][here],
            worst_molecule=columns["worst_molecule"][here],
            by_net_force=by_net_force[here],
        )
        structures |= zip(here.tolist(), for_label, strict=True)
    return structures


def write_structures(group: h5py.Group, structures: Sequence[LabelStructure], interior: Sequence[BoolArray]) -> None:
    """Write the structures to label into an empty group, with the place of each in the frame that it is cut from.

    Args:
        group: The group.
        structures: The structures.
        interior: Whether each atom of these structures stands for the sampled frame (`Cutting.interior`).
    """
    write_frames(group, [structure.frame for structure in structures])
    group["atom"] = np.concatenate([np.empty(0, dtype=np.int64), *(structure.atoms for structure in structures)])
    group["centre_molecule"] = np.array([structure.molecule for structure in structures], dtype=np.int64)
    group["interior"] = np.concatenate([np.empty(0, dtype=bool), *interior])


def looked_at(config: SelectionConfig, iteration: int) -> range:
    """Iterations whose samples the window depends on, including the iteration itself."""
    back = config.adaptive.iterations if config.adaptive.enabled else 1
    return range(max(0, iteration + 1 - back), iteration + 1)


def recent_deviations(parts: PartReader, config: CampaignConfig, iteration: int) -> FloatArray:
    """Deviations in eV/Å of all sound frames that an adaptive window depends on; empty for a fixed window."""
    values = [np.empty(0)]
    if config.selection.adaptive.enabled:
        for k in looked_at(config.selection, iteration):
            for name in names.samples(k, config.state_points):
                with parts.open(name) as root:
                    values.append(root[f"deviation_{config.selection.deviation}"][()][root["sound"][()]])
    return np.concatenate(values)


def known_frames(parts: PartReader, config: CampaignConfig, iteration: int) -> list[Frame]:
    """All frames ever chosen to be labelled, and the frames of failed audits.

    They are initial frames, test frames and selected frames; frames whose labels failed are included.
    """
    known: list[Frame] = []
    for name in names.all_initial_frames(config):
        with parts.open(name) as root:
            known += read_frames(root["train"]) + read_frames(root["test"])
    if config.data:
        with parts.open(names.DATA) as root:
            known += read_frames(root["labelled"]) + read_frames(root["train"])
    for k in range(iteration):
        with parts.open(names.selection(k)) as root:
            known += read_frames(root["selected"])
        if names.audited(k) in parts.names:
            with parts.open(names.audited(k)) as root:
                known += read_frames(root["labelled"])
    return known
