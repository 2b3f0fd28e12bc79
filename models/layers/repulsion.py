"""Short-range repulsion of nuclei, after Ziegler, Biersack and Littmark (ZBL)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from al_engine.errors import InputError
from models.graph.graph import Graph, leading_columns, leading_rows
from models.graph.radial import polynomial_cutoff
from models.layers.fixed_term import FixedTerm
from models.layers.geometry import SMALLEST_LENGTH

COULOMB_EV_ANG = 14.3996
"""e² / (4 π ε0) in eV Å."""
SCREENING_LENGTH_ANG, SCREENING_EXPONENT = 0.4543 * 0.529, 0.300
SCREENING = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4028), (0.02817, 0.2016))
"""Coefficients and decay constants of the screening function φ."""


class ZBLRepulsion(FixedTerm):
    """E = Σ_{i<j} k Z_i Z_j / r φ(r / a) u(r / (R_i + R_j)), in eV; holds no weights.

    k is `strength` times e² / (4 π ε0). φ(x) = Σ_n c_n exp(-d_n x) is the universal screening function of J. F.
    Ziegler, J. P. Biersack and U. Littmark, The Stopping and Range of Ions in Matter (1985). The screening length
    a = 0.4543 · 0.529 Å / (Z_i^0.3 + Z_j^0.3) and the envelope u, which ends at the sum of the covalent radii R, are
    those of mace-torch's `pair_repulsion`, so that models of mace-torch can be converted. The book has 0.8854 and 0.23
    in place of 0.4543 and 0.3, which screens less.
    """

    def __init__(
        self, elements: Sequence[int], *, cutoffs: Sequence[float], envelope_power: int, strength: float = 1.0
    ) -> None:
        """The repulsion between elements, given by atomic number.

        Args:
            elements: Atomic numbers, in the order of the species.
            cutoffs: Cut-off of each path in Å, ascending; neighbours are taken from the shortest sufficient list.
            envelope_power: Power p of the polynomial envelope.
            strength: Factor on the repulsion; 1 for the plain ZBL formula.

        Raises:
            InputError: If two covalent radii reach beyond the longest cut-off.
        """
        from ase.data import covalent_radii

        super().__init__()
        numbers = torch.tensor(elements, dtype=torch.float64)
        radii = torch.from_numpy(np.asarray(covalent_radii, dtype=np.float64)[list(elements)])
        reach = 2.0 * float(radii.max())
        if reach > cutoffs[-1]:
            raise InputError(
                f"model.zbl reaches {reach:.2f} Å (twice the largest covalent radius), beyond the cut-off of "
                f"{cutoffs[-1]:g} Å; raise the cut-off or set `zbl: false`"
            )
        self.path = next(k for k, cutoff in enumerate(cutoffs) if cutoff >= reach)
        self.envelope_power, self.n_species = envelope_power, len(elements)
        powers = numbers**SCREENING_EXPONENT
        tables = {
            "charges": strength * COULOMB_EV_ANG * torch.outer(numbers, numbers),
            "inverse_lengths": (powers[:, None] + powers) / SCREENING_LENGTH_ANG,
            "inverse_reaches": 1.0 / (radii[:, None] + radii),
        }
        for name, table in tables.items():
            self.register_buffer(name, table.flatten(), persistent=False)  # by species of i, then of j

    def atomic_energies(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Half the energy of every pair, for the receiver of the pair, as `FixedTerm.atomic_energies`."""
        (neighbours,) = leading_columns(graph.neighbours, vectors.shape[1:2])
        species = graph.species
        own = leading_rows(species, neighbours.shape[0])
        pair = self.n_species * own[:, None] + species[neighbours]  # (T, k)
        charge, inverse_length, inverse_reach = (
            self.get_buffer(name)[pair] for name in ("charges", "inverse_lengths", "inverse_reaches")
        )
        r = torch.linalg.vector_norm(vectors.double(), dim=-1).clamp_min(SMALLEST_LENGTH)
        x = r * inverse_length
        screening = sum((c * torch.exp(-d * x) for c, d in SCREENING), start=torch.zeros_like(x))
        envelope = polynomial_cutoff(r * inverse_reach, self.envelope_power)
        return 0.5 * (charge / r * screening * envelope).sum(1)  # every pair is listed for both of its atoms
