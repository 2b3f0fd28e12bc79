"""A nequip model as a member: the same function of the atoms, to rounding.

    python -m models.convert_nequip a.h5 b.h5 --to committee.h5

makes a committee, for `models.load_committee`, of files that `export_nequip.py` wrote. What is converted is
`NequIPGNNModel` of nequip 0.19 with `parity: false`, which keeps natural parity only, as everything here does; anything
that `models` does not represent exactly is refused by name.

Both codes evaluate the same equations (Batzner et al., NequIP (2022)), so that conversion is a matter of conventions:

- Constant factors (fan-ins, mean neighbours, the gain of the radial basis) are part of the weights here.
- Couplings of a message are in another order.
- The self-connection is linear in the type embedding there, W_Z = Σ_k embedding_{Z,k} W_k; here W_Z is free.

What stays different: here there is one number of channels for all degrees and for the embedding, one energy scale for
all elements, one kind of radial network for all layers, and the readout is linear.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from ase.data import atomic_numbers

from al_engine.config import ModelConfig, PathConfig
from al_engine.errors import AlEngineError, ExitStatus, InputError
from al_engine.frames import FloatArray
from al_engine.parts import in_memory_hdf5
from models.mace_file import degrees
from models.ms_mace import MSMACE, ModelConstants
from models.nequip_file import NequipExport, check_supported, read_nequip_export
from models.weights import TrainedMember, write_member

Dtype = Literal["float32", "float64"]


def convert_nequip(export: NequipExport, *, dtype: Dtype | None = None) -> TrainedMember:
    """The same model with our weights.

    Args:
        export: From `read_nequip_export`.
        dtype: Precision to evaluate it in; None for the model's own.

    Returns:
        A member without training history.

    Raises:
        InputError: If the model has something that is not represented here, naming it.
    """
    check_supported(export)
    hyper = export.hyper
    numbers = np.array([atomic_numbers[name] for name in hyper.type_names])
    by_number = np.argsort(numbers)  # species ascend here
    config = ModelConfig(
        kind="nequip",
        short=PathConfig(
            cutoff_ang=hyper.cutoff_ang,
            channels=export.weight("embedding").shape[1],
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
        reference_energies=tuple(_per_element(export.weight("shifts"), len(numbers), default=0.0)[by_number].tolist()),
        scale=float(_per_element(export.weight("scales"), len(numbers), default=1.0)[0]),
        mean_neighbours=(float(export.weight("layers/0/neighbour_factors")[0]) ** -2,),
    )
    model = MSMACE(config, constants, seed=0)
    (tower,) = model.towers
    embedding = export.weight("embedding")[by_number]
    arrays = {"embedding": embedding, "readouts.last.weights.0": export.weight("readout/0")}
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
    theirs = export.hyper.layers[k].couplings
    if sorted(theirs) != sorted(couplings):
        raise export.refuse(f"layer {k}: its couplings are {theirs}, {list(couplings)} were expected")
    order = [theirs.index(coupling) for coupling in couplings]
    C = embedding.shape[1]

    def own(name: str) -> FloatArray:
        return export.weight(f"layers/{k}/{name}")

    n_radial = len(export.hyper.layers[k].radial_widths) - 1
    arrays = {f"messages.0.radial.weights.{step}": own(f"radial/{step}") for step in range(n_radial)}
    first, last = "messages.0.radial.weights.0", f"messages.0.radial.weights.{n_radial - 1}"
    # the basis is `bessel_factor` cutoff / π sin(nπ r / cutoff) / r there, sqrt(2 / cutoff) sin(nπ r / cutoff) / r here
    cutoff = export.hyper.cutoff_ang
    arrays[first] = arrays[first] * (export.hyper.bessel_factor * cutoff / math.pi / math.sqrt(2.0 / cutoff))
    degree_factors = np.array([(2 * l3 + 1) ** -0.5 for _, _, l3 in theirs])  # of our Clebsch-Gordan coefficients
    factors = degree_factors * export.hyper.layers[k].coupling_factors
    by_coupling = arrays[last].reshape(-1, len(theirs), C) * factors[:, None]
    arrays[last] = by_coupling[:, order].reshape(arrays[last].shape)
    for degree in range(max(l2 for _, l2, _ in theirs) + 1):
        arrays[f"messages.0.up.weights.{degree}"] = own(f"up/{_irrep(degree)}")
    for degree in range(max(l3 for _, _, l3 in theirs) + 1):
        rows = [coupling for coupling in theirs if coupling[2] == degree]
        ordered = [rows.index(coupling) for coupling in couplings if coupling[2] == degree]
        fuse = own(f"fuse/{_irrep(degree)}")
        arrays[f"fuse.weights.{degree}"] = (
            fuse.reshape(len(rows), C, -1)[ordered].reshape(fuse.shape) * own("neighbour_factors")[0]
        )
        if k > 0:
            by_species = np.einsum("sd,cdo->sco", embedding, own(f"skip/{_irrep(degree)}"))
            arrays[f"skip.weights.{degree}"] = by_species.reshape(-1, by_species.shape[2])
    return arrays


def _irrep(degree: int) -> str:
    """Name of a degree of natural parity in e3nn's notation."""
    return f"{degree}{'eo'[degree % 2]}"


def _per_element(values: FloatArray, n_elements: int, *, default: float) -> FloatArray:
    """A constant for each element, given for each, for all, or not at all."""
    return np.broadcast_to(values if values.size else np.array([default]), n_elements)


def write_committee(sources: Sequence[Path], target: Path, *, dtype: Dtype | None = None) -> None:
    """Convert exported models into one file that `load_committee` reads; members keep their order.

    Args:
        sources: Files that `export_nequip.py` wrote, one per member.
        target: HDF5 file to write.
        dtype: Precision to evaluate them in; None for each model's own.

    Raises:
        InputError: If a model can't be converted, or elements or cut-offs differ.
        ResumableError: If the target can't be written.
    """
    members = [convert_nequip(read_nequip_export(path), dtype=dtype) for path in sources]
    for (path, member), (other_path, other) in pairwise(zip(sources, members, strict=True)):
        kinds = [(each.model.constants.elements, each.model.cutoffs) for each in (member, other)]
        if kinds[0] != kinds[1]:
            raise InputError(
                f"{path} and {other_path} have elements and cut-offs {kinds[0]} and {kinds[1]}; a committee must share "
                "them, so convert each to a file of its own"
            )
    with in_memory_hdf5(target) as file:
        for k, member in enumerate(members):
            write_member(file.create_group(f"member{k}"), member)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m models.convert_nequip", description="nequip models as a committee")
    parser.add_argument("sources", nargs="+", type=Path, help="files that export_nequip.py wrote, one per member")
    parser.add_argument("--to", required=True, type=Path, help="HDF5 file to write, for load_committee")
    parser.add_argument(
        "--dtype", choices=["float32", "float64"], help="precision to evaluate in; default: the model's"
    )
    options = parser.parse_args(arguments)
    try:
        write_committee(options.sources, options.to, dtype=options.dtype)
    except AlEngineError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return ExitStatus.DONE


if __name__ == "__main__":
    sys.exit(main())
