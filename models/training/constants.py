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
    return with_isolated_atoms(fitted, frames, isolated_atoms)


def with_isolated_atoms(
    constants: ModelConstants, frames: Sequence[LabelledFrame], isolated_atoms: Mapping[int, float] | None
) -> ModelConstants:
    """The constants with given energies of isolated atoms, and with a cohesion that is fitted to frames.

    Args:
        constants: The constants; if they have these E0s and a cohesion, they are returned as they are.
        frames: The training set.
        isolated_atoms: Energy of an isolated atom in eV, by atomic number, of each element of the frames. None: the
            model has no cohesion; a cohesion of `constants` becomes part of the E0s, which are fitted later.
    """
    if isolated_atoms is None:
        if not constants.cohesion:
            return constants
        pairs = zip(constants.reference_energies, constants.cohesion, strict=True)
        return replace(constants, reference_energies=tuple(e0 + bonded for e0, bonded in pairs), cohesion=())
    known = zip(constants.elements, constants.reference_energies, strict=True)
    alone = tuple(isolated_atoms.get(z, e0) for z, e0 in known)
    if constants.cohesion and alone == constants.reference_energies:
        return constants
    return replace(constants, reference_energies=alone, cohesion=_cohesion(frames, constants.elements, alone))


def _cohesion(
    frames: Sequence[LabelledFrame], elements: tuple[int, ...], alone: tuple[float, ...]
) -> tuple[float, ...]:
    """Energy of a bonded atom of each element minus that of an isolated one (`alone`), in eV, by least squares.

    The energies of atomization are distributed over all atoms equally, and the rest by least squares of minimum norm:
    where compositions do not determine the energy of an element, as in a campaign of one molecule, it is that of an
    average atom. Elements that do not occur in the frames get 0.
    """
    energy_of = dict(zip(elements, alone, strict=True))
    atomization = np.array([item.energy - sum(energy_of[z] for z in item.frame.numbers.tolist()) for item in frames])
    sizes, weights = np.array([len(item) for item in frames]), np.array([item.weight for item in frames])
    average = float((weights * sizes * atomization).sum() / (weights * sizes**2).sum())
    rest = energies_per_element(frames, atomization - average * sizes, elements)
    present = {z for item in frames for z in item.frame.numbers.tolist()}
    return tuple(average + more if z in present else 0.0 for z, more in zip(elements, rest.tolist(), strict=True))
