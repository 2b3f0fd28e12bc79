"""Lower bounds on arithmetic and memory traffic of energy and forces of this project's models, if all steps were fused.

    python benchmarks/floor.py

The bounds follow from a model's architecture and a structure's neighbour counts; nothing is timed.

- Floating-point operations: a forward and a backward pass. A product of two factors that depend on positions is
  computed three times (the product and two derivatives), a product with weights twice. Couplings with coefficient
  zero and weights of other species do not count.
- Bytes: the neighbour list and the features of every atom, once per layer and pass. Nothing is stored per pair or
  between the steps of a layer, as if caches were perfect.
- Launches: one per layer and pass, and one for the forces.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from al_engine.config import ModelConfig
from al_engine.structures.frames import Frame
from contestants.structures import Structure
from lineup import gated, read_model, single_scale
from models.graph.graph import AtomBatch, neighbour_graph
from models.layers.gated import GatedLayer
from models.layers.geometry import path_configs
from models.layers.interaction import InteractionLayer
from models.layers.linear import DegreeLinear, SpeciesLinear
from models.layers.message import PathMessage
from models.layers.product import ProductBasis
from models.ms_mace import MSMACE, ModelConstants
from models.native.product import terms_and_coefficients
from result_tables import number, table
from systems import benchmark_structures

BY_WEIGHTS, BY_POSITIONS = 2, 3
"""How often a product is computed in both passes: with weights, and between two factors that depend on positions."""
GEOMETRY_FLOP = 10
"""Operations per harmonic or basis function of a pair, with its derivative: an estimate."""
TERM_FLOP = 3
"""Operations per monomial of the product basis: a product with a shorter monomial, times its weight, added."""
INDEX_BYTES, POSITION_BYTES = 8, 24
H200 = {"flop_per_s": 67e12, "bytes_per_s": 4.8e12}
"""From NVIDIA's data sheet, not measured: float32 outside tensor cores, HBM3e memory."""


@dataclass(frozen=True, slots=True)
class Floor:
    """Floating-point operations, bytes and launches of one evaluation."""

    flop: float
    bytes: float
    launches: int

    def times(self, n_atoms: int) -> "Floor":
        """The floor of `n_atoms` atoms from the floor per atom; launches do not depend on the number of atoms."""
        return Floor(n_atoms * self.flop, n_atoms * self.bytes, self.launches)


def floor_of(config: ModelConfig, item: Structure) -> Floor:
    """The floor of energy and forces of a structure."""
    frame = Frame(numbers=item.numbers, positions=item.positions, cell=item.cell, pbc=item.pbc)
    elements = tuple(sorted(set(frame.numbers.tolist())))
    cutoffs = [path.cutoff_ang for path in path_configs(config)]
    positions = torch.from_numpy(np.array(frame.positions))
    atoms = AtomBatch.of([frame], elements)
    graph = neighbour_graph(atoms, positions, cutoffs=cutoffs)
    counts = graph.mean_neighbours(graph.to_nodes(positions), cutoffs)
    return per_atom_floor(config, counts, elements=elements).times(len(frame))


def per_atom_floor(config: ModelConfig, counts: Sequence[float], *, elements: Sequence[int]) -> Floor:
    """The floor per atom, from the mean number of neighbours within each path's cut-off."""
    constants = ModelConstants(tuple(elements), (0.0,) * len(elements), 1.0, tuple(max(n, 1.0) for n in counts))
    model = MSMACE(config, constants, seed=0)
    real = torch.finfo(model.dtype).bits // 8
    flop = sum(n * GEOMETRY_FLOP * geometry.n_features for n, geometry in zip(counts, model.geometries, strict=True))
    traffic, launches = 3.0 * POSITION_BYTES, 1  # positions twice, forces
    for tower, paths in zip(model.towers, model.tower_paths, strict=True):
        own = [counts[path] for path in paths]
        flop += BY_WEIGHTS * 2 * sum(weight.numel() for weight in tower.readouts.parameters())
        n_in = 1
        for layer in tower.layers:
            flop += sum(_message_flop(message, n) for message, n in zip(layer.messages, own, strict=True))
            flop += _layer_flop(layer, n_species=len(elements))
            n_out = layer.product.n_out if isinstance(layer, InteractionLayer) else (layer.l_out + 1) ** 2
            channels = tower.embedding.shape[1]
            traffic += 2 * INDEX_BYTES * own[-1]  # the longest list holds the others
            traffic += real * channels * (3 * n_in + 2 * n_out)  # h twice and its gradient; h' and its gradient
            launches += 2
            n_in = n_out
    return Floor(flop, traffic, launches)


def _message_flop(message: PathMessage, n_neighbours: float) -> float:
    """Operations per atom of a path of a layer."""
    channels = message.channels
    radial = BY_WEIGHTS * 2 * sum(weight.numel() for weight in message.radial.weights)
    weighted = sum((2 * l2 + 1) for _, l2, _ in message.couplings)
    summed = sum(2 * (2 * l1 + 1) * (2 * l2 + 1) for l1, l2, _ in message.couplings)
    pair = radial + BY_POSITIONS * channels * (weighted + summed)
    coupled = 2 * int(message.plain.clebsch_gordan.count_nonzero()) * channels if message.l_source else 0
    return n_neighbours * float(pair) + BY_WEIGHTS * (coupled + _linear_flop(message.up))


def _layer_flop(layer: InteractionLayer | GatedLayer, *, n_species: int) -> float:
    """Operations per atom of a layer, without its messages."""
    linear = sum(
        _linear_flop(module) / (n_species if isinstance(module, SpeciesLinear) else 1)
        for name, module in layer.named_modules()
        if isinstance(module, DegreeLinear) and not name.startswith("messages")
    )
    products = sum(_product_flop(module) for module in layer.modules() if isinstance(module, ProductBasis))
    return BY_WEIGHTS * linear + BY_POSITIONS * products


def _linear_flop(linear: DegreeLinear) -> int:
    return sum(2 * size * weight.numel() for size, weight in zip(linear.sizes, linear.weights, strict=True))


def _product_flop(product: ProductBasis) -> int:
    terms, _ = terms_and_coefficients(product.l_max, product.l_out, product.correlation)
    return TERM_FLOP * len(terms) * product.channels


def main() -> None:
    """Print the floors of the models that `forces.py` times."""
    model = read_model(Path(__file__).resolve().parent / "model.yaml")
    models = {
        "ours": model,
        "ours_single_r10": ModelConfig.model_validate(single_scale(model, 10.0)),
        "ours_single_r5": ModelConfig.model_validate(single_scale(model, 5.0)),
        "ours_nequip": ModelConfig.model_validate(gated(model)),
    }
    structures = benchmark_structures()
    rows = []
    for system in ("cluster_120", "bulk_520"):
        for name, config in models.items():
            found = asdict(floor_of(config, structures[system]))
            microseconds = [1e6 * found[kind] / H200[f"{kind}_per_s"] for kind in ("flop", "bytes")]
            amounts = (found["flop"] / 1e9, found["bytes"] / 2**20, found["launches"])
            rows.append([f"{system}: {name}", *map(number, [*amounts, *microseconds])])
    head = ["", "GFLOP", "MiB", "launches", "H200: FLOP µs", "bytes µs"]
    print(table(head, rows))
    rates = f"{H200['flop_per_s'] / 1e12:.0f} TFLOP/s and {H200['bytes_per_s'] / 1e12:.1f} TB/s"
    print(f"\nH200: {rates}, from its data sheet, not measured.")


if __name__ == "__main__":
    main()
