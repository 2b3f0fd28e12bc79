"""Checks of a new campaign that concern its systems and the user's own frames together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from al_engine.campaign.labels import LabelOutcome, LevelOfTheory
from al_engine.config import CampaignConfig, LabelsConfig
from al_engine.errors import InputError
from al_engine.protocols import Progress
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.structures.periodic import cell_heights
from al_engine.units import GPA_PER_EV_PER_ANG3
from labelers.checks.cell_check import changes_when_doubled, too_small
from labelers.checks.reference import ReferenceMethod
from labelers.checks.stress_check import is_wrong, stress_disagreement
from labelers.pool.cache import LabelCache
from samplers.building.system import System
from samplers.initial.user_data import compared, user_data
from samplers.reading.charge_spin import refuse_mixed_electrons


@dataclass(frozen=True, slots=True)
class CheckedData:
    """Result of the checks of the user's own frames.

    Attributes:
        notes: Remarks for the user, a sentence each.
        labels: Labels that were computed to compare with the user's.
        elements: Atomic numbers that occur in the frames.
        to_label: Number of frames that the campaign labels.
    """

    notes: tuple[str, ...] = ()
    labels: tuple[LabelOutcome, ...] = ()
    elements: frozenset[int] = frozenset()
    to_label: int = 0


def checked_data(
    config: CampaignConfig,
    systems: Sequence[System],
    labelled: Sequence[Frame],
    *,
    level: LevelOfTheory,
    base_dir: Path,
    cache: LabelCache | None,
    progress: Progress,
) -> CheckedData:
    """Check the user's own frames, and that all frames of the campaign fit together.

    Args:
        config: The config.
        systems: The systems of the campaign.
        labelled: The structures that are labelled: the systems, or clusters cut from them.
        level: Level of theory of the labels.
        base_dir: Folder that relative paths in the config start from.
        cache: Labels that exist already, or None.
        progress: Called with the number of labels made.

    Raises:
        InputError: If a file cannot be used, its labels are not of the campaign's method, or frames of the same atoms
            differ in charge or spin.
    """
    notes: list[str] = []
    frames: list[tuple[str, Frame]] = [("the system", frame) for frame in labelled]
    to_label = 0
    if not config.data:
        refuse_mixed_electrons(frames, config.labels)
        return CheckedData()
    with ReferenceMethod(
        config.labels,
        config.selection,
        periodic=config.labels_boxes,
        cache=cache,
        remember=True,
        progress=progress,
    ) as reference:
        for item in config.data:
            path = base_dir / item.file
            found = user_data(
                item,
                [*(system.frame for system in systems), *labelled],
                base_dir=base_dir,
                level=level.to_dict(),
                max_force_ev_per_ang=config.labels.max_force_ev_per_ang,
                has_ions=any(system.has_ions for system in systems),
                has_open_shells=any(system.has_open_shells for system in systems),
                elements=config.file_elements,
            )
            notes += found.notes
            to_label += len(found.unlabelled)
            own = [*(labelled.frame for labelled in found.labelled), *found.unlabelled]
            frames += [(str(path), frame) for frame in own]
            boxes = [frame for frame in own if frame.is_periodic]
            if boxes and level.backend != "ase":
                refuse_small_cell(flattest(boxes), config.labels, reference)
            if found.labelled and item.checked_frames:
                differs = compared(found.labelled, item.checked_frames, reference)
                if not differs and config.training.stress_weight:
                    differs = _wrong_stress(found.labelled, reference)
                if differs:
                    raise InputError(f"{path}: {differs}")
        labels = tuple(reference.made)
    refuse_mixed_electrons(frames, config.labels)
    numbers = frozenset(int(z) for _, frame in frames for z in np.unique(frame.numbers))
    return CheckedData(tuple(notes), labels, numbers, to_label)


def _wrong_stress(labelled: Sequence[LabelledFrame], reference: ReferenceMethod) -> str:
    """How the stress of the first kept label that has one differs from the campaign's method; empty if it agrees."""

    def energies(frames: Sequence[Frame]) -> list[float | None]:
        return [None if label is None else label[0] for label in reference(frames)]

    item = next((each for each in labelled if each.stress is not None), None)
    found = None if item is None else stress_disagreement(item, energies)
    if found is None or not is_wrong(*found):
        return ""
    stated, right = (GPA_PER_EV_PER_ANG3 * value for value in (found[0], sum(found)))
    return (
        f"its stress is not the derivative of the campaign's energies: {stated:.4g} GPa along a strain, and "
        f"{right:.4g} GPa by the energies; it has to be positive under tension; name it and its unit with "
        "stress_key and stress_unit, or remove it from the file"
    )


def flattest(boxes: Sequence[Frame]) -> Frame:
    """The periodic frame whose cell has the smallest height."""
    return min(boxes, key=lambda frame: float(cell_heights(frame.cell, frame.pbc).min()))


def refuse_small_cell(frame: Frame, config: LabelsConfig, reference: ReferenceMethod) -> None:
    """Refuse a periodic cell that is too small for the Γ point alone.

    Raises:
        InputError: If the cell is too small, or if that is not known.
    """
    if not frame.is_periodic:
        return
    changes = changes_when_doubled(frame, reference, max_height_ang=config.cell_check.max_height_ang)
    if changes is None:
        raise InputError(
            "it is not known whether the cell is large enough for GFN2-xTB, because doubled cells have no label "
            f"({reference.failure}); use a larger cell, or set labels.cell_check.max_height_ang to 0"
        )
    reason = too_small(changes, frame, config.cell_check)
    if reason:
        raise InputError(reason)
