"""The simulated system as the part `initial-frames` stores it."""

from dataclasses import dataclass
from typing import Self

import h5py

from al_engine.files.frames_hdf5 import read_frames, write_frames
from al_engine.structures.bonds import Bonds
from al_engine.structures.clusters import MoleculeElectrons
from al_engine.structures.frames import Frame
from al_engine.structures.molecules import MoleculeTable

STATES = ("has_ions", "has_open_shells")
"""Attributes of the group `system`."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredSystem:
    """The system that the trajectories of a campaign simulate, and the cluster that is labelled.

    Attributes:
        frame: The packed structure of N atoms, with total charge and unpaired electrons.
        bonds: All bonds; their lengths in the packed structure are the equilibrium lengths.
        molecules: The copy and the bonded fragment that each atom belongs to.
        cluster: A cluster as it is cut from boxes for labels; None if frames are labelled whole.
        electrons: Charge and spin of each bonded fragment of a mixture from which clusters are cut, otherwise None.
        has_ions: Whether a molecule is charged.
        has_open_shells: Whether a molecule has unpaired electrons.
    """

    frame: Frame
    bonds: Bonds
    molecules: MoleculeTable
    cluster: Frame | None = None
    electrons: MoleculeElectrons | None = None
    has_ions: bool = False
    has_open_shells: bool = False

    def write(self, root: h5py.Group) -> None:
        """Write the system into an empty part."""
        write_frames(root.create_group("system"), [self.frame])
        if self.cluster is not None:
            write_frames(root.create_group("cluster"), [self.cluster])
        root["bonds"] = self.bonds.pairs
        root["bond_lengths"] = self.bonds.lengths
        root["molecule_of_atom"] = self.molecules.copy_of_atom
        for name in STATES:  # earlier parts have none
            if getattr(self, name):
                root["system"].attrs[name] = True
        if self.electrons is not None:
            group = root.create_group("fragments")
            group["charge"] = self.electrons.charge
            group["unpaired_electrons"] = self.electrons.unpaired_electrons
            group.attrs["largest_charge"] = self.electrons.largest_charge

    @classmethod
    def read(cls, root: h5py.Group) -> Self:
        """Read the system from a part.

        Raises:
            LedgerError: If a data set is missing or damaged.
        """
        frame = read_frames(root["system"])[0]
        bonds = Bonds(pairs=root["bonds"][()], lengths=root["bond_lengths"][()])
        electrons = None
        if "fragments" in root:
            charge, unpaired = (root[f"fragments/{name}"][()] for name in ("charge", "unpaired_electrons"))
            electrons = MoleculeElectrons(charge, unpaired, int(root["fragments"].attrs["largest_charge"]))
        return cls(
            frame=frame,
            bonds=bonds,
            molecules=MoleculeTable.of(root["molecule_of_atom"][()], bonds.pairs),
            cluster=read_frames(root["cluster"])[0] if "cluster" in root else None,
            electrons=electrons,
            has_ions=bool(root["system"].attrs.get("has_ions", frame.charge)),
            has_open_shells=bool(root["system"].attrs.get("has_open_shells", frame.unpaired_electrons)),
        )
