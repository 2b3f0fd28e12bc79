"""Scores: a committee's predictions of labelled frames against the labels, frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.deviation import force_deviation
from al_engine.frames import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class FrameScores:
    """F labelled frames as a committee of M members sees them. A frame's error is that of its worst atom.

    Attributes:
        deviation_norm: Force deviation (norm), eV/Å, shape (F,).
        deviation_component: Force deviation (component), eV/Å, shape (F,).
        worst_atom: Atom with the largest deviation (norm), shape (F,).
        force_error: Largest |F - F(label)| of the committee's mean over the atoms, eV/Å, shape (F,).
        force_error_atom: The atom that has it, shape (F,).
        member_force_error: The same of each member, eV/Å, shape (M, F).
    """

    deviation_norm: FloatArray
    deviation_component: FloatArray
    worst_atom: IntArray
    force_error: FloatArray
    force_error_atom: IntArray
    member_force_error: FloatArray


def score_frames(member_forces: Sequence[FloatArray], references: Sequence[FloatArray], *, members: int) -> FrameScores:
    """Score a committee.

    Args:
        member_forces: Forces of all members on each frame, eV/Å, each shape (M, N, 3).
        references: Forces of the labels, eV/Å, each shape (N, 3).
        members: Number of members M, which no frames do not tell.
    """
    deviations = [force_deviation(forces) for forces in member_forces]
    errors = [
        np.linalg.norm(forces.mean(axis=0) - reference, axis=-1)
        for forces, reference in zip(member_forces, references, strict=True)
    ]
    by_member = [
        np.linalg.norm(forces - reference, axis=-1).max(axis=-1)
        for forces, reference in zip(member_forces, references, strict=True)
    ]
    return FrameScores(
        deviation_norm=np.array([d.norm.max() for d in deviations], dtype=np.float64),
        deviation_component=np.array([d.component.max() for d in deviations], dtype=np.float64),
        worst_atom=np.array([d.norm.argmax() for d in deviations], dtype=np.int64),
        force_error=np.array([e.max() for e in errors], dtype=np.float64),
        force_error_atom=np.array([e.argmax() for e in errors], dtype=np.int64),
        member_force_error=np.array(by_member, dtype=np.float64).reshape(len(by_member), members).T,
    )
