"""Clusters, boxes and pairs of a liquid: whole molecules, neutral clusters of ions, pairs of opposite charge."""

from dataclasses import replace

import numpy as np
import pytest

from ablation.data import LabelledSet, load_data
from ablation.liquids import LIQUIDS
from al_engine.protocols import silent
from al_engine.structures.frames import Frame, LabelledFrame


@pytest.fixture(scope="module")
def salt(tmp_path_factory):
    """The sets of an ionic liquid, tiny."""
    liquid = LIQUIDS["emim-acetate"].quick()
    liquid = replace(liquid, sizes=replace(liquid.sizes, anneal_ps=0.1, test_ps=0.1, test=0, large=0))
    return liquid, load_data(tmp_path_factory.mktemp("salt"), liquid, seed=0, workers=1, progress=silent)


def test_clusters_of_ions_are_neutral_and_of_whole_ions(salt):
    _, data = salt
    sizes = {19, 7}
    for index, item in enumerate(data["train"].frames):
        atoms = np.bincount(data["train"].molecule_of_atom(index))
        assert set(atoms.tolist()) <= sizes
        assert (atoms == 19).sum() == (atoms == 7).sum()
        assert item.frame.charge == 0


def test_training_has_pairs_at_all_separations_beside_the_clusters(salt):
    liquid, data = salt
    sizes = liquid.sizes
    assert len(data["train"].frames) == sizes.train + sizes.pairs
    assert all(len(item) == 26 for item in data["train"].frames[-sizes.pairs :])


def test_curves_are_of_a_cation_and_an_anion_that_attract_each_other(salt):
    _, data = salt
    curves = data["curves"]
    energies = np.array([item.energy for item in curves.frames])
    at, far = curves.columns["shift_ang"] == 0.0, curves.columns["shift_ang"] == 15.0
    assert energies[at].mean() - energies[far].mean() < -0.5  # eV


def test_molecules_of_a_neat_liquid_are_counted_off(rng):
    frame = Frame(numbers=[8, 1, 1] * 2, positions=rng.normal(size=(6, 3)))
    waters = LabelledSet((LabelledFrame(frame, 0.0, np.zeros((6, 3))),), {}, molecule_atoms=3)
    assert waters.molecule_of_atom(0).tolist() == [0, 0, 0, 1, 1, 1]
