"""Conversion of a nequip model to a member that is the same function of the atoms, to rounding.

Supported is `NequIPGNNModel` of nequip 0.19 with `parity: false`, exported by `export_nequip.py`. With that setting it
keeps only natural parity, as `models` does. A model that `models` cannot represent exactly is refused with the reason.

Both codes evaluate the same equations (Batzner et al., NequIP, Nat. Commun. 13, 2453 (2022)) and differ in conventions:

- Constant factors (fan-ins, mean neighbours, the gain of the radial basis) are part of the weights here.
- Couplings of a message are in another order.
- In nequip the self-connection is linear in the type embedding, W_Z = Σ_k embedding_{Z,k} W_k; here W_Z is free.

Remaining differences: here all degrees and the embedding have the same number of channels, all elements the same energy
scale, all layers the same widths of the radial network, and the readout is linear.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from ase.data import atomic_numbers

from al_engine.config import Dtype, ModelConfig, PathConfig
from al_engine.structures.frames import FloatArray
from models.interop.export_file import degrees
from models.interop.nequip_file import NequipExport, check_supported
from models.ms_mace import MSMACE, ModelConstants
from models.storage.weights import TrainedMember


def convert_nequip(export: NequipExport, *, dtype: Dtype | None = None) -> TrainedMember:
    """Convert an export to a member.

    Args:
        export: From `read_nequip_export`.
        dtype: Precision to evaluate it in; None for the model's own.

    Returns:
        A member without training history.

    Raises:
        InputError: If `models` cannot represent a property of the model, which the message names.
    """
    check_supported(export)
    hyper = export.hyper
    numbers = np.array([atomic_numbers[name] for name in hyper.type_names])
    by_number = np.argsort(numbers)  # species ascend here
    embedding = export.weight("embedding", len(numbers), None)[by_number]
    config = ModelConfig(
        kind="nequip",
        short=PathConfig(
            cutoff_ang=hyper.cutoff_ang,
            channels=embedding.shape[1],
            l_max=len(degrees(hyper.harmonics) or {}) - 1,
            radial_mlp=hyper.layers[0].radial_widths[1:-1],
        ),
        layers=len(hyper.layers),
        hidden_l_max=len(degrees(hyper.layers[0].features_out) or {}) - 1,
        bessel_functions=len(hyper.bessel_multiples),
        envelope_power=int(hyper.envelope_power),
        dtype=dtype or hyper.dtype,
    )
    constants = ModelConstants(
        elements=tuple(numbers[by_number].tolist()),
        reference_energies=tuple(_per_element(export, "shifts", default=0.0)[by_number].tolist()),
        scale=float(_per_element(export, "scales", default=1.0)[0]),
        mean_neighbours=(float(export.weight("layers/0/neighbour_factors", 1)[0]) ** -2,),
    )
    model = MSMACE(config, constants, seed=0)
    (tower,) = model.towers
    arrays = {"embedding": embedding, "readouts.last.weights.0": export.weight("readout/0", embedding.shape[1], 1)}
    for k, layer in enumerate(tower.layers):
        (message,) = layer.messages
        for name, values in _layer(export, k, couplings=message.couplings, embedding=embedding).items():
            arrays[f"layers.{k}.{name}"] = values
    for name, weight in tower.named_parameters():
        if tuple(weight.shape) != arrays[name].shape:
            raise export.refuse(f"its {name} has shape {arrays[name].shape}, {tuple(weight.shape)} was expected")
    tower.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})
    return TrainedMember(model=model)


def _layer(
    export: NequipExport, k: int, *, couplings: Sequence[tuple[int, int, int]], embedding: FloatArray
) -> dict[str, FloatArray]:
    """Weights of layer k, whose message has these couplings (l1, l2, l3)."""
    layer, C = export.hyper.layers[k], embedding.shape[1]
    theirs, widths = layer.couplings, layer.radial_widths
    if sorted(theirs) != sorted(couplings):
        raise export.refuse(f"layer {k}: its couplings are {theirs}, {list(couplings)} were expected")
    n = len(theirs)
    if len(layer.coupling_factors) != n or widths[-1] != n * C:
        raise export.refuse(f"layer {k}: its radial network has widths {widths}, {n} couplings were expected")
    order = [theirs.index(coupling) for coupling in couplings]

    def own(name: str, *shape: int | None) -> FloatArray:
        return export.weight(f"layers/{k}/{name}", *shape)

    arrays = {
        f"messages.0.radial.weights.{step}": own(f"radial/{step}", *sizes)
        for step, sizes in enumerate(pairwise(widths))
    }
    first, last = "messages.0.radial.weights.0", f"messages.0.radial.weights.{len(widths) - 2}"
    # nequip's basis is `bessel_factor` cutoff / π sin(nπ r / cutoff) / r, ours sqrt(2 / cutoff) sin(nπ r / cutoff) / r
    cutoff = export.hyper.cutoff_ang
    arrays[first] = arrays[first] * (export.hyper.bessel_factor * cutoff / math.pi / math.sqrt(2.0 / cutoff))
    degree_factors = np.array([(2 * l3 + 1) ** -0.5 for _, _, l3 in theirs])  # of our Clebsch-Gordan coefficients
    factors = degree_factors * layer.coupling_factors
    by_coupling = arrays[last].reshape(-1, n, C) * factors[:, None]
    arrays[last] = by_coupling[:, order].reshape(arrays[last].shape)
    for degree in range(max(l2 for _, l2, _ in theirs) + 1):
        arrays[f"messages.0.up.weights.{degree}"] = own(f"up/{_irrep(degree)}", C, C)
    for degree in range(max(l3 for _, _, l3 in theirs) + 1):
        rows = [coupling for coupling in theirs if coupling[2] == degree]
        ordered = [rows.index(coupling) for coupling in couplings if coupling[2] == degree]
        fuse = own(f"fuse/{_irrep(degree)}", len(rows) * C, None)
        arrays[f"fuse.weights.{degree}"] = (
            fuse.reshape(len(rows), C, -1)[ordered].reshape(fuse.shape) * own("neighbour_factors", 1)[0]
        )
        if k > 0:
            by_species = np.einsum("sd,cdo->sco", embedding, own(f"skip/{_irrep(degree)}", C, C, None))
            arrays[f"skip.weights.{degree}"] = by_species.reshape(-1, by_species.shape[2])
    return arrays


def _irrep(degree: int) -> str:
    """Name of a degree of natural parity in e3nn's notation."""
    return f"{degree}{'eo'[degree % 2]}"


def _per_element(export: NequipExport, name: str, *, default: float) -> FloatArray:
    """A constant for each element; the export holds an array over elements, a number, or nothing (the default)."""
    n_elements = len(export.hyper.type_names)
    values = export.weight(name, None)
    if values.size > 1:
        return export.weight(name, n_elements)
    return np.broadcast_to(values if values.size else np.array([default]), n_elements)
