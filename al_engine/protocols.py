"""Interfaces through which models, samplers and labelers work together without importing each other.

A sampler receives a committee without knowing its kind of model. The type of arrays is that of the committee's
implementation (for MS-MACE torch tensors, float64, on the committee's device), so that no data leave the device between
two strides.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

from al_engine.structures.frames import FloatArray, Frame

Array = TypeVar("Array")


class BoundCommittee(Protocol[Array]):
    """A committee bound to the atoms of B frames, concatenated to one batch of T atoms."""

    def energy_and_forces(self, positions: Array, member: int | None) -> tuple[Array, Array]:
        """One member's energies (eV, shape (B,)) and forces (eV/Å, shape (T, 3)) at positions (Å, shape (T, 3)).

        With `member` None, energies and forces are the mean over all members.
        """

    def member_forces(self, positions: Array) -> Array:
        """All members' forces in eV/Å, shape (M, T, 3), at positions (Å, shape (T, 3))."""


class Committee(Protocol[Array]):
    """A committee: models that differ only in their random seed."""

    @property
    def n_members(self) -> int:
        """Number of members M."""

    def bind(self, frames: Sequence[Frame]) -> BoundCommittee[Array]:
        """Bind to the atoms, cells and periodicity of frames; positions are given later, call by call."""


Reference: TypeAlias = Callable[[Sequence[Frame]], Sequence[tuple[float, FloatArray] | None]]
"""The reference method: for each frame, energy in eV and forces in eV/Å, shape (N, 3), or None if it fails."""


class Progress(Protocol):
    """Receives the progress of a long operation; a call must be cheap."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report `done` of `total` units, with a short note such as the current loss."""


def silent(done: int, total: int, note: str = "") -> None:
    """A `Progress` that does nothing."""
    del done, total, note
