"""Switch a model to the CPU kernels, after seeing that they give what the plain path gives."""

import logging

import numpy as np
import torch

from al_engine.frames import Frame
from models.geometry import PathGeometry
from models.graph import AtomBatch, neighbour_graph
from models.message import PathMessage
from models.ms_mace import MSMACE
from models.native.build import KernelError
from models.product import ProductBasis

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest difference of probe forces, relative to the largest force."""

_log = logging.getLogger(__name__)


def accelerate(model: MSMACE) -> bool:
    """Use the kernels of `models.native` if they can be had and agree with the plain path; say why if not.

    Args:
        model: A model on a CPU; anything else is left alone.

    Returns:
        Whether the model uses kernels now.
    """
    if any(weight.device.type != "cpu" for weight in model.parameters()):
        return False
    modules = [module for module in model.modules() if isinstance(module, PathGeometry | PathMessage | ProductBasis)]
    expected = _probe(model)
    try:
        for module in modules:
            module.use_kernel()
        difference = float(np.abs(_probe(model) - expected).max() / max(np.abs(expected).max(), 1e-12))
        if not difference < TOLERANCES[model.dtype]:
            raise KernelError(f"forces differ from the plain path's by {difference:.1e} of the largest")
    except KernelError as error:
        for module in modules:
            module.kernel = None
        _log.warning("the fast CPU kernels are not used: %s", error)
        return False
    return True


def _probe(model: MSMACE) -> np.ndarray:
    """Forces on a small cluster of all elements, those in a crystal-like grid with noise."""
    elements = model.constants.elements
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(3) * 1.5] * 3), axis=-1).reshape(-1, 3)[: max(8, 2 * len(elements))]
    frame = Frame(numbers=np.resize(elements, len(grid)), positions=grid + rng.uniform(-0.2, 0.2, grid.shape))
    atoms = AtomBatch.of([frame], elements)
    positions = torch.tensor(frame.positions)
    graph = neighbour_graph(atoms, positions, cutoffs=model.cutoffs)
    return model.energy_and_forces(graph, positions)[1].numpy()
