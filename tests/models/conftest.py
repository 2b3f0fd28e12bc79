import numpy as np
import pytest
import torch

from al_engine.config import ModelConfig, PathConfig
from al_engine.structures.frames import Frame
from models.graph.graph import AtomBatch, neighbour_graph
from models.ms_mace import MSMACE, ModelConstants

KINDS = {
    "mace": {"kind": "mace"},
    "message": {},
    "energy": {"fusion": "energy"},
    "zbl": {"kind": "mace", "zbl": True},
    "nequip": {"kind": "nequip"},
    "ms-nequip": {"kind": "ms-nequip", "zbl": True},
    "ms-nequip-energy": {"kind": "ms-nequip", "fusion": "energy"},
}
"""The model family: settings that differ from MS-MACE with fusion of messages."""

torch.set_num_threads(1)


def _tiny_config(kind="message", **changes):
    """A small double-precision model, one of `KINDS`."""
    values = {
        "short": PathConfig(cutoff_ang=3.0, channels=4, l_max=2, radial_mlp=[8]),
        "hidden_l_max": 1,
        "bessel_functions": 5,
        "dtype": "float64",
    } | KINDS[kind]
    name = values.get("kind", "ms-mace")
    if name.startswith("ms-"):
        values["long"] = PathConfig(cutoff_ang=5.0, channels=3, l_max=1, radial_mlp=[])
    if name.endswith("mace"):
        values["readout_hidden"] = 4
    return ModelConfig(**(values | changes))


def _tiny_model(config, *, seed=3):
    """A frozen model with random weights and constants with unequal entries."""
    counts = (4.0,) if config.long is None else (4.0, 9.0)
    constants = ModelConstants((1, 6, 8), (-11.0, -52.0, -107.0), 0.02, counts)
    return MSMACE(config, constants, seed=seed).freeze()


def _random_cluster(n_atoms=9, *, seed=0, side=4.5, closest=0.9):
    """A cluster of H, C and O with no pair closer than `closest` Å."""
    rng = np.random.default_rng(seed)
    positions = [rng.uniform(0, side, 3)]
    while len(positions) < n_atoms:
        trial = rng.uniform(0, side, 3)
        if min(np.linalg.norm(trial - p) for p in positions) > closest:
            positions.append(trial)
    return Frame(numbers=rng.choice([1, 6, 8], n_atoms), positions=np.array(positions))


def _graph_of(model, *frames, skin=0.0):
    """Graph and positions (T, 3) in Å of frames."""
    atoms = AtomBatch.of(frames, model.constants.elements)
    positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames]))
    return neighbour_graph(atoms, positions, cutoffs=model.cutoffs, skin=skin), positions


def _evaluate(model, frame):
    """Energy in eV and forces (N, 3) in eV/Å of a frame."""
    energies, forces = model.energy_and_forces(*_graph_of(model, frame))
    return float(energies), forces.numpy()


def _helper(function):
    """A fixture that returns the function, so that tests need not import it."""
    return pytest.fixture(name=function.__name__.strip("_"), scope="session")(lambda: function)


tiny_config, tiny_model, random_cluster = _helper(_tiny_config), _helper(_tiny_model), _helper(_random_cluster)
graph_of, evaluate = _helper(_graph_of), _helper(_evaluate)


@pytest.fixture(params=KINDS)
def config(request):
    return _tiny_config(request.param)


@pytest.fixture
def model(config):
    return _tiny_model(config)
