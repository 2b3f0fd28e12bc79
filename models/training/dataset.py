"""A training set: neighbour lists and geometry are computed once, batches are assembled by indexing.

Positions never change in training, so the edge features (harmonics and radial basis) and their derivatives by the
neighbour vectors (Jacobians) are constants. Forces follow from dE/d(features) by the chain rule, and the double
backward pass skips the geometry. In plain torch these constants are stored. Kernels compute them again for every batch,
which is as fast as reading them and needs no memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from al_engine.structures.frames import FloatArray, IntArray, LabelledFrame
from models.graph.graph import AtomBatch, Graph, leading_columns, neighbour_graph
from models.layers.geometry import ConstantGeometry, EdgeFeatures
from models.ms_mace import MSMACE

CACHE_BYTES = 2 * 1024**3
"""Largest size of the edge features and Jacobians of a set that are stored. Those of a larger set are computed batch by
batch."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingBatch:
    """Labelled frames of a gradient update or a validation.

    Targets are the labels of the network alone, in its units: E0s and fixed terms are subtracted, and the rest is
    divided by the model's scale.

    Attributes:
        graph: Neighbours of B frames with T nodes.
        geometry: Edge features, and the Jacobians or neighbour vectors with which forces are computed.
        energies: Targets of the frames, shape (B,), float64.
        forces: Targets of the nodes, shape (T, 3).
        virials: Targets dE/d(strain) of the frames, shape (B, 3, 3), float64; NaN for frames without a stress. None if
            no frame of the set has a stress.
        sizes: Number of atoms of each frame, shape (B,).
        inverse_sizes: Reciprocal of `sizes`, shape (B,), float64.
        weights: Weight of each frame in the loss, shape (B,), float64; None if all are 1.
    """

    graph: Graph
    geometry: ConstantGeometry
    energies: Tensor
    forces: Tensor
    virials: Tensor | None
    sizes: IntArray
    inverse_sizes: Tensor
    weights: Tensor | None = None

    def predict(self, model: MSMACE, *, differentiable: bool) -> tuple[Tensor, Tensor]:
        """Energies (B,) and node forces (T, 3) in the network's units.

        Args:
            model: The model.
            differentiable: Whether the results will be differentiated by the weights.
        """
        energies, gradients = model.network_gradients(self.graph, self.geometry, differentiable=differentiable)
        return energies, self._forces(gradients)

    def predict_with_virials(self, model: MSMACE, *, differentiable: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """The results of `predict`, and the virials dE/d(strain) (B, 3, 3); None if the batch has no such targets."""
        energies, gradients = model.network_gradients(self.graph, self.geometry, differentiable=differentiable)
        if self.virials is None:
            return energies, self._forces(gradients), None
        widest = self.geometry.vectors[-1]
        parts = [self.graph.virials(widest[:, : part.shape[1]], part) for part in gradients]
        virials = sum(parts[1:], start=parts[0])
        return energies, self._forces(gradients), 0.5 * (virials + virials.mT)

    def weighted_by_frame(self, values: Tensor) -> Tensor:
        """Values of each frame, shape (B,), times the weights of the frames in the loss."""
        return values if self.weights is None else values * self.weights

    def weighted_by_node(self, values: Tensor) -> Tensor:
        """Values of each node, shape (T, 3), times the weights of their frames in the loss."""
        if self.weights is None:
            return values
        return values * self.weights.to(values.dtype).index_select(0, self.graph.frame_index)[:, None]

    def _forces(self, gradients: Sequence[Tensor]) -> Tensor:
        if len(gradients) == 1:
            return self.graph.forces(gradients[0])
        return sum((self.graph.forces(part) for part in gradients), start=torch.zeros_like(self.forces))


class TrainingSet:
    """Labelled frames from which batches are assembled, for one model or for M stacked models of one architecture.

    The geometry of the F frames with N atoms in all is stored once, the targets are stored for each model. Index
    f + F m stands for frame f with the targets of model m.

    Attributes:
        models: The models.
        graph: Neighbours of all frames.
        vectors: Neighbour vectors in Å, shape (N, K, 3).
        energies: Targets of the frames (`TrainingBatch`), shape (M F,).
        forces: Targets of the nodes, shape (M N, 3).
        virials: Targets of the frames, shape (M F, 3, 3); None if no frame has a stress.
        nodes_of_frame: The nodes of each frame, F arrays.
        species_counts: Number of atoms of each frame and species, shape (F, S).
        sizes: Number of atoms of each frame, shape (F,).
        weights: Weight of each frame in the loss, shape (M F,), float64; None if all are 1.
        position_of_node: Node of a batch that stands for node n of model m, at index n + N m; valid for the nodes of
            the batch that is being assembled. Shape (M N,).
        neighbour_counts: Number of neighbours of each node within the cut-off of each path, shape (N, paths).
        cache: Edge features and Jacobians of every path, or None if they are computed batch by batch.
    """

    def __init__(self, frames: Sequence[LabelledFrame], *models: MSMACE, device: torch.device) -> None:
        self.models = models
        model = models[0]
        structures = [item.frame for item in frames]
        atoms = AtomBatch.of(structures, model.constants.elements, device=device)
        positions = torch.from_numpy(np.concatenate([frame.positions for frame in structures])).to(device)
        self.graph = neighbour_graph(atoms, positions, cutoffs=model.cutoffs)
        self._positions = positions.index_select(0, atoms.order)
        vectors = self.graph.vectors(self._positions)
        self.vectors = vectors.to(model.dtype)
        lengths = torch.linalg.vector_norm(vectors, dim=-1)
        self.neighbour_counts = (
            torch.stack([(lengths < cutoff).sum(1) for cutoff in model.cutoffs], dim=1).cpu().numpy()
        )

        energies = torch.tensor([item.energy for item in frames], dtype=torch.float64, device=device)
        forces = torch.from_numpy(np.concatenate([item.forces for item in frames])).to(device)
        virials = None
        if any(item.stress is not None for item in frames):
            virials = torch.from_numpy(np.array([_virial(item) for item in frames])).to(device)
        self._labels = energies, forces.index_select(0, atoms.order), virials
        targets = [self._targets(each, *self._labels[:2], vectors) for each in models]
        self.energies = torch.cat([of_frames for of_frames, _ in targets])
        self.forces = torch.cat([of_nodes for _, of_nodes in targets])
        self.virials = None
        if virials is not None:
            self.virials = torch.cat([self._virial_targets(each, virials, vectors) for each in models])

        self.weights = None
        if any(item.weight != 1.0 for item in frames):
            self.weights = torch.tensor([item.weight for item in frames] * len(models), dtype=torch.float64).to(device)

        self.nodes_of_frame = np.split(atoms.inverse.cpu().numpy(), np.cumsum(atoms.sizes)[:-1])
        species = atoms.species.cpu().numpy()
        self.species_counts = np.stack(
            [np.bincount(species[nodes], minlength=len(atoms.species_counts)) for nodes in self.nodes_of_frame]
        )
        self.sizes = np.array(atoms.sizes)
        self.position_of_node = torch.zeros(len(self.forces), dtype=torch.int64, device=device)
        features_per_node = sum(
            columns * geometry.n_features
            for columns, geometry in zip(self.graph.columns, model.geometries, strict=True)
        )
        # each feature is stored with its three derivatives
        size = len(species) * features_per_node * 4 * self.vectors.element_size()
        kept = size <= CACHE_BYTES and all(geometry.operator.keeps_jacobian for geometry in model.geometries)
        self.cache = self._geometry(self.vectors) if kept else None

    def __len__(self) -> int:
        return len(self.sizes)

    def _targets(self, model: MSMACE, energies: Tensor, forces: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Targets of a model's network, in its units, from energies (F,) in eV and node forces (N, 3) in eV/Å."""
        energies = energies - model.frame_references(self.graph)
        for term in model.fixed_terms:  # the network learns the difference
            atomic, gradients = term.gradients(self.graph, vectors)
            energies, forces = energies - self.graph.frame_sums(atomic), forces - self.graph.forces(gradients)
        return energies / model.constants.scale, (forces / model.constants.scale).to(model.dtype)

    def _virial_targets(self, model: MSMACE, virials: Tensor, vectors: Tensor) -> Tensor:
        """Targets of a model's network, in its units, from dE/d(strain) (F, 3, 3) in eV."""
        for term in model.fixed_terms:
            _, gradients = term.gradients(self.graph, vectors)
            fixed = self.graph.virials(vectors, gradients)
            virials = virials - 0.5 * (fixed + fixed.mT)
        return virials / model.constants.scale

    def _geometry(self, vectors: Tensor) -> tuple[list[EdgeFeatures], list[Tensor]]:
        """Edge features of every path, and their Jacobians (T, k, n_features, 3), from vectors (T, K, 3) in Å."""
        with torch.no_grad():
            model = self.models[0]
            parts = leading_columns(vectors, self.graph.columns)
            jacobians = [g.jacobian(part) for g, part in zip(model.geometries, parts, strict=True)]
            return model.edge_features(vectors, self.graph.columns), jacobians

    def shift_targets(self, correction: FloatArray, *, member: int = 0) -> None:
        """Update the energy targets of a member whose E0s have changed.

        Args:
            correction: Change of the E0s in eV, shape (S,).
            member: Number of the member.
        """
        shift = torch.from_numpy(self.species_counts @ correction / self.models[member].constants.scale)
        own = slice(member * len(self), (member + 1) * len(self))
        self.energies[own] -= shift.to(self.energies.device)

    def renew_targets(self, *, member: int = 0) -> None:
        """Compute the targets of a member anew, after a change of its fixed terms.

        After a change of E0s alone, `shift_targets` is used: begun campaigns have data with its rounding.
        """
        model, vectors, (energies, forces, virials) = (
            self.models[member],
            self.graph.vectors(self._positions),
            self._labels,
        )
        of_frames = slice(member * len(self), (member + 1) * len(self))
        of_nodes = slice(member * len(forces), (member + 1) * len(forces))
        self.energies[of_frames], self.forces[of_nodes] = self._targets(model, energies, forces, vectors)
        if self.virials is not None and virials is not None:
            self.virials[of_frames] = self._virial_targets(model, virials, vectors)

    def batch(self, frames: IntArray) -> TrainingBatch:
        """Assemble a batch of frames.

        The nodes of the batch are sorted by model, then by species. With several models, each model must have the same
        number of nodes of each species. Neighbour lists are as wide as the batch needs: where clusters and boxes are
        mixed, clusters have fewer neighbours than the set's widest lists.

        Args:
            frames: Indices f + F m of the frames, shape (B,).
        """
        device, first = self.vectors.device, self.models[0]
        members, which = np.divmod(frames, len(self))
        n_nodes = len(self.vectors)
        # node n of model m has the index n + N m
        unsorted = np.concatenate([self.nodes_of_frame[k] + m * n_nodes for m, k in zip(members, which, strict=True)])
        order = np.argsort(unsorted, kind="stable")  # the nodes of the set are sorted by species
        frame_index = np.repeat(np.arange(len(frames)), self.sizes[which])[order]
        most = self.neighbour_counts[unsorted % n_nodes].max(0)
        columns = tuple(max(1, int(n)) for n in most)  # at least 1, so that no shape is empty
        model_nodes = torch.from_numpy(unsorted[order]).to(device)
        nodes = model_nodes % n_nodes
        self.position_of_node[model_nodes] = torch.arange(len(model_nodes), device=device)
        graph = Graph(
            atoms=torch.from_numpy(order).to(device),
            receivers=torch.from_numpy(np.argsort(order)).to(device),
            species=self.graph.species.index_select(0, nodes),
            species_counts=(self.species_counts[which].sum(0) // len(np.unique(members))).tolist(),
            frame_index=torch.from_numpy(frame_index).to(device),
            n_frames=len(frames),
            neighbours=self.position_of_node[
                self.graph.neighbours[:, : columns[-1]].index_select(0, nodes) + (model_nodes - nodes)[:, None]
            ],
            offsets=None,  # the vectors are stored
            columns=columns,
        )
        vectors = self.vectors[:, : columns[-1]].index_select(0, nodes)
        jacobians: Sequence[Tensor | None] = [None] * len(first.geometries)
        if self.cache is None:
            edges = first.edge_features(vectors, columns)
        else:
            edges = [
                EdgeFeatures(*(part[:, :width].index_select(0, nodes) for part in features))
                for features, width in zip(self.cache[0], columns, strict=True)
            ]
            jacobians = [
                jacobian[:, :width].index_select(0, nodes)
                for jacobian, width in zip(self.cache[1], columns, strict=True)
            ]
        chosen = torch.from_numpy(np.asarray(frames)).to(device)
        return TrainingBatch(
            graph=graph,
            geometry=ConstantGeometry(
                edges=[EdgeFeatures(*(part.detach().requires_grad_() for part in features)) for features in edges],
                paths=list(first.geometries),
                vectors=leading_columns(vectors, columns),
                jacobians=jacobians,
            ),
            energies=self.energies.index_select(0, chosen),
            forces=self.forces.index_select(0, model_nodes),
            virials=None if self.virials is None else self.virials.index_select(0, chosen),
            sizes=self.sizes[which],
            inverse_sizes=torch.from_numpy(1.0 / self.sizes[which]).to(device),
            weights=None if self.weights is None else self.weights.index_select(0, chosen),
        )


def _virial(item: LabelledFrame) -> FloatArray:
    """dE/d(strain) of a labelled frame in eV, shape (3, 3), symmetric; NaN if it has no stress or no volume."""
    if item.stress is None or not item.frame.pbc.all():
        return np.full((3, 3), np.nan)
    virial: FloatArray = 0.5 * (item.stress + item.stress.T) * abs(float(np.linalg.det(item.frame.cell)))
    return virial


def chunks(frames: IntArray, size: int) -> list[IntArray]:
    """Split the indices of frames into arrays of at most `size` indices."""
    return [frames[first : first + size] for first in range(0, len(frames), size)]
