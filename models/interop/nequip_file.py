"""Reads files of `export_nequip.py`, and refuses models that `models` cannot represent exactly."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field

from al_engine.errors import InputError
from al_engine.files.hdf5 import UNREADABLE
from al_engine.structures.frames import FloatArray
from models.interop.export_file import damaged, degrees, name_of, open_export, read_hyper_parameters
from models.layers.linear import SILU_GAIN

PACKAGE = "nequip"
BLOCKS = {
    "type_embed": "NodeTypeEmbed",
    "spharm": "SphericalHarmonicEdgeAttrs",
    "edge_norm": "EdgeLengthNormalizer",
    "bessel_encode": "BesselEdgeLengthEncoding",
    "factor": "ApplyFactor",
    "per_atom_energy_readout": "ScalarMLP",
    "per_type_energy_scale_shift": "PerTypeScaleShift",
    "total_energy_sum": "AtomwiseReduce",
}
"""Blocks of a model except its layers."""
GAIN_TOLERANCE = 1e-9


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class NequipLayer(_Part):
    """A `ConvNetLayer`: names of its blocks, irreps in e3nn's notation, couplings in the order of its weights."""

    nonlinearity: str
    gains: list[float | None]
    residual: bool
    features_in: str
    features_out: str
    self_connection: bool
    couplings: list[tuple[int, int, int]]
    coupling_factors: list[float]
    radial_activations: list[str]
    radial_widths: list[int] = Field(min_length=2)


class NequipHyperParameters(_Part):
    """Everything about a nequip model that is not a weight."""

    blocks: dict[str, str]
    dtype: Literal["float32", "float64"]
    type_names: list[str]
    graph_fields: list[str]
    cutoff_ang: float
    cutoff_per_edge_type: bool
    bessel_multiples: list[float]
    bessel_factor: float
    cutoff_function: str
    envelope_power: float
    harmonics: str
    harmonics_normalization: str
    layers: list[NequipLayer] = Field(min_length=1)
    readout_widths: list[int]


@dataclass(frozen=True, slots=True)
class NequipExport:
    """An exported nequip model: hyper-parameters and arrays.

    Attributes:
        where: File and group, for error messages.
        hyper: Hyper-parameters of the model.
        weights: Matrices (in, out) and constants by name, such as `layers/0/up/1o`: layer 0, degree 1.
    """

    where: str
    hyper: NequipHyperParameters
    weights: dict[str, FloatArray] = field(repr=False)

    def weight(self, name: str, *shape: int | None) -> FloatArray:
        """A weight or constant, given its shape; None stands for any length.

        Raises:
            InputError: If there is no array of that name and shape.
        """
        if name not in self.weights:
            raise self.refuse(f"{name} is missing")
        values = self.weights[name]
        if len(values.shape) != len(shape) or any(
            n not in {None, found} for n, found in zip(shape, values.shape, strict=True)
        ):
            expected = ", ".join("any" if n is None else str(n) for n in shape)
            raise self.refuse(f"{name} has shape {values.shape}, ({expected}) was expected")
        return values

    def refuse(self, reason: str) -> InputError:
        """The error for a model that cannot be represented, to be raised by the caller."""
        return InputError(f"{self.where}: {reason}; only models that al-engine evaluates exactly are converted")


def read_nequip_export(path: Path) -> NequipExport:
    """Read a file that `export_nequip.py` wrote.

    Raises:
        InputError: If the file is missing, damaged, or was not written by `export_nequip.py`.
    """
    with open_export(path) as file:
        return read_nequip_group(file)


def read_nequip_group(group: h5py.Group) -> NequipExport:
    """Read a group that `export_nequip.export_model` wrote.

    Raises:
        InputError: If the group is damaged, or was not written by `export_nequip.py`.
    """
    where = name_of(group)
    hyper = read_hyper_parameters(group, NequipHyperParameters, package=PACKAGE)
    weights: dict[str, FloatArray] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            weights[name] = np.asarray(item, dtype=np.float64)

    try:
        group.visititems(visit)
    except UNREADABLE as error:
        raise damaged(group, error, package=PACKAGE) from error
    for name, values in weights.items():
        if not np.isfinite(values).all():
            raise InputError(f"{where}: {name} holds values that are not finite; export a model that has not diverged")
    return NequipExport(where=where, hyper=hyper, weights=weights)


