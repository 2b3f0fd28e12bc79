"""The spherical wall's forces on a batch of clusters."""

from collections.abc import Sequence

import numpy as np
import torch

from al_engine.structures.frames import FloatArray
from samplers.dynamics.walls import SphericalWall


class WallForce:
    """Forces of a spherical wall around each of B clusters, T atoms in all.

    The wall of a cluster is centred on the cluster's centre of mass, which does not move.

    Args:
        wall: The wall.
        masses: Masses of the n atoms of each cluster in amu, B arrays of shape (n,).
        centres: Centre of mass of each cluster in Å, B arrays of shape (3,).
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
        sizes = [len(of_cluster) for of_cluster in masses]
        self._sizes = torch.tensor(sizes, device=device)
        share = np.concatenate([of_cluster / of_cluster.sum() for of_cluster in masses])[:, None]
        self._mass_share = torch.from_numpy(share).to(device)  # (T, 1)
        self._cluster_of_atom = torch.repeat_interleave(torch.arange(len(sizes), device=device), self._sizes)
        self._centre = torch.from_numpy(np.repeat(np.stack(centres), sizes, axis=0)).to(device)  # (T, 3)

    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over the atoms of each cluster, shape (B, 3), of values (T, 3)."""
        return torch.segment_reduce(values, "sum", lengths=self._sizes, axis=0)  # unlike index_add: deterministic

    def add_to(self, forces: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Add the forces of the wall to other forces on the atoms.

        The potential (`SphericalWall`) depends on the centre of mass. The reaction to the wall's forces is therefore
        spread over the atoms of a cluster by their masses, and the wall's forces on a cluster sum to zero.

        Args:
            forces: Forces in eV/Å, shape (T, 3).
            positions: Positions in Å, shape (T, 3).

        Returns:
            The sums in eV/Å, shape (T, 3).
        """
        outward = positions - self._centre
        distance = outward.norm(dim=1, keepdim=True).clamp_min(1e-9)
        push = outward * ((distance - self._wall.radius_ang).clamp_min(0.0) / distance * -self._wall.force_constant)
        return forces + push - self._mass_share * self._sums(push)[self._cluster_of_atom]
