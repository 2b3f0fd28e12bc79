"""The liquids whose clusters, boxes and pairs models are trained and tested on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the sets. A molecule is a bonded fragment: an ion of an ionic liquid counts as one.

    Attributes:
        train: Number of training clusters, with the smaller clusters.
        small: Number of smaller clusters among them.
        pairs: Number of training pairs of molecules at random separations, beside the clusters.
        test: Number of test clusters, a multiple of the number of temperatures.
        large: Number of larger clusters, for the test of transfer to other sizes; a multiple as well.
        bulk: Number of periodic boxes for the same test; a multiple as well.
        curves: Number of binding curves of two molecules.
        molecules: Molecules of a training or test cluster.
        small_molecules: Molecules of a smaller cluster.
        large_molecules: Molecules of a larger cluster, and of a periodic box of the test.
        box_molecules: Molecules of the box that clusters are cut from.
        anneal_ps: Length of the training anneal.
        test_ps: Length of a run at a test temperature; a quarter of it is equilibration.
        cuts: Number of clusters cut from a frame of a box.
    """

    train: int = 240
    small: int = 0
    pairs: int = 0
    test: int = 60
    large: int = 12
    bulk: int = 8
    curves: int = 12
    molecules: int = 3
    small_molecules: int = 1
    large_molecules: int = 8
    box_molecules: int = 16
    anneal_ps: float = 30.0
    test_ps: float = 4.0
    cuts: int = 4


@dataclass(frozen=True, slots=True)
class Liquid:
    """A liquid.

    Attributes:
        title: Name in headings.
        polarity: `nonpolar`, `polar` or `ionic`.
        smiles: Its molecule; for an ionic liquid cation and anion, divided by a dot.
        density_g_per_cm3: Density of the boxes.
        sizes: Sizes of the sets.
    """

    title: str
    polarity: str
    smiles: str
    density_g_per_cm3: float
    sizes: Sizes

    @property
    def ions(self) -> int:
        """Number of bonded fragments of a copy: 2 for a pair of ions."""
        return 1 + self.smiles.count(".")

    def quick(self) -> "Liquid":
        """The liquid with sizes with which the whole pipeline runs in a few minutes; the results have no meaning."""
        few = self.ions
        sizes = Sizes(
            train=16,
            small=min(self.sizes.small, 4),
            pairs=min(self.sizes.pairs, 4),
            test=4,
            large=4,
            bulk=0,
            curves=1,
            molecules=few,
            small_molecules=few,
            large_molecules=2 * few,
            box_molecules=4 * few,
            anneal_ps=1.0,
            test_ps=1.0,
        )
        return replace(self, sizes=sizes)


_MIXED = Sizes(small=60, pairs=40)
"""With smaller clusters and pairs, energies of molecules and of their binding can be told apart."""
LIQUIDS: Mapping[str, Liquid] = {
    "c12f27n": Liquid(
        "C12F27N",
        "nonpolar",
        "FC(F)(F)C(F)(F)C(F)(F)C(F)(F)N(C(F)(F)C(F)(F)C(F)(F)C(F)(F)F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)F",
        1.88,
        Sizes(),  # as the published table
    ),
    "dmso": Liquid(
        "DMSO",
        "polar",
        "CS(C)=O",
        1.10,
        replace(_MIXED, molecules=8, small_molecules=3, large_molecules=27, box_molecules=48),
    ),
    "water": Liquid(
        "Water",
        "polar",
        "O",
        1.00,
        replace(_MIXED, molecules=20, small_molecules=8, large_molecules=60, box_molecules=120),
    ),
    "emim-acetate": Liquid(  # not [EMIM][BF4]: MMFF94, whose MD makes the boxes, has no boron
        "[EMIM][OAc]",
        "ionic",
        "CCn1cc[n+](C)c1.CC(=O)[O-]",
        1.10,
        replace(_MIXED, molecules=6, small_molecules=2, large_molecules=16, box_molecules=32),
    ),
}
