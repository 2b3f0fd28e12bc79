"""What the middle rooms hand each other without importing each other.

Samplers are given a committee and never learn which model it is. The array type is the provider's own (torch tensors
for MS-MACE, float64, on the committee's device), so that nothing leaves the device between strides.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

from al_engine.structures.frames import FloatArray, Frame

Array = TypeVar("Array")


class BoundCommittee(Protocol[Array]):
    """A committee bound to the atoms of some frames, concatenated to one batch of T atoms in B frames."""

    def energy_and_forces(self, positions: Array, member: int | None) -> tuple[Array, Array]:
        """One member's energies (eV, shape (B,)) and forces (eV/Å, shape (T, 3)) at positions (Å, shape (T, 3)).

        With `member` None they are the mean over all members.
        """

    def member_forces(self, positions: Array) -> Array:
        """All members' forces in eV/Å, shape (M, T, 3), at positions (Å, shape (T, 3))."""


class Committee(Protocol[Array]):
    """Models that differ in their random seed alone."""

    @property
    def n_members(self) -> int:
        """Number of members M."""

    def bind(self, frames: Sequence[Frame]) -> BoundCommittee[Array]:
        """Bind to the atoms, cells and periodicity of frames; positions are given later, call by call."""


Reference: TypeAlias = Callable[[Sequence[Frame]], Sequence[tuple[float, FloatArray] | None]]
"""The reference method: energy in eV and forces in eV/Å, shape (N, 3), of each frame; None where it fails."""


class Progress(Protocol):
    """Receives how far a long step is; must be cheap to call."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report `done` of `total` units, with a short note such as the current loss."""


def silent(done: int, total: int, note: str = "") -> None:
    """Progress that nobody watches."""
    del done, total, note
