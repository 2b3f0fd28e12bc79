"""MS-MACE: an expensive short-range path and a cheap long-range path, fused before MACE's product basis.

Hu, Zhou and Jiang, arXiv:2312.09490, based on Batatia et al., MACE (2022, arXiv:2206.07697), eqs. 8-12. The fused
message is that of the authors' code (class `ScaleShiftLBMACE` in github.com/clecust/ms4mace). A layer computes for
receiver i with neighbours j:

    short_i = W_S Σ_{r<r_short} R_S(r) · (Y^{l<=l_short} ⊗ W_up   h_j) / N_short
    long_i  = W_L Σ_{r<r_long}  R_L(r) · (Y^{l<=l_long}  ⊗ W_down h_j) / N_long
    A_i     = (short_i + long_i) / 2
    h_i'    = ProductBasis_ν(A_i; Z_i) + FullyConnected(h_i, Z_i)

R are radial functions, Y spherical harmonics, ⊗ is the Clebsch-Gordan product, W are equivariant linear maps, and N is
the mean number of neighbours within a cut-off.

Without the long path A_i = short_i and the model is MACE. With `fusion: energy` the energies of two towers, each with a
single path, are summed. The factors 1 / N and 1 / 2 are absorbed into W_S and W_L (`models.layers.interaction`).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from al_engine.config import Dtype, ModelConfig
from models.graph.graph import Graph, NodeSpecies, leading_columns
from models.layers.cohesion import Cohesion
from models.layers.fixed_term import FixedTerm
from models.layers.geometry import EdgeFeatures, Geometry, PathGeometry, VectorGeometry, path_configs
from models.layers.operators import use_plain
from models.layers.parameters import Initializer, Modules
from models.layers.repulsion import ZBLRepulsion
from models.layers.tower import Tower

DTYPES: Mapping[Dtype, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}
"""Precisions of the network by their names in a config."""


@dataclass(frozen=True, slots=True)
class ModelConstants:
    """Constants fixed from the training data before training.

    Attributes:
        elements: Atomic numbers of the species, ascending.
        reference_energies: E0 of each element in eV, the model's energies of isolated atoms. With `cohesion` they are
            labels of isolated atoms. Without it they are offsets that are fitted by least squares to the training
            energies, before training and again after it, and equal the labels of isolated atoms only if the
            compositions of the training set determine them.
        scale: Unit of the network's energies in eV: the root mean square force component in eV/Å times 1 Å.
        mean_neighbours: Mean number of neighbours within each path's cut-off.
        repulsion_strength: Factor on the ZBL repulsion; differs from 1 only in converted models.
        cohesion: Mean energy of a bonded atom of each element minus that of the isolated atom, in eV
            (`models.layers.cohesion`), fitted in place of the E0s; empty: the model has no such term.
    """

    elements: tuple[int, ...]
    reference_energies: tuple[float, ...]
    scale: float
    mean_neighbours: tuple[float, ...]
    repulsion_strength: float = 1.0
    cohesion: tuple[float, ...] = ()


class Prediction(NamedTuple):
    """Energies (B,) in eV, forces on atoms (T, 3) in eV/Å, stresses (B, 3, 3) in eV/Å³, virials (B, 3, 3) in eV.

    A stress is NaN where not all three axes are periodic. A virial is dE/d(strain), symmetric, also of a
    slab; where no axis is periodic it may be NaN.
    """

    energies: Tensor
    forces: Tensor
    stresses: Tensor
    virials: Tensor


class MSMACE(nn.Module):
    """E = scale · Σ_i (e_i - e_isolated(Z_i)) + Σ_i E0(Z_i) + E_fixed; forces and stress by differentiation.

    e_i is the sum of the readouts of atom i (Batatia et al., MACE (2022), eq. 13), and e_isolated the same sum for an
    atom without neighbours. Subtracting it gives an isolated atom exactly the energy E0; MACE has no such term.
    E_fixed are optional terms without weights: repulsion of nuclei (`models.layers.repulsion`), and cohesion
    (`models.layers.cohesion`).

    The network runs in `config.dtype`; energies are summed in float64.

    In the shapes below, B is the number of frames, T of receivers (in whole frames: of atoms), and K of the neighbour
    slots of a receiver.
    """

    def __init__(self, config: ModelConfig, constants: ModelConstants, *, seed: int) -> None:
        """A model with random weights, drawn from `seed`."""
        super().__init__()
        self.config, self.constants = config, constants
        dtype = DTYPES[config.dtype]
        paths = path_configs(config)
        self.cutoffs = tuple(path.cutoff_ang for path in paths)
        self.geometries: Modules[PathGeometry] = Modules(PathGeometry(path, config, dtype=dtype) for path in paths)
        # the indices of the paths of each tower
        self.tower_paths = [[k] for k in range(len(paths))] if config.fusion == "energy" else [list(range(len(paths)))]
        init = Initializer(torch.Generator().manual_seed(seed), dtype)
        self.towers: Modules[Tower] = Modules(
            Tower(
                [paths[k] for k in indices],
                config=config,
                n_species=len(constants.elements),
                mean_neighbours=[constants.mean_neighbours[k] for k in indices],
                init=init,
            )
            for indices in self.tower_paths
        )
        self.repulsion = (
            ZBLRepulsion(
                constants.elements,
                cutoffs=self.cutoffs,
                envelope_power=config.envelope_power,
                strength=constants.repulsion_strength,
            )
            if config.zbl
            else None
        )
        self.cohesion = (
            Cohesion(constants.cohesion, cutoff=self.cutoffs[0], envelope_power=config.envelope_power)
            if constants.cohesion
            else None
        )
        self.reference_energies: Tensor
        self.identity: Tensor
        reference = torch.tensor(constants.reference_energies, dtype=torch.float64)
        self.register_buffer("reference_energies", reference, persistent=False)
        self.register_buffer("identity", torch.eye(len(reference), dtype=dtype), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network."""
        return self.identity.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.identity.device

    @property
    def fixed_terms(self) -> list[FixedTerm]:
        """The terms of the energy that the network does not learn."""
        return [term for term in (self.repulsion, self.cohesion) if term is not None]

    def add_to_offsets(self, correction: Sequence[float]) -> None:
        """Add to the energies of bonded atoms, in eV, one per element: to the cohesion, or without it to the E0s."""
        if self.cohesion is None:
            old = self.constants.reference_energies
            self.set_reference_energies([a + b for a, b in zip(old, correction, strict=True)])
            return
        self.constants = replace(
            self.constants, cohesion=tuple(a + b for a, b in zip(self.constants.cohesion, correction, strict=True))
        )
        self.cohesion.set_energies(self.constants.cohesion)

    def set_reference_energies(self, values: Sequence[float]) -> None:
        """Replace the E0s, in eV, one per element."""
        self.constants = replace(self.constants, reference_energies=tuple(values))
        self.reference_energies.copy_(torch.tensor(self.constants.reference_energies, dtype=torch.float64))

    def freeze(self) -> "MSMACE":
        """Prepare for inference: no weight needs a gradient, and tensors derived from the weights are computed once."""
        self.requires_grad_(requires_grad=False)
        for tower in self.towers:
            tower.freeze()
        return self

    def weight_sharing_copy(self) -> "MSMACE":
        """A model with its own modules, whose weights and constants share memory with the weights of this model.

        The copy can be frozen, use other operators or move to another device, and this model stays as it is. In-place
        changes of the weights are seen by both models, as long as both are on the same device in the same precision.
        """
        shared: dict[int, Any] = {
            id(weight): nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
            for weight in self.parameters()
        }
        shared |= {id(constant): constant.detach() for constant in self.buffers()}
        return deepcopy(self, shared)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002  # torch's signature
        """Move or convert the model; `.to()` and `.cuda()` call this method.

        After a change of the precision, the constants are computed anew. Kernels are compiled for a precision and a
        CPU, so after a change of the precision or the device the model uses plain torch.

        Raises:
            TypeError: If the precision would be neither float32 nor float64.
        """
        before = (self.dtype, self.device)
        dtype = fn(self.identity[:0]).dtype
        names = {value: name for name, value in DTYPES.items()}
        if dtype not in names:
            raise TypeError(f"a model's network is in float32 or float64, {dtype} is neither")
        super()._apply(fn, recurse)
        if (dtype, self.device) != before:
            use_plain(self)
        if dtype != before[0]:
            self.config = self.config.model_copy(update={"dtype": names[dtype]})
            rebuilt = MSMACE(self.config, self.constants, seed=0)  # its E0s and fixed terms are in float64
            for name, values in rebuilt.named_buffers():
                self.get_buffer(name).data = values.to(self.device)
        return self

    def edge_features(self, vectors: Tensor, columns: Sequence[int]) -> list[EdgeFeatures]:
        """Harmonics and radial basis of every path from vectors (T, K, 3) in Å."""
        parts = leading_columns(vectors.to(self.dtype), columns)
        return [geometry(part) for geometry, part in zip(self.geometries, parts, strict=True)]

    def geometry(self, graph: Graph, vectors: Tensor) -> VectorGeometry:
        """Edge features of vectors (T, K, 3) in Å, by which energies can then be differentiated."""
        with torch.enable_grad():
            vectors = vectors.detach().requires_grad_()
            return VectorGeometry(self.edge_features(vectors, graph.columns), vectors)

    def network_energies(self, graph: Graph, edges: Sequence[EdgeFeatures]) -> Tensor:
        """Energies of frames without E0s and fixed terms, in units of `constants.scale`, shape (B,), float64."""
        atomic = sum(tower(*inputs) for tower, inputs in self._tower_inputs(graph, edges))
        return graph.frame_sums(atomic.squeeze(1))

    def invariant_features(self, graph: Graph, edges: Sequence[EdgeFeatures]) -> Tensor:
        """Scalar features of the receivers after every layer of every tower, concatenated to (T, D)."""
        return torch.cat(
            [h[0] for tower, inputs in self._tower_inputs(graph, edges) for h in tower.features(*inputs)], dim=1
        )

    def _tower_inputs(
        self, graph: Graph, edges: Sequence[EdgeFeatures]
    ) -> list[tuple[Tower, tuple[NodeSpecies, list[Tensor], list[EdgeFeatures]]]]:
        """Every tower with its species, neighbours and edges."""
        neighbours, species = leading_columns(graph.neighbours, graph.columns), graph.receiver_species(self.identity)
        return [
            (tower, (species, [neighbours[k] for k in indices], [edges[k] for k in indices]))
            for tower, indices in zip(self.towers, self.tower_paths, strict=True)
        ]

    def frame_references(self, graph: Graph) -> Tensor:
        """Σ_i E0(Z_i) of each frame in eV, shape (B,)."""
        return graph.frame_sums(self.reference_energies[graph.kinds])

    def network_gradients(
        self, graph: Graph, geometry: Geometry, *, differentiable: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Energies without E0s and fixed terms, as training compares them with its targets, and their derivatives.

        Args:
            graph: Neighbours of B whole frames.
            geometry: Edge features, by which energies can be differentiated.
            differentiable: Whether the results will be differentiated again, by the weights.

        Returns:
            Energies (B,) in units of `constants.scale`, float64, and their derivatives by the neighbour vectors, per
            Å: one or several tensors (T, k, 3), each for the k leading columns. The derivative is the sum of the
            tensors.
        """
        with torch.enable_grad():
            energies = self.network_energies(graph, geometry.edges)
            return energies, geometry.differentiate(energies.sum(), differentiable=differentiable)

    def energy_gradients(
        self, graph: Graph, vectors: Tensor, *, frame_weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies of whole frames, with E0s and fixed terms, and their derivatives by the neighbour vectors.

        Molecular dynamics, the calculator, predictions and the compiled graph all call this function.

        Args:
            graph: Neighbours of B whole frames.
            vectors: Neighbour vectors (T, K, 3) in Å.
            frame_weights: Factors on the frames' energies in the sum that is differentiated, (B,); None: all are 1.

        Returns:
            Energies (B,) in eV, float64, and dE/d(vectors) (T, K, 3) in eV/Å.
        """
        with torch.enable_grad():
            geometry = self.geometry(graph, vectors)
            energies = self.constants.scale * self.network_energies(graph, geometry.edges)
            for term in self.fixed_terms:
                energies = energies + term(graph, geometry.vectors)
            total = energies.sum() if frame_weights is None else (energies * frame_weights).sum()
            (gradients,) = geometry.differentiate(total)
        return energies.detach() + self.frame_references(graph), gradients

    def energy_and_forces(self, graph: Graph, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (B,) in eV and forces (T, 3) in eV/Å at atom positions (T, 3) in Å, float64."""
        energies, gradients = self.energy_gradients(graph, graph.vectors(graph.to_nodes(positions)))
        return energies, graph.to_atoms(graph.forces(gradients))

    def predict(self, graph: Graph, positions: Tensor) -> Prediction:
        """Energies, forces and stresses at atom positions (T, 3) in Å, float64.

        The stress is dE/d(strain) / V with ASE's sign, without a kinetic part. Here dE/d(strain) is the virial
        Σ r_ij ⊗ dE/dr_ij (Thompson, Plimpton and Mattson, J. Chem. Phys. 131, 154107 (2009)), made symmetric.
        """
        vectors = graph.vectors(graph.to_nodes(positions))
        energies, gradients = self.energy_gradients(graph, vectors)
        virials = graph.virials(vectors, gradients)
        virials = 0.5 * (virials + virials.mT)
        volumes = virials.new_full((graph.n_frames,), torch.nan) if graph.volumes is None else graph.volumes
        forces = graph.to_atoms(graph.forces(gradients))
        return Prediction(energies, forces, virials / volumes[:, None, None], virials)
