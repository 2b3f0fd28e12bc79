"""The structure that is labelled for a sampled frame: the frame itself, or a cluster that is cut from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.system import StoredSystem
from al_engine.config import CampaignConfig
from al_engine.seeds import derived_rng
from al_engine.structures.bonds import Bonds
from al_engine.structures.clusters import ClusterCut
from al_engine.structures.frames import BoolArray, Frame, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class ForLabel:
    """The structure that would be labelled for one sampled frame.

    Attributes:
        frame: The structure that the labeler gets: the sampled frame, or a cluster.
        focus: Index in `frame` of the atom for which the frame is labelled.
        molecule: Index of the molecule of the sampled frame that the cluster is cut around; -1 if nothing is cut.
        atoms: Indices in the sampled frame of the atoms of `frame`, shape (n,).
    """

    frame: Frame
    focus: int
    molecule: int
    atoms: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Cutting:
    """Turns sampled frames into the structures that are labelled.

    Attributes:
        bonds: Bonds of the labelled structures.
        cut: Cuts clusters from boxes; None: frames are labelled as they are.
        centre: `selection.cut_centre`.
        seed: Seed of the randomly drawn centres.
    """

    bonds: Bonds
    cut: ClusterCut | None
    centre: Literal["least_sure", "random"]
    seed: int

    @classmethod
    def of(cls, parts: PartReader, config: CampaignConfig) -> Self:
        """The cutting of a campaign, from the system stored with its initial frames."""
        with parts.open(names.INITIAL_FRAMES) as root:
            stored = StoredSystem.read(root)
        bonds, cut = stored.bonds, None
        if config.selection.cut_molecules is not None and stored.cluster is not None:
            cut = ClusterCut(
                molecules=config.selection.cut_molecules,
                charge=stored.cluster.charge,
                unpaired_electrons=stored.cluster.unpaired_electrons,
                molecule_of_atom=stored.molecules.copy_of_atom,
                bonds=bonds.pairs,
            )
            # All molecules are alike, so the bonds of a cluster are those of the first molecules.
            inside = bonds.pairs.max(axis=1, initial=0) < len(stored.cluster)
            bonds = Bonds(pairs=bonds.pairs[inside], lengths=bonds.lengths[inside])
        return cls(bonds=bonds, cut=cut, centre=config.selection.cut_centre, seed=config.seed)

    def apply(
        self,
        frames: Sequence[Frame],
        indices: IntArray,
        *,
        iteration: int,
        worst_atom: IntArray,
        worst_molecule: IntArray,
        by_net_force: BoolArray,
    ) -> list[ForLabel]:
        """The structures that would be labelled for F candidates.

        With `least_sure`, a cluster is cut around the molecule of the worst atom, or around the molecule with the worst
        net force if the net forces made the frame a candidate. With `random`, it is cut around a random molecule. The
        focus of a cluster is the worst atom if the cluster contains it, otherwise the first atom of its central
        molecule.

        Args:
            frames: The candidates.
            indices: Indices of the candidates among all frames of the iteration; they seed random centres, shape (F,).
            iteration: The iteration.
            worst_atom: Atom of each candidate with the largest force deviation, shape (F,).
            worst_molecule: Molecule of each candidate with the largest deviation of its net force, shape (F,).
                A bonded fragment, which is a copy too: systems whose copies are several fragments are not cut.
            by_net_force: Whether net forces exceed their window further than forces do theirs, shape (F,).
        """
        if self.cut is None:
            return [
                ForLabel(frame, int(atom), -1, np.arange(len(frame)))
                for frame, atom in zip(frames, worst_atom, strict=True)
            ]
        owner = self.cut.molecule_of_atom
        if self.centre == "random":
            molecules = int(owner.max()) + 1
            centres = [int(derived_rng(self.seed, "cut", iteration, i).integers(molecules)) for i in indices.tolist()]
        else:
            centres = np.where(by_net_force, worst_molecule, owner[worst_atom]).tolist()
        found = []
        for frame, centre, worst in zip(frames, centres, worst_atom.tolist(), strict=True):
            cluster, atoms = self.cut.around(frame, centre)
            wanted = worst if worst in atoms else int(np.argmax(owner == centre))
            found.append(ForLabel(cluster, int(np.argmax(atoms == wanted)), centre, atoms))
        return found
