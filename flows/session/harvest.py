"""Labels of structures from elsewhere by the method of a campaign."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.system import StoredSystem
from al_engine.errors import InputError
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.units import MEV_PER_EV
from flows.session.checks_together import flattest, refuse_small_cell
from flows.stages.initial_set.importing import known_systems, stored_systems
from flows.stages.labels.levels import level_to_go_on_with
from labelers.backends.registry import level_of_theory
from labelers.checks.reference import ReferenceMethod
from labelers.pool.chunk import label_chunk
from labelers.pool.pool import LabelPool
from models.inference.calculator import load_models
from models.inference.committee import Committee
from samplers.initial.user_data import with_electrons, write_hdf5_data
from samplers.reading.structure_files import FileStructure, read_structures


@dataclass(frozen=True, slots=True)
class Harvest:
    """What came of structures that were labelled.

    Attributes:
        labelled: Number of labels.
        failures: Why structures were not labelled, by their numbers in the file, from 0.
        errors_mev_per_ang: Force error of the newest committee on the worst atom of each labelled structure, meV/Å;
            empty without a committee.
    """

    labelled: int
    failures: Mapping[int, str]
    errors_mev_per_ang: tuple[float, ...]


def harvest(directory: Path, frames: Path, output: Path) -> Harvest:
    """Label all structures of a file with the method of a campaign, and write the labels with their level of theory.

    A charge or spin that the file does not state is taken from the system of the campaign that has the same atoms.

    Args:
        directory: The campaign directory.
        frames: The file, in a format that ASE reads.
        output: File for the labels, HDF5.

    Raises:
        InputError: If the campaign has no initial set, the file cannot be read, the output exists, the charge of a
            structure is unknown, no structure can be labelled, or this machine would label at another level of theory
            than the campaign.
        ResumableError: If the file cannot be written.
    """
    ledger = Ledger.open(directory)
    config = ledger.config
    if output.exists():
        raise InputError(f"{output}: exists already; give another file with --output")
    parts = ledger.reader()
    if names.INITIAL_DATASET not in parts.names:
        raise InputError(f"{directory}: has no labelled initial set yet; `al-engine run` makes it")
    systems = stored_systems(parts, config)
    structures = [_with_electrons(each, systems) for each in read_structures(frames)]
    periodic = any(frame.is_periodic for frame in structures)
    level = level_to_go_on_with(ledger, level_of_theory(config.labels, periodic=config.labels_boxes))
    boxes = [frame for frame in structures if frame.is_periodic]
    if boxes and level.backend != "ase":
        with ReferenceMethod(config.labels, config.selection, periodic=True, workers=1) as reference:
            refuse_small_cell(flattest(boxes), config.labels, reference)
    failures: dict[int, str] = {}
    labels: list[LabelledFrame] = []
    with LabelPool(config.labels, periodic=periodic) as pool:
        outcomes = label_chunk(pool, structures, config.labels, config.selection)
    for number, outcome in enumerate(outcomes):
        if outcome.labelled is None:
            failures[number] = outcome.message or outcome.reason.value
        else:
            labels.append(outcome.labelled)
    if not labels:
        listed = "; ".join(f"frame {number}: {reason}" for number, reason in list(failures.items())[:3])
        raise InputError(f"{frames}: no structure can be labelled ({listed})")
    write_hdf5_data(output, labels, level.to_dict())
    return Harvest(len(labels), failures, _errors(directory, labels))


def _errors(directory: Path, labels: list[LabelledFrame]) -> tuple[float, ...]:
    """Force error of the newest committee on the worst atom of each labelled structure, meV/Å."""
    try:
        committee = Committee(load_models(directory, iteration=None, device=torch.device("cpu")))
        _, forces = committee.predict([item.frame for item in labels])
    except InputError:  # no committee yet, or an element that it does not know
        return ()
    differences = [members.mean(0) - item.forces for members, item in zip(forces, labels, strict=True)]
    return tuple(MEV_PER_EV * float(np.linalg.norm(each, axis=1).max()) for each in differences)


def _with_electrons(structure: FileStructure, systems: list[StoredSystem]) -> Frame:
    """The structure with charge and spin as its file states them, else as the system of the same atoms has them.

    Raises:
        InputError: If neither is known, and a molecule of a system has a charge or unpaired electrons.
    """
    known = known_systems(systems)
    stated, atoms = structure.stated, np.sort(structure.frame.numbers)
    unstated = stated.charge is None or stated.unpaired_electrons is None
    unknown = not any(np.array_equal(np.sort(system.numbers), atoms) for system in known)
    if unstated and unknown and any(system.has_ions or system.has_open_shells for system in systems):
        raise InputError(
            f"{structure.where}: does not state its charge and spin, and no system of the campaign has the same atoms; "
            "write `charge` and `unpaired_electrons` into the file"
        )
    return with_electrons(structure.frame, stated, known)
