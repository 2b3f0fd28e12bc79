"""Energy, forces and stress of frames too large to differentiate at once: exact, in bounded memory.

A layer needs the features of an atom's neighbours and no atoms further away, so it can be evaluated, and
differentiated, domain by domain (`models.graph.domains`) as soon as the layer before it is known for all atoms:

    forward     h^{k+1} of every domain from h^k; only h is stored
    backward    from the last layer to the first, with F = Σ_i readout(h_i^{k+1}) + <G^{k+1}, h^{k+1}> of a domain:
                dF/dr_ij, which adds to forces and virial, and dF/dh^k, which adds to G^k = dE/dh^k

This is reverse-mode differentiation with a checkpoint at each layer (Chen et al., arXiv:1604.06174), domain by domain.
Only h and G grow with the frame, by about a kilobyte per atom and layer; all other memory belongs to a single domain.
The cost: every layer except the last is evaluated twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from al_engine.errors import InputError
from al_engine.structures.frames import Frame, IntArray
from models.graph.domains import Domain, DomainDecomposition
from models.graph.graph import AtomBatch, leading_columns
from models.layers.tower import Tower
from models.ms_mace import MSMACE, Prediction

DEFAULT_MEMORY_MIB = 2048
WHOLE_ATOMS_CPU = 5000
WHOLE_ATOM_BYTES = 1.25 * 2**20
"""Memory per atom of an evaluation of a whole frame in plain torch: 64 channels, l = 3, cut-offs of 5 and 10 Å, liquid
density."""
SMALLEST_DOMAIN, LARGEST_DOMAIN = 32, 25_000
"""Limits of the number of atoms in a domain. In larger domains tensors approach 2^31 elements, and the relative size of
the halo hardly decreases."""
PROBE_ATOMS = 256
CPU_WORKING_MIB = 256
"""Upper bound on a domain's working set on a CPU: larger sets exceed the caches, and each new page costs time."""
PEAK_OVER_SAVED = 1.5
"""Peak memory of a derivative relative to the tensors that autograd saves for it: gradients are added to these."""
PAIR_BYTES = 200
"""Memory per neighbour of the neighbour search."""
ATOM_BYTES = 200
"""Memory per atom of the frame, for any model: positions, forces, species, indices."""
MIB = 2**20


