"""Committees with analytic forces, which implement the committee's protocol and have known answers."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@dataclass(frozen=True)
class PairPotential:
    """A potential energy U that is a sum over the pairs of a frame; member m multiplies it by `scales[m]`.

    `harmonic`: k/2 |r_ij - reference_ij|², vectors; `morse`: D (1 - exp(-a (|r_ij| - r0)))².
    """

    kind: str = "harmonic"
    stiffness: float = 1.0
    depth: float = 4.0
    width: float = 2.0
    length: float = 1.2
    reference: np.ndarray | None = None  # (n, 3) Å
    scales: tuple[float, ...] = (1.0, 1.0)

    @property
    def n_members(self):
        return len(self.scales)

    def bind(self, frames):
        return _Bound(self, [len(frame) for frame in frames])

    def energies(self, positions):
        """Energies, shape (B,), of B equal-sized frames, shape (B, n, 3)."""
        if self.reference is not None:
            positions = positions - torch.from_numpy(self.reference)
        i, j = np.triu_indices(positions.shape[1], 1)
        squares = ((positions[:, i] - positions[:, j]) ** 2).sum(-1)
        if self.kind == "harmonic":
            return 0.5 * self.stiffness * squares.sum(1)
        return self.depth * ((1 - torch.exp(-self.width * (squares.sqrt() - self.length))) ** 2).sum(1)


class _Bound:
    def __init__(self, potential, sizes):
        self.potential, self.sizes = potential, sizes

    def energy_and_forces(self, positions, member):
        positions = positions.detach().clone().requires_grad_()
        if len(set(self.sizes)) == 1:
            energies = self.potential.energies(positions.view(len(self.sizes), -1, 3))
        else:
            energies = torch.cat([self.potential.energies(part[None]) for part in positions.split(self.sizes)])
        (gradient,) = torch.autograd.grad(energies.sum(), positions)
        scale = np.mean(self.potential.scales) if member is None else self.potential.scales[member]
        return scale * energies.detach(), -scale * gradient

    def member_forces(self, positions):
        return torch.stack([self.energy_and_forces(positions, m)[1] for m in range(self.potential.n_members)])


@pytest.fixture
def pair_potential():
    return PairPotential
