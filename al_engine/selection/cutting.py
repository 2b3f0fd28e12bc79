"""The structure that is labelled for a sampled frame: the frame itself, or a cluster that is cut from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from al_engine.config import SelectionConfig
from al_engine.seeds import derived_rng
from al_engine.structures.bonds import Bonds
from al_engine.structures.clusters import ClusterCut, MoleculeElectrons, surrounded
from al_engine.structures.frames import BoolArray, Frame, IntArray
from al_engine.structures.molecules import MoleculeTable


@dataclass(frozen=True, slots=True, eq=False)
class LabelStructure:
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
        bonds: All bonds of the system.
        cut: Cuts clusters from boxes; None: frames are labelled as they are.
        centre: `selection.cut_centre`.
        seed: Seed of the randomly drawn centres.
    """

    bonds: Bonds
    cut: ClusterCut | None
    centre: Literal["least_sure", "random"]
    seed: int

    @classmethod
    def of(
        cls,
        config: SelectionConfig,
        *,
        bonds: Bonds,
        molecules: MoleculeTable,
        cluster: Frame | None,
        electrons: MoleculeElectrons | None,
        seed: int,
    ) -> Self:
        """The cutting of a campaign.

        Args:
            config: Settings of the selection.
            bonds: All bonds of the system.
            molecules: Copy and bonded fragment of each atom of the system.
            cluster: A cluster as it is cut for labels; None if frames are labelled whole.
            electrons: Charge and spin of each fragment of a mixture; None: the copies are cut, which are equal.
            seed: Seed of the randomly drawn centres.
        """
        cut = None
        if config.cut_molecules is not None and cluster is not None:
            cut = ClusterCut(
                molecules=config.cut_molecules,
                charge=cluster.charge,
                unpaired_electrons=cluster.unpaired_electrons,
                molecule_of_atom=molecules.copy_of_atom if electrons is None else molecules.fragment_of_atom,
                bonds=bonds.pairs,
                electrons=electrons,
            )
        return cls(bonds=bonds, cut=cut, centre=config.cut_centre, seed=seed)

    def apply(
        self,
        frames: Sequence[Frame],
        indices: IntArray,
        *,
        iteration: int,
        worst_atom: IntArray,
        worst_molecule: IntArray,
        by_net_force: BoolArray,
    ) -> list[LabelStructure]:
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
                A bonded fragment: that is what is cut, as a whole copy or as a molecule of a mixture.
            by_net_force: Whether net forces exceed their window further than forces do theirs, shape (F,).
        """
        if self.cut is None:
            return [
                LabelStructure(frame, int(atom), -1, np.arange(len(frame)))
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
            found.append(LabelStructure(cluster, int(np.argmax(atoms == wanted)), centre, atoms))
        return found

    def bonds_of(self, structure: LabelStructure) -> Bonds:
        """The bonds of a structure that is labelled."""
        if self.cut is None:
            return self.bonds
        pairs, within = self.cut.inside(structure.atoms)
        return Bonds(pairs=pairs, lengths=self.bonds.lengths[within])

    def interior(self, frame: Frame, structure: LabelStructure, *, cutoff_ang: float) -> BoolArray:
        """Which atoms of a structure that is labelled stand for the sampled frame, shape (n,).

        The surface of a cluster has environments that the box does not have. There, error and deviation say nothing
        about the box, on whose deviation the window acts. Two kinds of atoms stand for the box:

        - atoms whose neighbours in the box, up to the short cut-off of the model, are all in the cluster. Within the
          long cut-off, or within the reach of several layers, hardly any cluster contains a whole environment; the
          short path has most of a model's channels;
        - the atoms of the central molecule, in any case. The frame was chosen because of an atom or the net force of
          this molecule (`selection.cut_centre: least_sure`), and no other molecule of the cluster has a more complete
          environment. In a small cluster, no atom else may stand for the box.

        Args:
            frame: The sampled frame.
            structure: The structure that is labelled for it.
            cutoff_ang: Short cut-off of the model, Å.
        """
        if self.cut is None:
            return np.ones(len(structure.frame), dtype=bool)
        central: BoolArray = self.cut.molecule_of_atom[structure.atoms] == structure.molecule
        return central | surrounded(frame, structure.frame, structure.atoms, cutoff_ang=cutoff_ang)