def evaluate_chunked(
    model: MSMACE,
    frame: Frame,
    *,
    memory_mib: float | None = None,
    domain_atoms: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """`MSMACE.predict` for a single frame, in bounded memory.

    Args:
        model: A frozen model.
        frame: The frame: any cell, periodic along any of its axes.
        memory_mib: Memory limit in MiB, in addition to model and frame; sets the size of the domains. None for
            `DEFAULT_MEMORY_MIB` on a CPU and for half of the memory of a GPU.
        domain_atoms: Largest number of atoms in a domain, in place of the number that fits.
        progress: Called with the number of finished steps and the total number.

    Raises:
        InputError: If the frame has an element that the model does not know or a position that is not finite, or the
            memory does not suffice.
    """
    finite = np.isfinite(frame.positions).all(1)
    if not finite.all():
        raise InputError(
            f"atom {int(np.argmin(finite))} has a position that is not finite; check the MD step or file that set it"
        )
    if memory_mib is None:
        memory = _gpu_bytes(model.device)
        memory_mib = DEFAULT_MEMORY_MIB if memory is None else 0.5 * memory / MIB
    atoms = AtomBatch.of([frame], model.constants.elements)
    species = atoms.species[atoms.inverse].numpy()
    plan = plan_domains(model, frame, species, memory_mib=memory_mib)
    size = plan.size if domain_atoms is None else domain_atoms
    domains = _decomposition(model, frame, species, size=size, keep_lists=plan.keep_lists)
    run = _Evaluation(model, domains, progress=progress)
    energy = run.network() + run.fixed_terms() + model.reference_energies.index_select(0, run.species).sum()
    volume = abs(np.linalg.det(frame.cell)) if frame.pbc.all() else np.nan
    virial = 0.5 * (run.virial + run.virial.T)[None]
    return Prediction(energy[None], run.forces, virial / volume, virial)


def largest_whole_frame(device: torch.device) -> int:
    """Number of atoms up to which a frame is evaluated as a whole: 5000 on a CPU, about what fits on a GPU."""
    memory = _gpu_bytes(device)
    return WHOLE_ATOMS_CPU if memory is None else int(0.8 * memory / WHOLE_ATOM_BYTES)


class DomainPlan(NamedTuple):
    """Partition of a frame into domains, and the memory it takes.

    Attributes:
        size: Largest number of atoms in a domain.
        keep_lists: Whether neighbour lists are kept from pass to pass.
        working_bytes: Memory per atom of a domain while it is evaluated.
        stored_bytes: Memory per atom of the frame: features, their derivatives, coordinates.
        list_bytes: Memory per atom of the frame for lists, if they are kept.
    """

    size: int
    keep_lists: bool
    working_bytes: int
    stored_bytes: int
    list_bytes: int


def plan_domains(model: MSMACE, frame: Frame, species: IntArray, *, memory_mib: float) -> DomainPlan:
    """Choose domains such that the evaluation stays within its memory.

    Memory per atom is measured on a small domain where the frame is densest; the halo of a small domain is relatively
    large, so larger domains take less per atom. Lists are kept if they take at most half of the remaining memory.

    Args:
        model: The model.
        frame: The frame.
        species: Species of its atoms, shape (N,).
        memory_mib: Memory in MiB.

    Raises:
        InputError: If the memory does not suffice.
    """
    decomposition = _decomposition(model, frame, species, size=PROBE_ATOMS)
    domain = decomposition.domain(decomposition.densest())
    saved, stored = 0, 0
    for layers in _towers(model):
        h = layers[0].embed(torch.zeros_like(domain.graph.atoms))
        widths = []
        for layer in layers:
            recorder = _Recorder()
            with saved_tensors_hooks(recorder, _unchanged):
                output = layer.differentiate(domain, h, 0.0).output
            saved = max(saved, sum(recorder.found.values()))
            widths.append(output[:, 0].numel() * output.element_size())
            h = output[:, :1].expand(-1, len(domain.graph.atoms), -1)
        stored = max(stored, sum(widths[:-1]) + 2 * max(widths[:-1], default=0))  # h^k, and G of two layers
    n_atoms, n_neighbours = domain.graph.neighbours.shape
    working = int(PEAK_OVER_SAVED * saved / n_atoms + PAIR_BYTES * n_neighbours)
    room = memory_mib * MIB - len(frame) * (stored + ATOM_BYTES)
    least = SMALLEST_DOMAIN * working
    if room < least:
        enough = int(np.ceil(memory_mib + (least - room) / MIB))
        raise InputError(
            f"{memory_mib:g} MiB of memory are too little for {len(frame)} atoms; set memory_mib={enough} or more"
        )
    list_bytes = domain.kept_bytes // n_atoms
    left = room - len(frame) * list_bytes
    keep_lists = left >= max(0.5 * room, least)
    if keep_lists:
        room = left
    if model.device.type == "cpu":
        room = min(room, CPU_WORKING_MIB * MIB)
    size = min(LARGEST_DOMAIN, max(SMALLEST_DOMAIN, int(room / working)))
    return DomainPlan(size, keep_lists, working, stored + ATOM_BYTES, list_bytes)


class _Derivatives(NamedTuple):
    """A layer in a domain: h^{k+1}, energy, vectors (T, K, 3), dF/d(vectors), and dF/dh^k unless k is 0."""

    output: Tensor
    energy: Tensor
    vectors: Tensor
    by_vectors: Tensor
    by_h: Tensor | None


@dataclass(frozen=True, slots=True)
class _Layer:
    """Layer k of a tower with its geometry and its readout."""

    model: MSMACE
    tower: Tower
    paths: Sequence[int]
    k: int

    def embed(self, species: Tensor) -> Tensor:
        """Features h^0 (1, T, C) of atoms of given species (T,)."""
        return self.tower.embedding.detach().index_select(0, species).unsqueeze(0)

    def vectors(self, domain: Domain) -> Tensor:
        """Vectors to all neighbours within the layer's longest cut-off, (T, K, 3)."""
        return domain.graph.vectors(domain.positions, columns=domain.graph.columns[self.paths[-1]])

    def evaluate(self, domain: Domain, h: Tensor, vectors: Tensor) -> Tensor:
        """Features h^{k+1} ((l'+1)², T, C) of a domain from h^k ((l+1)², N, C) of its nodes."""
        graph = domain.graph
        columns = [graph.columns[path] for path in self.paths]
        parts = leading_columns(vectors.to(self.model.dtype), columns)
        edges = [self.model.geometries[path](part) for path, part in zip(self.paths, parts, strict=True)]
        species = graph.receiver_species(self.model.identity)
        return self.tower.layers[self.k](h, species, leading_columns(graph.neighbours, columns), edges)

    def differentiate(self, domain: Domain, h: Tensor, received: Tensor | float) -> _Derivatives:
        """The layer and the derivatives of F, given G^{k+1} of the domain's atoms, which is 0 after the last layer."""
        inputs = [self.vectors(domain).requires_grad_()]
        if self.k:
            h = h.detach().requires_grad_()
            inputs.append(h)
        with torch.enable_grad():
            output = self.evaluate(domain, h, inputs[0])
            energy = self.tower.readouts.of_layer(output, following=len(self.tower.layers) - 1 - self.k).double().sum()
            by_vectors, *by_h = torch.autograd.grad(energy + (output * received).sum(), inputs)
        return _Derivatives(output.detach(), energy.detach(), inputs[0].detach(), by_vectors, by_h[0] if by_h else None)


class _Evaluation:
    """Passes over the domains of a frame, which add up forces (N, 3) in eV/Å and the virial (3, 3) in eV."""

    def __init__(
        self,
        model: MSMACE,
        domains: DomainDecomposition,
        *,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.model, self.domains, self.progress = model, domains, progress
        device = model.device
        self.species = torch.from_numpy(domains.species).to(device)
        self.forces = torch.zeros(len(self.species), 3, dtype=torch.float64, device=device)
        self.virial = torch.zeros(3, 3, dtype=torch.float64, device=device)
        passes = sum(2 * len(tower.layers) - 1 for tower in model.towers) + len(model.fixed_terms)
        self.done, self.steps = 0, passes * len(domains)

    def network(self) -> Tensor:
        """Energy of the network in eV, without E0s; adds its derivatives to forces and virial."""
        total = torch.zeros_like(self.virial[0, 0])
        for layers in _towers(self.model):
            features: list[Tensor | None] = [None]  # h^0 follows from the species
            for layer in layers[:-1]:
                features.append(self._forward(layer, features[-1]))
            received = None
            for layer in reversed(layers):
                energy, received = self._backward(layer, features.pop(), received)
                total = total + energy
            alone = layers[0].tower.isolated_energies().detach().double()
            total = total - alone.index_select(0, self.species).sum()
        return self.model.constants.scale * total

    def fixed_terms(self) -> Tensor:
        """Energy of the terms that the network does not learn, in eV; adds their derivatives to forces and virial."""
        total = torch.zeros_like(self.virial[0, 0])
        for term in self.model.fixed_terms:
            for domain in self.domains:
                vectors = domain.graph.vectors(domain.positions, columns=domain.graph.columns[term.path])
                energies, gradients = term.gradients(domain.graph, vectors)
                total = total + energies.sum()
                self._add(domain, vectors, gradients)
                self._count()
        return total

    def _forward(self, layer: _Layer, features: Tensor | None) -> Tensor:
        """Features h^{k+1} ((l'+1)², N, C) of all atoms from h^k."""
        result = torch.empty(0)
        for domain in self.domains:
            with torch.no_grad():
                output = layer.evaluate(domain, self._gather(layer, domain, features), layer.vectors(domain))
            if not len(result):
                result = output.new_empty(len(output), len(self.species), output.shape[2])
            result.index_copy_(1, domain.receiving_atoms, output)
            self._count()
        return result

    def _backward(
        self, layer: _Layer, features: Tensor | None, received: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The energy read from h^{k+1}, and G^k of all atoms, from h^k and G^{k+1}."""
        total = torch.zeros_like(self.virial[0, 0])
        passed = None if features is None else torch.zeros_like(features)
        for domain in self.domains:
            own = 0.0 if received is None else received.index_select(1, domain.receiving_atoms)
            found = layer.differentiate(domain, self._gather(layer, domain, features), own)
            total = total + found.energy
            self._add(domain, found.vectors, self.model.constants.scale * found.by_vectors)
            if passed is not None and found.by_h is not None:
                passed.index_add_(1, domain.graph.atoms, found.by_h)
            self._count()
        return total, passed

    def _gather(self, layer: _Layer, domain: Domain, features: Tensor | None) -> Tensor:
        """Features h^k of a domain's nodes."""
        if features is None:
            return layer.embed(domain.graph.species)
        return features.index_select(1, domain.graph.atoms)

    def _add(self, domain: Domain, vectors: Tensor, gradients: Tensor) -> None:
        """Add the contributions of dE/d(vectors) (T, k, 3) in eV/Å to the forces and to the virial."""
        self.forces.index_add_(0, domain.graph.atoms, domain.graph.forces(gradients))
        self.virial += vectors.flatten(0, 1).T @ gradients.flatten(0, 1)

    def _count(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.steps)


def _gpu_bytes(device: torch.device) -> int | None:
    """Total memory of a GPU, so that a frame is always treated in the same way; None for a CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


class _Recorder:
    """Records the size of every storage that autograd saves."""

    def __init__(self) -> None:
        self.found: dict[int, int] = {}

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.found[storage.data_ptr()] = storage.nbytes()
        return tensor


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _towers(model: MSMACE) -> list[list[_Layer]]:
    """The layers of every tower."""
    return [
        [_Layer(model, tower, paths, k) for k in range(len(tower.layers))]
        for tower, paths in zip(model.towers, model.tower_paths, strict=True)
    ]


def _decomposition(
    model: MSMACE, frame: Frame, species: IntArray, *, size: int, keep_lists: bool = False
) -> DomainDecomposition:
    return DomainDecomposition(
        frame,
        species,
        cutoffs=model.cutoffs,
        size=size,
        n_species=len(model.identity),
        device=model.device,
        keep_lists=keep_lists,
    )
