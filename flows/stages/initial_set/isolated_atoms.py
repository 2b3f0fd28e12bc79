"""Energies of isolated atoms, stored with the data set, which the models reproduce (`training.reference_energies`)."""

from collections.abc import Collection, Mapping

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.labels import LevelOfTheory
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig
from al_engine.errors import typed
from flows.compute.stage_call import Work
from flows.stages.labels.labelling import label_cache, label_frames
from labelers.checks.isolated_atoms import energies_of, isolated_atoms

GROUP = "isolated_atoms"
"""Group of the part with the data set: `numbers`, the atomic numbers, and `energy` in eV."""


def label_isolated_atoms(work: Work, elements: Collection[int], level: LevelOfTheory) -> dict[int, float]:
    """Label an isolated atom of each element, given by atomic number; returns their energies in eV.

    Raises:
        InputError: If an atom can't be labelled.
    """
    atoms, journal = isolated_atoms(elements, gfn2=level.backend != "ase"), work.helper(".journal")
    with work.label_pool() as pool, label_cache(work.directory, work.config, level) as cache:
        done = label_frames(
            pool,
            atoms,
            config=work.config,
            level=level,
            journal=journal,
            key=work.outputs[0].key,
            progress=work.progress,
            cache=cache,
        )
    journal.unlink(missing_ok=True)
    remedy = f"once the cause is gone, `al-engine resume {typed(work.directory)}` computes the label again"
    return energies_of(done.outcomes, atoms, remedy=remedy)


def write_isolated_atoms(root: h5py.File, energies: Mapping[int, float]) -> None:
    """Store the energies, by atomic number, in the part with the data set."""
    group = root.create_group(GROUP)
    group["numbers"], group["energy"] = np.array(list(energies)), np.array(list(energies.values()))


def read_isolated_atoms(parts: PartReader, config: CampaignConfig) -> dict[int, float] | None:
    """The stored energies in eV, by atomic number; None if the campaign does not use them."""
    if config.training.reference_energies == "fitted":
        return None
    with parts.open(names.INITIAL_DATASET) as root:
        group = root[GROUP]
        return dict(zip(group["numbers"][()].tolist(), group["energy"][()].tolist(), strict=True))
