"""The floor against a calculation by hand, and against PyTorch's counts in plain torch."""

import numpy as np
import pytest
import torch

from al_engine.config import ModelConfig, PathConfig
from al_engine.structures.frames import Frame
from contestants.counting import count_operations
from contestants.structures import Structure
from floor import floor_of, per_atom_floor
from models.graph.graph import AtomBatch, neighbour_graph
from models.ms_mace import MSMACE, ModelConstants

PATH = PathConfig(cutoff_ang=4.0, channels=2, l_max=0, radial_mlp=[])
TINY = {
    "kind": "mace",
    "layers": 1,
    "hidden_l_max": 0,
    "correlation": 1,
    "bessel_functions": 3,
    "readout_hidden": 5,
    "first_layer": "residual",
    "dtype": "float64",
}


def test_a_small_model_by_hand():
    floor = per_atom_floor(ModelConfig(short=PATH, **TINY), [7.0], elements=(1, 6, 8))
    geometry = 7 * 10 * (1 + 3)
    radial = 7 * 2 * 2 * (3 * 2)
    message = 7 * 3 * 2 * (1 + 2)
    maps = 2 * 2 * (2 * 2) * 4  # up, fuse, product's linear, skip of one species
    product = 3 * 3 * 1 * 2
    readout = 2 * 2 * (2 * 5 + 5)
    assert floor.flop == geometry + radial + message + maps + product + readout
    assert floor.bytes == 3 * 24 + 2 * 8 * 7 + 8 * 2 * (3 + 2)
    assert floor.launches == 3


@pytest.mark.parametrize("kind", ["ms-mace", "ms-nequip"])
def test_it_is_of_the_order_of_the_plain_path(kind):
    """Of the order of the matrix products in plain torch, with far less traffic, and proportional to the atoms."""
    short = PathConfig(cutoff_ang=4.0, channels=32, l_max=2, radial_mlp=[])
    config = ModelConfig(kind=kind, short=short, long=PathConfig(cutoff_ang=6.0, channels=8, l_max=1, radial_mlp=[]))
    grid = 2.0 * np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3)
    item = Structure(np.full(64, 6), grid, 8.0 * np.eye(3), np.ones(3, bool), np.array(0.0), np.zeros((64, 3)))
    frame = Frame(numbers=item.numbers, positions=grid, cell=item.cell, pbc=item.pbc)
    positions = torch.from_numpy(grid)
    model = MSMACE(config, ModelConstants((6,), (0.0,), 1.0, (30.0, 110.0)), seed=0).freeze()
    graph = neighbour_graph(AtomBatch.of([frame], [6]), positions, cutoffs=model.cutoffs)
    counted = count_operations(lambda: model.energy_and_forces(graph, positions), device=torch.device("cpu"))
    floor = floor_of(config, item)
    assert 0.1 * counted["flop"] < floor.flop < 1.5 * counted["flop"]  # fewer zeros, but sums and geometry too
    assert floor.bytes < 0.1 * counted["bytes"]
    double = Structure(
        np.full(128, 6),
        np.concatenate([grid, grid + np.array([8.0, 0.0, 0.0])]),
        np.diag([16.0, 8.0, 8.0]),
        item.pbc,
        item.energy,
        np.zeros((128, 3)),
    )
    assert floor_of(config, double).flop == pytest.approx(2 * floor.flop)