def check_supported(export: NequipExport) -> None:
    """Refuse a model that the `nequip` setting cannot represent exactly.

    Raises:
        InputError: If a property of the model is not supported; the message names the first.
    """
    for reason in _unsupported(export):
        raise export.refuse(reason)


def _unsupported(export: NequipExport) -> Iterator[str]:
    """Reasons why a model cannot be represented."""
    hyper = export.hyper
    expected = BLOCKS | {f"layer{k}_convnet": "ConvNetLayer" for k in range(len(hyper.layers))}
    for name in sorted(hyper.blocks.keys() | expected.keys()):
        if hyper.blocks.get(name) != expected.get(name):
            block = hyper.blocks.get(name, "missing")
            yield f"its block `{name}` is {block}, not {expected.get(name, 'a known block')}"
    if unknown := [name for name in hyper.type_names if name not in atomic_numbers]:
        yield f"its atom types {', '.join(unknown)} are no chemical symbols"
    if hyper.graph_fields:
        yield f"it depends on {', '.join(hyper.graph_fields)} of the structure"
    yield from _unsupported_edges(hyper)
    for k, layer in enumerate(hyper.layers):
        reasons = chain(_unsupported_features(export, k, layer), _unsupported_layer(export, k, layer))
        yield from (f"layer {k}: {reason}" for reason in reasons)
    if len(hyper.readout_widths) > 2:  # noqa: PLR2004  # in, out
        yield f"its readout has hidden layers {hyper.readout_widths[1:-1]}"
    if len(set(export.weight("scales", None).tolist())) > 1:
        yield "its energy scales differ between elements"


def _unsupported_edges(hyper: NequipHyperParameters) -> Iterator[str]:
    """Reasons in the radial basis and the spherical harmonics."""
    if hyper.cutoff_per_edge_type:
        yield "it has cut-offs per edge type"
    if hyper.bessel_multiples != list(range(1, len(hyper.bessel_multiples) + 1)):
        yield "the roots of its Bessel functions were trained"
    if hyper.cutoff_function != "PolynomialCutoff" or hyper.envelope_power != int(hyper.envelope_power):
        yield f"its cut-off function is {hyper.cutoff_function} of power {hyper.envelope_power:g}"
    harmonics = degrees(hyper.harmonics)
    if harmonics is None or harmonics != dict.fromkeys(range(len(harmonics)), 1):
        yield f"its spherical harmonics are {hyper.harmonics}"
    if hyper.harmonics_normalization != "component":
        yield f"its spherical harmonics have normalization {hyper.harmonics_normalization}"


def _unsupported_features(export: NequipExport, k: int, layer: NequipLayer) -> Iterator[str]:
    """Reasons in the input and output features of a layer."""
    layers = export.hyper.layers
    n_channels = export.weight("embedding", len(export.hyper.type_names), None).shape[1]
    n_hidden = len(degrees(layers[0].features_out) or {}) if len(layers) > 1 else 1
    for verb, irreps, n in (
        ("takes", layer.features_in, n_hidden if k else 1),
        ("returns", layer.features_out, n_hidden if k + 1 < len(layers) else 1),
    ):
        if n == 0 or degrees(irreps) != dict.fromkeys(range(n), n_channels):
            yield f"it {verb} {irreps}, not {n_channels} channels of each degree, of natural parity (`parity: false`)"
    if n_hidden > len(degrees(export.hyper.harmonics) or {}):
        yield "its features have degrees above the spherical harmonics'"


def _unsupported_layer(export: NequipExport, k: int, layer: NequipLayer) -> Iterator[str]:
    """Reasons in the operations of a layer."""
    if layer.nonlinearity != "Gate":
        yield f"its nonlinearity is {layer.nonlinearity}, not a gate"
    if any(gain is None or abs(gain - SILU_GAIN) > GAIN_TOLERANCE for gain in layer.gains):
        yield "its gate has activations that are not SiLU"
    if layer.residual:
        yield "it adds its input to its output (convnet_resnet)"
    if layer.self_connection != (k > 0):
        yield f"it has {'a' if layer.self_connection else 'no'} self-connection"
    if not set(layer.radial_activations) <= {"SiLU"}:
        yield f"its radial network has the activation {', '.join(layer.radial_activations)}"
    if layer.radial_widths[1:-1] != export.hyper.layers[0].radial_widths[1:-1]:
        yield f"its radial network has hidden layers {layer.radial_widths[1:-1]}, not those of layer 0"
    if export.weight(f"layers/{k}/neighbour_factors", None).size != 1:
        yield "its neighbour counts differ between elements"
