"""Acceleration of a model: it uses the CPU kernels if their forces agree with those of plain torch."""

import warnings

import numpy as np
import torch

from al_engine.structures.frames import FloatArray, Frame
from models.graph.graph import AtomBatch, neighbour_graph
from models.layers.kernels import use_kernels
from models.layers.operators import use_plain
from models.ms_mace import MSMACE
from models.native.build import KernelError

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest accepted difference of probe forces, relative to the largest force."""
ROUNDINGS = 10.0
"""Largest accepted difference of probe forces, in units of the rounding error of plain torch. In a random network, huge
terms may cancel in a force, so that rounding alone exceeds `TOLERANCES`."""
PROBE_SPACING_ANG = 1.5
"""Spacing of the grid of atoms on which forces are compared, Å."""


def accelerate(model: MSMACE) -> bool:
    """Use the kernels of `models.native` in a model, if they can be compiled and agree with plain torch.

    Otherwise the model uses plain torch, and a RuntimeWarning gives the reason.

    Args:
        model: The model, which is changed in place; a model that is not on a CPU stays as it is.

    Returns:
        Whether the model uses kernels now.
    """
    if any(weight.device.type != "cpu" for weight in model.parameters()):
        return False
    expected = _probe_forces(model)
    try:
        use_kernels(model)
        _compare(model, expected)
    except KernelError as error:
        # Python shows equal warnings once, so a committee gives a single warning
        warnings.warn(f"the fast CPU kernels are not used: {error}", RuntimeWarning, stacklevel=2)
        use_plain(model)
        return False
    return True


def _compare(model: MSMACE, expected: FloatArray) -> None:
    """Compare the probe forces (N, 3) of a model that uses kernels with those of plain torch.

    Raises:
        KernelError: If they differ by more than rounding.
    """
    largest = max(np.abs(expected).max(), 1e-12)
    difference = np.abs(_probe_forces(model) - expected).max() / largest
    if not (difference <= TOLERANCES[model.dtype] or difference <= ROUNDINGS * _rounding(model, expected) / largest):
        raise KernelError(f"their forces differ from plain torch by {difference:.1e} of the largest force")


def _rounding(model: MSMACE, forces: FloatArray) -> float:
    """Largest difference of probe forces (N, 3) of plain torch from those in float64, in the network's units."""
    double = MSMACE(model.config.model_copy(update={"dtype": "float64"}), model.constants, seed=0)
    double.load_state_dict(model.state_dict())
    return float(np.abs(_probe_forces(double) - forces).max())


def _probe_forces(model: MSMACE) -> FloatArray:
    """Forces (N, 3) of the network, in its units, on a small cluster of all elements: a grid with noise."""
    elements = model.constants.elements
    rng = np.random.default_rng(0)
    side = np.arange(int(np.ceil(max(8, 2 * len(elements)) ** (1 / 3))))
    grid = PROBE_SPACING_ANG * np.stack(np.meshgrid(side, side, side), axis=-1).reshape(-1, 3)
    frame = Frame(numbers=np.resize(elements, len(grid)), positions=grid + rng.uniform(-0.2, 0.2, grid.shape))
    positions = torch.tensor(frame.positions)
    graph = neighbour_graph(AtomBatch.of([frame], elements), positions, cutoffs=model.cutoffs)
    geometry = model.geometry(graph, graph.vectors(graph.to_nodes(positions)))
    _, (gradients,) = model.network_gradients(graph, geometry)
    forces: FloatArray = graph.forces(gradients).numpy()
    return forces
