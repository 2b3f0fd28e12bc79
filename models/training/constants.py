"""Constants fixed from the training data before training: E0s, scale, mean neighbour counts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from al_engine.config import ModelConfig
from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray, LabelledFrame
from models.graph.graph import AtomBatch, neighbour_graph
from models.layers.geometry import path_configs
from models.ms_mace import ModelConstants

MAX_NEIGHBOUR_FRAMES = 200
"""Number of frames, evenly spread over the set, from which mean neighbour counts are taken."""


def energies_per_element(frames: Sequence[LabelledFrame], energies: FloatArray, elements: Sequence[int]) -> FloatArray:
    """Energy per atom of each element in eV, shape (S,), by least squares to the energies (F,) of frames in eV.

    The squares have the weights of the frames in the training loss.
    Where the compositions do not determine these energies (for frames of one molecule only a sum is known) the solution
    of minimum norm is returned; for a single composition it reproduces the mean energy.
    """
    counts = np.array([[np.count_nonzero(item.frame.numbers == z) for z in elements] for item in frames], dtype=float)
    root = np.sqrt([item.weight for item in frames])
    solution: FloatArray = np.linalg.lstsq(counts * root[:, None], energies * root, rcond=1e-8)[0]
    return solution


def constants_from_data(
    frames: Sequence[LabelledFrame], config: ModelConfig, *, isolated_atoms: Mapping[int, float] | None = None
) -> ModelConstants:
    """Constants of a model that will be trained on these frames.

    Args:
        frames: The frames.
        config: The architecture.
        isolated_atoms: As in `with_isolated_atoms`.

    Raises:
        InputError: If there are no frames, or the RMS of their forces is zero or not finite.
    """
    if not frames:
        raise InputError("there are no training frames; label frames first")
    elements = tuple(sorted({int(z) for item in frames for z in item.frame.numbers}))
    scale = float(np.sqrt(np.mean(np.concatenate([item.forces for item in frames]) ** 2)))
    if not (np.isfinite(scale) and scale > 0.0):
        raise InputError(f"the training forces have a root mean square of {scale} eV/Å; check the units of the labels")
    sample = [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, MAX_NEIGHBOUR_FRAMES).astype(int))]
    energies = np.array([item.energy for item in frames])
    cutoffs = [path.cutoff_ang for path in path_configs(config)]
    atoms = AtomBatch.of([item.frame for item in sample], elements)
    positions = torch.from_numpy(np.concatenate([item.frame.positions for item in sample]))
    graph = neighbour_graph(atoms, positions, cutoffs=cutoffs)
    counts = graph.mean_neighbours(graph.to_nodes(positions), cutoffs)
    fitted = ModelConstants(
        elements=elements,
        reference_energies=tuple(energies_per_element(frames, energies, elements).tolist()),
        scale=scale,
        mean_neighbours=tuple(max(count, 1.0) for count in counts),
    )
    return with_isolated_atoms(fitted, isolated_atoms)


def with_isolated_atoms(constants: ModelConstants, isolated_atoms: Mapping[int, float] | None) -> ModelConstants:
    """The constants with given energies of isolated atoms and unchanged energies of bonded atoms.

    Args:
        constants: The constants.
        isolated_atoms: Energy of an isolated atom in eV, by atomic number. Elements that are not in it keep their E0.
            None: the E0s stay as they are.
    """
    if isolated_atoms is None:
        return constants
    cohesion = constants.cohesion or (0.0,) * len(constants.elements)
    bonded = [e0 + energy for e0, energy in zip(constants.reference_energies, cohesion, strict=True)]
    alone = [isolated_atoms.get(z, e0) for z, e0 in zip(constants.elements, constants.reference_energies, strict=True)]
    return replace(
        constants,
        reference_energies=tuple(alone),
        cohesion=tuple(a - b for a, b in zip(bonded, alone, strict=True)),
    )
