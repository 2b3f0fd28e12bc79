"""The committee as a metatomic model: TorchScript code around the traced graph of a member.

A file that `models.interop.metatomic_file` writes holds this code, the graph and the weights of all members, and needs
nothing of this package. Everything here is TorchScript, which knows only some of Python.

Forces and stresses are the engine's derivatives of the energy by its own positions and cell. The graph already gives
the derivative G of the energy by the neighbour vectors V, so the energy is returned as E + Σ G · (V - V₀), where E, G
and V₀ = V are constants: its value is E, its derivative by V is G, and nothing is differentiated twice.
"""

from collections.abc import Sequence
from typing import Dict, List, Optional, Tuple

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import ModelOutput, NeighborListOptions, System
from torch import Tensor

DEVIATION = "al-engine::force_deviation"
"""Output: the force deviation of each atom (`al_engine.committee.deviation`, kind `norm`) in eV/Å."""
ENSEMBLE_OUTPUTS = ("energy", "energy_ensemble", "energy_uncertainty")
"""Outputs of a system in eV: the mean over the members, the energies of the members, their standard deviation."""
LARGEST_NUMBER = 119


class CommitteeModel(torch.nn.Module):
    """The committee as a module that metatomic can save."""

    weights: List[List[Tensor]]
    constants: List[Tensor]
    cutoffs: List[float]

    def __init__(
        self,
        core: torch.jit.ScriptModule,
        *,
        weights: Sequence[Sequence[Tensor]],
        constants: Sequence[Tensor],
        elements: Sequence[int],
        cutoffs: Sequence[float],
    ) -> None:
        """A committee of members of one architecture.

        Args:
            core: The traced graph (`models.inference.symbolic.trace_atomic_energies`): it takes the weights and the
                scale of a member; neighbours, species and own numbers; sizes; vectors and chosen atoms; constants.
            weights: `model_inputs` of each member.
            constants: Constants of the graph.
            elements: Atomic numbers of the species, ascending.
            cutoffs: Cut-off of each path in Å, ascending.
        """
        super().__init__()
        self.core = core
        self.weights = [list(member) for member in weights]
        self.constants = list(constants)
        self.cutoffs = list(cutoffs)
        self.n_species = len(elements)
        species = torch.full((LARGEST_NUMBER,), -1, dtype=torch.int64)
        species[torch.tensor(list(elements))] = torch.arange(len(elements))
        self.species_of_number: Tensor
        self.register_buffer("species_of_number", species)
        self.neighbours = NeighborListOptions(cutoff=cutoffs[-1], full_list=True, strict=True)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        return [self.neighbours]

    def forward(
        self,
        systems: List[System],
        outputs: Dict[str, ModelOutput],
        selected_atoms: Optional[Labels],
    ) -> Dict[str, TensorMap]:
        device = systems[0].positions.device
        self.move_to(device)
        system_of_atom, atom_in_system, species, centres, others, vectors = self.collect(systems)
        chosen = torch.ones(species.shape[0], dtype=torch.float64, device=device)
        if selected_atoms is not None:
            if "al-engine::force_deviation" in outputs:
                raise RuntimeError("the force deviation needs the energies of all atoms: leave out selected_atoms")
            chosen = self.chosen_atoms(selected_atoms, system_of_atom, atom_in_system)
        order = torch.sort(species, stable=True, dim=0)[1]
        node = torch.argsort(order)  # of each atom
        table, widths, V = self.tables(node[centres], node[others], vectors, species.shape[0])
        V0 = V.detach()
        species, chosen, system_of_node = species[order], chosen[order], system_of_atom[order]
        sizes = self.sizes(species, widths)
        own = torch.arange(species.shape[0], device=device)
        energies: List[Tensor] = []
        forces: List[Tensor] = []
        for member in self.weights:
            atomic, gradients = self.core(member, [table, species, own], sizes, [V0, chosen], self.constants)
            value = (atomic * chosen).detach() + (gradients.detach() * (V - V0)).sum(dim=[1, 2])
            total = torch.zeros(len(systems), dtype=torch.float64, device=device)
            energies.append(total.index_add(0, system_of_node, value))
            pulls = torch.zeros(species.shape[0], 3, dtype=torch.float64, device=device)
            pulls = pulls.index_add(0, table.flatten(), gradients.detach().flatten(0, 1))
            forces.append((gradients.detach().sum(dim=1) - pulls)[node])
        return self.answer(outputs, torch.stack(energies, dim=1), torch.stack(forces), system_of_atom, atom_in_system)

    def move_to(self, device: torch.device) -> None:
        """Move weights and constants, which are no buffers, to the device of the systems."""
        if self.weights[0][0].device == device:
            return
        self.weights = [[weight.to(device) for weight in member] for member in self.weights]
        self.constants = [constant.to(device) for constant in self.constants]

    def collect(
        self,
        systems: List[System],
    ) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All systems in a row.

        For each atom its system, its number there and its species, shape (T,); for each pair the atoms and the
        vector between them in Å, shape (P,) and (P, 3).
        """
        device = systems[0].positions.device
        system_of_atom: List[Tensor] = []
        atom_in_system: List[Tensor] = []
        species: List[Tensor] = []
        centres: List[Tensor] = []
        others: List[Tensor] = []
        vectors: List[Tensor] = []
        before = 0
        for number, system in enumerate(systems):
            n_atoms = system.types.shape[0]
            system_of_atom.append(torch.full((n_atoms,), number, dtype=torch.int64, device=device))
            atom_in_system.append(torch.arange(n_atoms, device=device))
            species.append(self.species_of_number[system.types.to(torch.int64)])
            found = system.get_neighbor_list(self.neighbours)
            centres.append(found.samples.column("first_atom").to(torch.int64) + before)
            others.append(found.samples.column("second_atom").to(torch.int64) + before)
            vectors.append(found.values.reshape(-1, 3).to(torch.float64))
            before += n_atoms
        return (
            torch.cat(system_of_atom),
            torch.cat(atom_in_system),
            torch.cat(species),
            torch.cat(centres),
            torch.cat(others),
            torch.cat(vectors),
        )

    def chosen_atoms(self, selected: Labels, system_of_atom: Tensor, atom_in_system: Tensor) -> Tensor:
        """1 for each selected atom and 0 for all others, shape (T,), float64."""
        samples = selected.values.to(torch.int64)
        width = int(atom_in_system.max().item()) + 1
        wanted = samples[:, 0] * width + samples[:, 1]
        return torch.isin(system_of_atom * width + atom_in_system, wanted).to(torch.float64)

    def tables(self, i: Tensor, j: Tensor, vectors: Tensor, n_atoms: int) -> Tuple[Tensor, List[int], Tensor]:
        """Neighbours (T, K) and vectors (T, K, 3) of all nodes, and the columns of each path.

        Neighbours within the shortest cut-off come first. An empty slot points at the node itself, outside every
        cut-off.
        """
        lengths = vectors.detach().pow(2).sum(dim=1).sqrt()
        beyond = torch.zeros(lengths.shape[0], dtype=torch.int64, device=lengths.device)
        for cutoff in self.cutoffs[:-1]:
            beyond = beyond + (lengths >= cutoff).to(torch.int64)
        order = torch.sort(i * len(self.cutoffs) + beyond, stable=True, dim=0)[1]
        i, j, vectors, beyond = i[order], j[order], vectors[order], beyond[order]
        widths: List[int] = []
        for path in range(len(self.cutoffs)):
            within = torch.bincount(i[beyond <= path], minlength=n_atoms)
            widths.append(max(int(within.max().item()), 1))
        counts = torch.bincount(i, minlength=n_atoms)
        column = torch.arange(i.shape[0], device=i.device) - (torch.cumsum(counts, 0) - counts)[i]
        table = torch.arange(n_atoms, device=i.device).unsqueeze(1).repeat(1, widths[-1])
        table[i, column] = j
        empty = torch.zeros(n_atoms, widths[-1], 3, dtype=torch.float64, device=i.device)
        empty[:, :, 0] = 2.0 * self.cutoffs[-1]
        return table, widths, torch.index_put(empty, [i, column], vectors)

    def sizes(self, species: Tensor, widths: List[int]) -> List[Tensor]:
        """Tensors whose lengths are the sizes that the graph takes."""
        counts = [int((species == number).sum().item()) for number in range(self.n_species)]
        lengths = [species.shape[0]] + widths[:-1] + counts
        return [torch.empty(length, dtype=torch.float64, device=species.device) for length in lengths]

    def answer(
        self,
        outputs: Dict[str, ModelOutput],
        energies: Tensor,
        forces: Tensor,
        system_of_atom: Tensor,
        atom_in_system: Tensor,
    ) -> Dict[str, TensorMap]:
        """The requested outputs, from energies (B, M) and the members' forces (M, T, 3)."""
        device = energies.device
        key = Labels(["_"], torch.tensor([[0]], device=device))
        samples = Labels(["system"], torch.arange(energies.shape[0], device=device).reshape(-1, 1))
        single = Labels(["energy"], torch.tensor([[0]], device=device))
        each = Labels(["energy"], torch.arange(energies.shape[1], device=device).reshape(-1, 1))
        nothing: List[Labels] = []
        answer: Dict[str, TensorMap] = {}
        if "energy" in outputs:
            mean = energies.mean(dim=1, keepdim=True)
            answer["energy"] = TensorMap(key, [TensorBlock(mean, samples, nothing, single)])
        if "energy_ensemble" in outputs:
            answer["energy_ensemble"] = TensorMap(key, [TensorBlock(energies, samples, nothing, each)])
        if "energy_uncertainty" in outputs:
            spread = energies.std(dim=1, unbiased=False, keepdim=True)
            answer["energy_uncertainty"] = TensorMap(key, [TensorBlock(spread, samples, nothing, single)])
        if "al-engine::force_deviation" in outputs:
            centred = forces - forces.mean(dim=0, keepdim=True)
            deviation = centred.pow(2).mean(dim=0).sum(dim=1, keepdim=True).sqrt()
            atoms = Labels(["system", "atom"], torch.stack([system_of_atom, atom_in_system], dim=1))
            named = Labels(["force_deviation"], torch.tensor([[0]], device=device))
            answer["al-engine::force_deviation"] = TensorMap(key, [TensorBlock(deviation, atoms, nothing, named)])
        return answer
