"""Scores: deviation and error of each frame, from its definition."""

import numpy as np
import pytest

from al_engine.committee.predictions import score_frames


def test_scores_are_those_of_the_worst_atom():
    rng = np.random.default_rng(0)
    members = [rng.normal(size=(4, n, 3)) for n in (3, 5, 1)]
    references = [rng.normal(size=(n, 3)) for n in (3, 5, 1)]
    scores = score_frames(members, references, members=4)
    for index, (forces, reference) in enumerate(zip(members, references, strict=True)):
        mean = forces.mean(axis=0)
        sigma = np.sqrt(((forces - mean) ** 2).sum(axis=2).mean(axis=0))
        wrong = np.linalg.norm(mean - reference, axis=1)
        assert scores.deviation_norm[index] == pytest.approx(sigma.max())
        assert scores.worst_atom[index] == sigma.argmax()
        assert scores.deviation_component[index] == pytest.approx(forces.std(axis=0).max())
        assert scores.force_error[index] == pytest.approx(wrong.max())
        assert scores.force_error_atom[index] == wrong.argmax()
        for m in range(4):
            largest = max(np.linalg.norm(forces[m, atom] - reference[atom]) for atom in range(len(reference)))
            assert scores.member_force_error[m, index] == pytest.approx(largest)


def test_no_frames_have_empty_scores():
    scores = score_frames([], [], members=4)
    assert scores.deviation_norm.shape == scores.force_error_atom.shape == (0,)
    assert scores.member_force_error.shape == (4, 0)


def test_scores_of_some_atoms_are_those_of_frames_without_the_others():
    rng = np.random.default_rng(1)
    members = [rng.normal(size=(4, n, 3)) for n in (5, 7)]
    references = [rng.normal(size=(n, 3)) for n in (5, 7)]
    where = [np.array([False, True, True, False, True]), np.arange(7) == 6]
    some = score_frames(members, references, members=4, where=where)
    alone = score_frames(
        [forces[:, keep] for forces, keep in zip(members, where, strict=True)],
        [reference[keep] for reference, keep in zip(references, where, strict=True)],
        members=4,
    )
    for name in ("deviation_norm", "deviation_component", "force_error", "member_force_error"):
        np.testing.assert_array_equal(getattr(some, name), getattr(alone, name))
    for name in ("worst_atom", "force_error_atom"):  # indices are those of the whole frames
        expected = [np.flatnonzero(keep)[k] for keep, k in zip(where, getattr(alone, name), strict=True)]
        np.testing.assert_array_equal(getattr(some, name), expected)
