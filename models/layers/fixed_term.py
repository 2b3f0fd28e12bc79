"""A term of the energy that holds no weights and that the network does not learn."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.graph.graph import Graph, leading_columns


class FixedTerm(nn.Module, ABC):
    """Base class of such terms: energies of atoms as a function of the vectors to their neighbours.

    All values are computed in float64, independent of the precision of the network. The network is trained on the
    labels minus these terms.

    Attributes:
        path: Index of the path whose neighbour list the term needs.
    """

    path: int

    @abstractmethod
    def atomic_energies(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Energy of every receiver, in eV.

        Args:
            graph: The graph.
            vectors: Vectors to the neighbours of the k leading columns in Å, shape (T, k, 3).

        Returns:
            Energies of the T receivers, shape (T,), float64.
        """

    def forward(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Energies of frames in eV, shape (B,), from neighbour vectors (T, K, 3) in Å."""
        return graph.frame_sums(self.atomic_energies(graph, *leading_columns(vectors, [graph.columns[self.path]])))

    def gradients(self, graph: Graph, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and their derivatives by the neighbour vectors.

        Args:
            graph: The graph.
            vectors: Vectors to the neighbours of the k leading columns in Å, shape (T, k, 3). These columns must
                include those of `path`.

        Returns:
            `atomic_energies` (T,) in eV and dE/d(vectors) (T, k, 3) in eV/Å.
        """
        with torch.enable_grad():
            vectors = vectors.detach().requires_grad_()
            energies = self.atomic_energies(graph, *leading_columns(vectors, [graph.columns[self.path]]))
            (gradients,) = torch.autograd.grad(energies.sum(), vectors)
        return energies.detach(), gradients
