"""The reference method labels what the campaign labels: close contacts are refused as in the label stage."""

import numpy as np
import pytest

from al_engine.config import LabelsConfig, SelectionConfig
from al_engine.structures.frames import Frame
from labelers import level_of_theory
from labelers.checks.reference import ReferenceMethod
from labelers.pool.cache import LabelCache

METHODS = [LabelsConfig(backend="tblite"), LabelsConfig(backend="ase", ase_calculator="emt")]


def two_carbons(distance_ang):
    return Frame(numbers=[6, 6], positions=[[0, 0, 0], [distance_ang, 0, 0]])


@pytest.mark.parametrize("config", METHODS, ids=["GFN2-xTB", "an ASE calculator"])
def test_frames_with_close_contacts_get_no_label(config):
    with ReferenceMethod(config, SelectionConfig(), periodic=False, workers=1, remember=True) as reference:
        refused, label = reference([two_carbons(0.7), two_carbons(1.3)])
    assert refused is None
    assert "bad_input: atoms 0 and 1 are 0.700 Å apart, closer than 0.76 Å" in reference.failure
    assert np.isfinite(label[0])
    assert label[1].shape == (2, 3)
    assert [outcome.ok for outcome in reference.made] == [False, True]


def test_the_limits_are_those_of_the_campaign(tmp_path):
    """Also for a label in the cache, which campaigns with other limits may share."""
    config, frame = METHODS[0], two_carbons(1.3)
    with LabelCache(tmp_path / "labels.sqlite", level_of_theory(config)) as cache:
        for selection in (SelectionConfig(), SelectionConfig(min_distance_ang=1.4)):
            with ReferenceMethod(config, selection, periodic=False, workers=1, cache=cache) as reference:
                (label,) = reference([frame])
            assert (label is None) == (selection.min_distance_ang > 1.3)
