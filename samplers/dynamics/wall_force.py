"""The spherical wall's forces on a batch of clusters."""

from collections.abc import Sequence

import numpy as np
import torch

from al_engine.structures.frames import FloatArray
from samplers.dynamics.walls import SphericalWall


class WallForce:
    """Forces of a spherical wall about the centre of mass of each trajectory, which does not move.

    Args:
        wall: The wall.
        masses: Masses of the atoms of each of the B trajectories in amu, each of shape (n,).
        centres: Centres of mass in Å, each of shape (3,).
        device: Device of the positions.
    """

    def __init__(
        self,
        wall: SphericalWall,
        *,
        masses: Sequence[FloatArray],
        centres: Sequence[FloatArray],
        device: torch.device,
    ) -> None:
        self._wall = wall
        sizes = [len(own) for own in masses]
        self._lengths = torch.tensor(sizes, device=device)
        share = np.concatenate([own / own.sum() for own in masses])[:, None]
        self._mass_share = torch.from_numpy(share).to(device)  # (T, 1)
        self._owner = torch.repeat_interleave(torch.arange(len(sizes), device=device), self._lengths)
        self._centre = torch.from_numpy(np.repeat(np.stack(centres), sizes, axis=0)).to(device)  # (T, 3)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return torch.segment_reduce(values, "sum", lengths=self._lengths, axis=0)  # unlike index_add: deterministic

    def add_to(self, forces: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Add the forces of the wall to forces on all T atoms.

        The reaction to the wall's force acts on the centre of mass, so that the forces on a trajectory sum to zero.

        Args:
            forces: Forces in eV/Å, shape (T, 3).
            positions: Positions in Å, shape (T, 3).
        """
        outward = positions - self._centre
        distance = outward.norm(dim=1, keepdim=True).clamp_min(1e-9)
        push = outward * ((distance - self._wall.radius_ang).clamp_min(0.0) / distance * -self._wall.force_constant)
        return forces + push - self._mass_share * self._sum(push)[self._owner]
