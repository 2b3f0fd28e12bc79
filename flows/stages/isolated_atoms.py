"""Energies of isolated atoms, stored with the data set, which the models reproduce (`training.reference_energies`)."""

from collections.abc import Mapping

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig

GROUP = "isolated_atoms"
"""Group of the part with the data set: `numbers`, the atomic numbers, and `energy` in eV."""


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
