"""Reads files of `export_mace.py`, and refuses models that `models` cannot represent exactly."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from al_engine.errors import InputError
from al_engine.files.hdf5 import UNREADABLE
from al_engine.structures.frames import FloatArray
from models.interop.export_file import damaged, degrees, name_of, open_export, read_hyper_parameters

PACKAGE = "mace-torch"
RESIDUAL_BLOCK = "RealAgnosticResidualInteractionBlock"
SPECIES_BLOCK = "RealAgnosticInteractionBlock"
"""Interaction block without a skip connection: the default first layer of `mace_run_train`."""
KNOWN_BLOCKS = {
    "node_embedding": "LinearNodeEmbeddingBlock",
    "radial_embedding": "RadialEmbeddingBlock",
    "spherical_harmonics": "SphericalHarmonics",
    "atomic_energies_fn": "AtomicEnergiesBlock",
    "interactions": "ModuleList",
    "products": "ModuleList",
    "readouts": "ModuleList",
    "scale_shift": "ScaleShiftBlock",
    "pair_repulsion_fn": "ZBLBasis",
}
MAX_CORRELATION = 3


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MaceLayer(_Section):
    """An interaction block and the product basis after it; irreps as e3nn prints them."""

    interaction: str
    source_irreps: str
    edge_irreps: str
    message_irreps: str
    output_irreps: str
    mean_neighbours: float
    radial_network: str
    radial_widths: list[int]
    radial_gain: float | None
    product: str
    correlations: list[int]
    product_adds_skip: bool
    product_knows_species: bool
    accelerated: bool


class MaceReadout(_Section):
    """A readout block; `hidden_irreps` is None for a linear readout, `gain` is the factor on its SiLU."""

    block: str
    irreps: str
    hidden_irreps: str | None
    gain: float | None


class MaceHyperParameters(_Section):
    """The result of `export_mace.hyper_parameters`."""

    versions: dict[str, str]
    model: str
    blocks: dict[str, str]
    dtype: Literal["float32", "float64"]
    elements: list[int]
    heads: list[str]
    cutoff_ang: float
    radial_basis: str
    cutoff_function: str
    envelope_power: int
    cutoff_on_radial_basis: bool
    distance_transform: str | None
    harmonics: str
    harmonics_normalization: str
    layers: list[MaceLayer] = Field(min_length=1)
    readouts: list[MaceReadout]


@dataclass(frozen=True, slots=True, eq=False)
class MaceExport:
    """An exported mace-torch model: hyper-parameters and arrays.

    Attributes:
        where: File and group, for error messages.
        hyper: Hyper-parameters of the model.
        parameters: Learned weights by mace-torch's names.
        buffers: Constants by mace-torch's names.
    """

    where: str
    hyper: MaceHyperParameters
    parameters: dict[str, FloatArray] = field(repr=False)
    buffers: dict[str, FloatArray] = field(repr=False)

    def refuse(self, reason: str) -> InputError:
        """The error for a model that cannot be represented, to be raised by the caller."""
        return InputError(f"{self.where}: {reason}; only models that al-engine evaluates exactly are converted")


def read_mace_export(path: Path) -> MaceExport:
    """Read a file that `export_mace.py` wrote.

    Raises:
        InputError: If the file is missing, damaged, or was not written by `export_mace.py`.
    """
    with open_export(path) as file:
        return read_mace_group(file)


def read_mace_group(group: h5py.Group) -> MaceExport:
    """Read a group that `export_mace.export_model` wrote.

    Raises:
        InputError: If the group is damaged, or was not written by `export_mace.py`.
    """
    where = name_of(group)
    hyper = read_hyper_parameters(group, MaceHyperParameters, package=PACKAGE)
    try:
        parameters, buffers = (
            {name: np.asarray(data, dtype=np.float64) for name, data in group[kind].items()}
            for kind in ("parameters", "buffers")
        )
    except UNREADABLE as error:
        raise damaged(group, error, package=PACKAGE) from error
    for name, values in parameters.items():
        if not np.isfinite(values).all():
            raise InputError(f"{where}: {name} holds values that are not finite; export a model that has not diverged")
    return MaceExport(where=where, hyper=hyper, parameters=parameters, buffers=buffers)


def check_supported(export: MaceExport) -> None:
    """Refuse a model that the `mace` setting cannot represent exactly.

    Raises:
        InputError: If a property of the model is not supported; the message names the first.
    """
    for reason in _unsupported(export.hyper):
        raise export.refuse(reason)


def _unsupported(hyper: MaceHyperParameters) -> Iterator[str]:
    """Reasons why a model cannot be represented."""
    if hyper.model not in {"MACE", "ScaleShiftMACE"}:
        yield f"it is a {hyper.model}, not a MACE or ScaleShiftMACE"
    for name, block in hyper.blocks.items():
        if KNOWN_BLOCKS.get(name) != block:
            yield f"its block `{name}` ({block}) is unknown here"
    yield from _unsupported_geometry(hyper)
    for k, layer in enumerate(hyper.layers):
        yield from (f"layer {k}: {reason}" for reason in _unsupported_blocks(layer, k, first=hyper.layers[0]))
        yield from (f"layer {k}: {reason}" for reason in _unsupported_irreps(hyper, k))
    yield from _unsupported_readouts(hyper)


def _unsupported_geometry(hyper: MaceHyperParameters) -> Iterator[str]:
    radial = (hyper.radial_basis, hyper.cutoff_function)
    harmonics = degrees(hyper.harmonics)
    natural = harmonics is not None and harmonics == dict.fromkeys(range(len(harmonics)), 1)
    yield from _applicable(
        (
            radial != ("BesselBasis", "PolynomialCutoff"),
            f"its radial basis is {' x '.join(radial)}, not Bessel functions",
        ),
        (hyper.distance_transform is not None, f"its distances are transformed ({hyper.distance_transform})"),
        (
            not hyper.cutoff_on_radial_basis,
            "its cut-off acts on the messages' weights, not on the radial basis (`apply_cutoff=False`)",
        ),
        (not natural, f"its spherical harmonics are {hyper.harmonics}, not of natural parity (`use_so3`)"),
        (
            hyper.harmonics_normalization != "component",
            f"its spherical harmonics have normalization {hyper.harmonics_normalization}, not component",
        ),
    )


def _unsupported_blocks(layer: MaceLayer, k: int, *, first: MaceLayer) -> Iterator[str]:
    inner = layer.radial_widths[1:-1]
    order = max(layer.correlations, default=0)
    yield from _applicable(
        (
            layer.accelerated,
            "it is in the layout of cuEquivariance or OpenEquivariance; convert it to e3nn's with mace-torch first",
        ),
        (
            layer.interaction not in {RESIDUAL_BLOCK, RESIDUAL_BLOCK if k else SPECIES_BLOCK},
            f"its interaction is a {layer.interaction}, not a {RESIDUAL_BLOCK}",
        ),
        (
            layer.interaction == RESIDUAL_BLOCK and not layer.product_adds_skip,
            "its product basis leaves out the skip connection",
        ),
        (
            layer.radial_network != "FullyConnectedNet",
            f"its radial network is a {layer.radial_network}, not a FullyConnectedNet",
        ),
        (bool(inner) and layer.radial_gain is None, "its radial network's activation is not SiLU"),
        (inner != first.radial_widths[1:-1], f"its radial network has hidden layers {inner}, not those of layer 0"),
        (
            layer.product != "SymmetricContraction",
            f"its product basis is a {layer.product}, not a SymmetricContraction",
        ),
        (order > MAX_CORRELATION, f"its correlation order is {order}, above {MAX_CORRELATION}"),
    )


def _unsupported_irreps(hyper: MaceHyperParameters, k: int) -> Iterator[str]:
    layer, hidden = hyper.layers[k], degrees(hyper.layers[0].output_irreps) or {}
    n_channels, l_max = hidden.get(0, 0), len(degrees(hyper.harmonics) or {}) - 1
    output = degrees(layer.output_irreps) or {}
    l_out = len(output) - 1
    source = hidden if k else {0: n_channels}
    yield from _applicable(
        (
            not output or output != dict.fromkeys(range(l_out + 1), n_channels),
            (
                f"its features are {layer.output_irreps}, not the same number of channels in degrees 0, 1, .. "
                "of natural parity"
            ),
        ),
        (l_out > l_max, f"its features go to degree {l_out}, above the spherical harmonics' ({l_max})"),
        (
            0 < k < len(hyper.layers) - 1 and output != hidden,
            f"its features are {layer.output_irreps}, those of layer 0 are {hyper.layers[0].output_irreps}",
        ),
        (
            degrees(layer.source_irreps) != source,
            f"it takes {layer.source_irreps}, not the features of the layer before",
        ),
        (
            degrees(layer.edge_irreps) != degrees(layer.source_irreps),
            f"its messages are made of {layer.edge_irreps}, its features are {layer.source_irreps} (`edge_irreps`)",
        ),
        (
            degrees(layer.message_irreps) != dict.fromkeys(range(l_max + 1), n_channels),
            f"its messages are {layer.message_irreps}, not {n_channels} channels of each of the harmonics' degrees",
        ),
    )


def _unsupported_readouts(hyper: MaceHyperParameters) -> Iterator[str]:
    if len(hyper.readouts) not in {1, len(hyper.layers)}:
        yield f"it has {len(hyper.readouts)} readouts for {len(hyper.layers)} layers"
    for k, readout in enumerate(hyper.readouts):
        last = k == len(hyper.readouts) - 1
        hidden = readout.hidden_irreps
        yield from _applicable(
            (
                readout.block not in {"LinearReadoutBlock", "NonLinearReadoutBlock" if last else ""},
                f"readout {k} is a {readout.block}",
            ),
            (
                hidden is not None and set(degrees(hidden) or {}) != {0},
                f"readout {k} has hidden irreps {hidden}, not scalars",
            ),
            (hidden is not None and readout.gain is None, f"readout {k}'s activation is not SiLU"),
        )


def _applicable(*reasons: tuple[bool, str]) -> Iterator[str]:
    """The texts of the pairs (whether the reason applies, text) that apply."""
    return (text for applies, text in reasons if applies)
