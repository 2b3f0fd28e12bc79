"""The journal: a kill loses no finished label, and nothing foreign gets in."""

import numpy as np
import pytest

from al_engine.config import LabelsConfig, SelectionConfig
from al_engine.structures.frames import Frame
from labelers import LabelPool, label_chunk
from labelers.pool.journal import LabelJournal

WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(3)
    return [Frame(np.array([8, 1, 1]), WATER + rng.normal(0, 0.03, (3, 3))) for _ in range(6)]


@pytest.fixture(scope="module")
def outcomes(frames):
    config = LabelsConfig(backend="tblite")
    with LabelPool(config, workers=1) as pool:
        return label_chunk(pool, frames, config, SelectionConfig())


def write(path, outcomes, frames, key="k"):
    with LabelJournal(path, key=key, frames=frames) as journal:
        for index, outcome in outcomes.items():
            journal.record(index, outcome)


def test_outcomes_read_back_bit_for_bit(tmp_path, frames, outcomes):
    write(tmp_path / "j", {4: outcomes[4], 1: outcomes[1]}, frames)
    with LabelJournal(tmp_path / "j", key="k", frames=frames) as journal:
        assert set(journal.done) == {1, 4}
        assert journal.done[4].labelled.content_hash() == outcomes[4].labelled.content_hash()


@pytest.mark.parametrize("cut", range(1, 200, 23))
def test_a_torn_line_is_dropped_and_the_lines_before_it_are_kept(tmp_path, frames, outcomes, cut):
    path = tmp_path / "j"
    write(path, {0: outcomes[0]}, frames)
    whole = path.stat().st_size
    write(path, {2: outcomes[2]}, frames)
    path.write_bytes(path.read_bytes()[: whole + cut])
    with LabelJournal(path, key="k", frames=frames) as journal:
        assert set(journal.done) == {0}
        journal.record(3, outcomes[3])
    with LabelJournal(path, key="k", frames=frames) as journal:
        assert set(journal.done) == {0, 3}


def test_a_known_label_of_a_frame_that_is_refused_is_not_taken(frames, outcomes):
    """A cache may be shared with a campaign that allows atoms to be closer."""
    config = LabelsConfig(backend="tblite")
    with LabelPool(config, workers=1) as pool:
        found = label_chunk(pool, frames[:1], config, SelectionConfig(min_distance_ang=2.0), done={0: outcomes[0]})
    assert found[0].labelled is None
    assert "2" in found[0].message


def test_opening_a_journal_again_leaves_its_lines_in_place(tmp_path, frames, outcomes, monkeypatch):
    """A kill at any moment of the opening finds all lines: nothing is written, and only a torn line is cut off."""
    path = tmp_path / "j"
    write(path, {index: outcomes[index] for index in range(4)}, frames)
    before = path.read_bytes()
    path.write_bytes(before + b'{"index": 4, "reas')
    monkeypatch.setattr(LabelJournal, "_append", None)
    with LabelJournal(path, key="k", frames=frames) as journal:
        assert sorted(journal.done) == [0, 1, 2, 3]
        assert path.read_bytes() == before
    monkeypatch.undo()
    write(path, {5: outcomes[5]}, frames)
    with LabelJournal(path, key="k", frames=frames) as journal:
        assert sorted(journal.done) == [0, 1, 2, 3, 5]


def test_another_chunks_journal_is_ignored(tmp_path, frames, outcomes):
    write(tmp_path / "j", {0: outcomes[0]}, frames, key="other")
    with LabelJournal(tmp_path / "j", key="k", frames=frames) as journal:
        assert journal.done == {}


def test_finished_labels_are_not_computed_again(frames, outcomes):
    config = LabelsConfig(backend="tblite")
    computed = []
    with LabelPool(config, workers=2) as pool:
        done = {0: outcomes[0], 5: outcomes[5]}
        again = label_chunk(
            pool, frames, config, SelectionConfig(), done=done, record=lambda index, _: computed.append(index)
        )
    assert sorted(computed) == [1, 2, 3, 4]
    assert [o.labelled.content_hash() for o in again] == [o.labelled.content_hash() for o in outcomes]
