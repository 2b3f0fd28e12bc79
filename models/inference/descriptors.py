"""Descriptors of atoms: the invariant features of a trained model."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from al_engine.protocols import Progress, silent
from al_engine.structures.frames import FloatArray, Frame
from models.graph.graph import AtomBatch, neighbour_graph
from models.inference.batches import batches
from models.ms_mace import MSMACE

"""Largest number of atoms in a batch, to bound memory; a larger frame is evaluated as a batch by itself."""


def atom_descriptors(model: MSMACE, frames: Sequence[Frame], *, progress: Progress = silent) -> Iterator[FloatArray]:
    """Invariant node features after each layer, concatenated.

    The readouts compute the energy of an atom from these features. The features are invariant under translation,
    rotation and reflection of the frame; a permutation of the atoms permutes the rows. They depend on atoms up to
    `layers` times the longest cut-off away.

    Args:
        model: The model, on any device.
        frames: F frames.
        progress: Called with the number of finished frames.

    Yields:
        An array (N, D) for each frame, without a unit; D is the number of channels times the number of layers (of both
        towers, for `fusion: energy`).

    Raises:
        InputError: If a frame has an element that the model does not know.
    """
    done = 0
    for batch in batches(frames):
        atoms = AtomBatch.of(batch, model.constants.elements, device=model.device)
        positions = torch.from_numpy(np.concatenate([frame.positions for frame in batch])).to(model.device)
        with torch.no_grad():
            graph = neighbour_graph(atoms, positions, cutoffs=model.cutoffs)
            vectors = graph.vectors(graph.to_nodes(positions))
            features = model.invariant_features(graph, model.edge_features(vectors, graph.columns))
        by_atom = graph.to_atoms(features).double().cpu().numpy()
        yield from np.split(by_atom, np.cumsum(atoms.sizes)[:-1])
        done += len(batch)
        progress(done, len(frames))
