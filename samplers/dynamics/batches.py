"""Splitting a batch for the evaluation of forces: to the fastest size on a CPU, to the available memory on a GPU."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import torch

from al_engine.errors import InputError
from al_engine.protocols import BoundCommittee, Committee
from al_engine.structures.frames import Frame

Bound: TypeAlias = BoundCommittee[torch.Tensor]
Result = TypeVar("Result")

CPU_ATOMS = 1000
"""Approximate number of atoms evaluated together on a CPU.

Below some hundred atoms the overhead of a call exceeds the computation; far above a thousand atoms memory grows and
little is gained. At this size the time per atom is within 10 % of its minimum for clusters of 9, 26 and 120 atoms and
models of 16 and 64 channels (`benchmarks/batch_split.py`).
"""


def cpu_parts(sizes: Sequence[int], *, atoms: int = CPU_ATOMS) -> list[list[int]]:
    """Split frames into consecutive parts of similar size.

    Args:
        sizes: Number of atoms of each frame.
        atoms: Approximate largest number of atoms of a part; a larger frame is a part of its own.

    Returns:
        Indices of the frames of each part.
    """
    ends = np.cumsum(sizes)
    middles, total = ends - 0.5 * np.asarray(sizes), float(ends[-1])
    part = (middles * -(-total // atoms) / total).astype(np.int64)
    return [np.flatnonzero(part == number).tolist() for number in np.unique(part)]


class SplitForces:
    """A committee bound to B frames and evaluated part by part; implements `al_engine.protocols.BoundCommittee`.

    A part that does not fit the device's memory is halved for the rest of the run, and evaluated again.

    Args:
        committee: The committee.
        frames: The frames in the B places of the batch.
        parts: Places of each part, consecutive; by default a single part holds all frames.
    """

    def __init__(
        self,
        committee: Committee[torch.Tensor],
        frames: Sequence[Frame],
        *,
        parts: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self._committee = committee
        self._frames = list(frames)
        self._parts = [list(part) for part in parts] if parts is not None else [list(range(len(frames)))]
        self._bound: list[Bound | None] = [None] * len(self._parts)
        self._ends = _ends(self._frames)

    @property
    def parts(self) -> list[list[int]]:
        """Places of the frames of each part at present."""
        return [list(part) for part in self._parts]

    def energy_and_forces(self, positions: torch.Tensor, member: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate a member of the committee, or its mean.

        Args:
            positions: Positions in Å, shape (T, 3).
            member: Index of the member; None for the mean.

        Returns:
            Energies in eV, shape (B,), and forces in eV/Å, shape (T, 3).

        Raises:
            InputError: If the device's memory is too small for a single frame.
        """
        results = self._evaluate(lambda bound, x: bound.energy_and_forces(x, member), positions)
        if len(results) == 1:
            return results[0]
        return torch.cat([energies for energies, _ in results]), torch.cat([forces for _, forces in results])

    def member_forces(self, positions: torch.Tensor) -> torch.Tensor:
        """All members' forces in eV/Å, shape (M, T, 3), at positions (Å, shape (T, 3)).

        Raises:
            InputError: As `energy_and_forces`.
        """
        return torch.cat(self._evaluate(lambda bound, x: bound.member_forces(x), positions), dim=1)

    def rebind(self, frames: Mapping[int, Frame]) -> None:
        """Bind places of the batch to other frames, given by place; their cells and atoms may differ."""
        for place, frame in frames.items():
            self._frames[place] = frame
        self._ends = _ends(self._frames)
        for index, part in enumerate(self._parts):
            if any(place in frames for place in part):
                self._bound[index] = None

    def keep(self, places: Sequence[int]) -> None:
        """Drop all frames except those in the given places (ascending); parts that lose no frame stay bound."""
        number = {place: new for new, place in enumerate(places)}
        parts, bound = [], []
        for part, bound_part in zip(self._parts, self._bound, strict=True):
            staying = [number[place] for place in part if place in number]
            if staying:
                parts.append(staying)
                bound.append(bound_part if len(staying) == len(part) else None)
        self._frames = [self._frames[place] for place in places]
        self._parts, self._bound, self._ends = parts, bound, _ends(self._frames)

    def _evaluate(self, function: Callable[[Bound, torch.Tensor], Result], positions: torch.Tensor) -> list[Result]:
        """Call a function on each part and its positions; parts that do not fit the memory are halved.

        Parts that are not bound are bound first.
        """
        ends = self._ends
        results: list[Result] = []
        while len(results) < len(self._parts):
            index = len(results)
            part = self._parts[index]
            try:
                bound = self._bound[index]
                if bound is None:
                    bound = self._bound[index] = self._committee.bind([self._frames[place] for place in part])
                results.append(function(bound, positions[ends[part[0]] : ends[part[-1] + 1]]))
            except torch.OutOfMemoryError as error:
                problem = str(error)
            else:
                continue
            self._halve(index, problem)  # outside the except clause, whose traceback keeps the memory allocated
        return results

    def _halve(self, index: int, problem: str) -> None:
        """Divide a part into two; raise `InputError` with the device's message if the part is a single frame."""
        part = self._parts[index]
        if len(part) == 1:
            raise InputError(
                f"sampling: {len(self._frames[part[0]])} atoms do not fit the memory of the device ({problem[:120]}); "
                "use a smaller model or system, or set execution.device: cpu"
            )
        middle = len(part) // 2
        self._parts[index : index + 1] = [part[:middle], part[middle:]]
        self._bound[index : index + 1] = [None, None]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _ends(frames: Sequence[Frame]) -> list[int]:
    """Index of the first atom of each frame, and at the end the number of all atoms."""
    return [0, *itertools.accumulate(len(frame) for frame in frames)]
