"""The recursive product basis: one factor of A after another, with weights at every step."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from al_engine.frames import FloatArray
from models.couplings import monomials, symmetric_couplings
from models.parameters import Initializer
from models.product import ProductBasis
from models.spherical import Coupling, clebsch_gordan, couplings_of


class RecursiveProduct(ProductBasis):
    """B_{i,LM,c} = Σ_k v^{k,L}_{Z_i,c} P^k_{i,LM,c}, then a linear map per L; P^1 = A.

    The orders k up to ν follow from each other:

        P^{k+1}_{i,l3m3,c} = Σ_{l1,l2} w^{k,l1l2l3}_{Z_i,c} Σ_{m1,m2} CG^{l3m3}_{l1m1,l2m2} P^k_{i,l1m1,c} A_{i,l2m2,c}

    through degrees up to l_max of natural parity; v = 1 for the last of several orders, which w scales already.

    All this is a polynomial of A, so it is a sum of MACE's symmetric couplings, only that the coefficients of the third
    order are Σ_{pq} K_{pq,η} w^1_p w^2_q with constants K, not free. It is evaluated as such, at the cost of
    `ProductBasis`. (One step after the other is no faster: measured, 0.6 times the time of Horner's form with features
    up to L = 1 and 1.1 times for L = 0, and several times that of the kernel.)
    """

    def _new_weights(self, n_species: int, init: Initializer) -> nn.ParameterList:
        """Weights w of every step, then v of every order that has one."""
        steps, std = [], []
        for order in range(2, self.correlation + 1):
            last = order == self.correlation
            steps.append(_step_couplings(self.l_max, self.l_out if last else self.l_max, symmetric=order == 2))  # noqa: PLR2004  # A with A
            into = np.array([l3 for _, _, l3 in steps[-1]])
            counts = np.array([np.count_nonzero(into == l3) for l3 in into])
            std.append(torch.from_numpy((counts * (self.correlation if last else 1)) ** -0.5))
        for degree in range(self.l_out + 1):
            for order, mixing in enumerate(_mixing(self.l_max, degree, steps), start=2):
                self.register_buffer(f"K_{order}_{degree}", mixing.to(init.dtype), persistent=False)
        self.n_steps = len(steps)
        shape = (n_species, self.channels)
        return nn.ParameterList(
            [
                *(init.normal(*shape, len(step), std=spread) for step, spread in zip(steps, std, strict=True)),
                *(
                    init.normal(*shape, self.l_out + 1, std=self.correlation**-0.5)
                    for _ in range(max(1, self.correlation - 1))
                ),
            ]
        )

    def coupling_weights(self) -> list[Tensor]:
        """The weights of the symmetric couplings that these products of weights amount to."""
        steps, lower = list(self.weights)[: self.n_steps], list(self.weights)[self.n_steps :]
        result = []
        for degree in range(self.l_out + 1):
            orders = [torch.ones_like(lower[0].select(2, degree).unsqueeze(2))]
            product = steps[0] if steps else None
            ...
        return result
