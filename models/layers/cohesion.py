"""Energy of bonded atoms in comparison with isolated atoms, so that isolated atoms can have the energy of a label."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.graph.graph import Graph, leading_rows
from models.graph.radial import polynomial_cutoff
from models.layers.fixed_term import FixedTerm
from models.layers.geometry import SMALLEST_LENGTH

SATURATION = 10.0
"""κ. With it and the default envelope (p = 6), a neighbour at half the cut-off makes an atom a bonded atom, up to 1
part in 5000."""


class Cohesion(FixedTerm):
    """E = Σ_i A(Z_i) (1 - exp(-κ Σ_j u(r_ij / r_c))), in eV; holds no weights.

    A is the mean energy of a bonded atom of an element minus that of the isolated atom, u the polynomial envelope, and
    r_c the cut-off of the shortest path. An atom with a neighbour within half the cut-off has all of A. So the term is
    a constant in most molecules, and the forces are those of the network. In longer bonds, such as those of iodine or
    between ions, the term depends on the distance, and the network learns the difference. An atom without neighbours
    has no energy from this term: its energy is E0.
    """

    def __init__(self, energies: Sequence[float], *, cutoff: float, envelope_power: int) -> None:
        """The term.

        Args:
            energies: A of each element in eV, in the order of the species.
            cutoff: Cut-off r_c of the first path in Å.
            envelope_power: Power p of the polynomial envelope.
        """
        super().__init__()
        self.path, self.cutoff, self.envelope_power = 0, cutoff, envelope_power
        self.register_buffer("energies", torch.tensor(energies, dtype=torch.float64), persistent=False)

    def set_energies(self, energies: Sequence[float]) -> None:
        """Replace A, in eV, one per element."""
        self.get_buffer("energies").copy_(torch.tensor(energies, dtype=torch.float64))

    def bonded(self, vectors: Tensor) -> Tensor:
        """1 for a bonded receiver, 0 for an isolated one, smooth between; shape (T,), from vectors (T, k, 3) in Å."""
        r = torch.linalg.vector_norm(vectors.double(), dim=-1).clamp_min(SMALLEST_LENGTH)
        return -torch.expm1(-SATURATION * polynomial_cutoff(r / self.cutoff, self.envelope_power).sum(1))

    def atomic_energies(self, graph: Graph, vectors: Tensor) -> Tensor:
        """A(Z_i) (1 - exp(...)) of every receiver, as `FixedTerm.atomic_energies`."""
        species = leading_rows(graph.species, vectors.shape[0])
        return self.get_buffer("energies")[species] * self.bonded(vectors)
