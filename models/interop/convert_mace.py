"""Conversion of a mace-torch model to a member that is the same function of the atoms, to rounding.

Supported are ScaleShiftMACE and MACE with residual interaction blocks, or with the first block that `mace_run_train`
uses by default, exported by `export_mace.py`. A model that `models` cannot represent exactly is refused, with the
reason.

Both codes evaluate the same equations (Batatia et al., MACE (2022)) and differ in conventions:

- e3nn divides weights by sqrt(fan-in) when they are used, and scales SiLU to unit second moment. Here both factors are
  part of the weights, and so is the mean number of neighbours.
- Couplings of a message are in another order, and couplings of the product basis are another basis of the same
  polynomials.
- Here vectors point from an atom to its neighbours, in mace-torch from the neighbours to the atom: features of odd
  degree change sign, energies do not.
- In mace-torch the energy of an isolated atom is the sum of E0 and the network's energy of this atom. Here the latter
  is subtracted, so E0 alone is the energy of the isolated atom.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch

from al_engine.config import Dtype, ModelConfig, PathConfig
from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray
from models.graph.couplings import monomials, symmetric_couplings
from models.interop.export_file import degrees
from models.interop.mace_file import SPECIES_BLOCK, MaceExport, MaceLayer, check_supported
from models.layers.repulsion import SCREENING, SCREENING_EXPONENT, SCREENING_LENGTH_ANG
from models.ms_mace import MSMACE, ModelConstants
from models.storage.weights import TrainedMember

BASIS_TOLERANCE = 1e-5
"""Largest relative part of a coupling that may lie outside the basis of `models`: the rounding of a float32 file."""
MACE_BOHR_ANG = 0.529
"""Bohr radius in mace-torch's pair repulsion, Å."""


def convert_mace(export: MaceExport, *, head: str | None = None, dtype: Dtype | None = None) -> TrainedMember:
    """Convert an export to a member.

    Args:
        export: The export, from `read_mace_export` or `read_mace_group`.
        head: Head of a model with several heads; None for a single head.
        dtype: Precision of the member; None for that of the exported model.

    Returns:
        A member without training history. Its E0s (eV) are the energies of isolated atoms in mace-torch.

    Raises:
        InputError: If `models` cannot represent a property of the model, which the message names, or the model has no
            head of that name.
    """
    check_supported(export)
    hyper = export.hyper
    head_index = _head_index(export, head)
    channels = degrees(hyper.layers[0].output_irreps) or {}
    widths = hyper.layers[0].radial_widths
    last = hyper.readouts[-1]
    # a linear last readout becomes a readout with two hidden channels (`_Weights.readouts`)
    n_hidden = 2 if last.hidden_irreps is None else (degrees(last.hidden_irreps) or {})[0] // len(hyper.heads)
    config = ModelConfig(
        kind="mace",
        short=PathConfig(
            cutoff_ang=hyper.cutoff_ang,
            channels=channels[0],
            l_max=len(degrees(hyper.harmonics) or {}) - 1,
            radial_mlp=widths[1:-1],
        ),
        long=None,
        first_layer="species" if hyper.layers[0].interaction == SPECIES_BLOCK else "residual",
        zbl="pair_repulsion_fn" in hyper.blocks,
        layers=len(hyper.layers),
        correlation=max(order for layer in hyper.layers for order in layer.correlations),
        hidden_l_max=max(channels),
        bessel_functions=widths[0],
        envelope_power=hyper.envelope_power,
        readout_hidden=n_hidden,
        dtype=dtype or hyper.dtype,
    )
    weights = _Weights(export, config, head_index=head_index)
    scale = float(weights.of_head("scale_shift.scale", default=1.0))
    constants = ModelConstants(
        elements=tuple(hyper.elements[k] for k in weights.by_number),
        reference_energies=(0.0,) * len(hyper.elements),
        scale=scale,
        mean_neighbours=(hyper.layers[0].mean_neighbours,),
        repulsion_strength=scale if config.zbl else 1.0,  # mace-torch scales the repulsion too
    )
    if config.zbl:
        _check_repulsion(export)
    model = MSMACE(config, constants, seed=0)
    (tower,) = model.towers
    arrays = {"embedding": weights.embedding()}
    for k, layer in enumerate(tower.layers):
        (message,) = layer.messages
        arrays |= _prefixed(f"layers.{k}", weights.layer(k, message.couplings))
    arrays |= _prefixed("readouts", weights.readouts())
    weights.check_all_used()
    tower.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})

    shift = weights.of_head("scale_shift.shift", default=0.0)
    free_atoms = weights.of_head("atomic_energies_fn.atomic_energies", default=0.0, per_species=True)
    with torch.no_grad():
        alone = tower.isolated_energies().double().numpy()[:, 0]
    model.set_reference_energies((free_atoms[weights.by_number] + shift + constants.scale * alone).tolist())
    return TrainedMember(model=model)


class _Weights:
    """Maps mace-torch's weights to weights of `models`, block by block, and records the weights that were not used.

    In the shapes below, S is the number of species and C of channels.

    Attributes:
        by_number: Species of the export, sorted by atomic number, as in `models`.
        unused: Names of the weights that were not taken yet.
    """

    def __init__(self, export: MaceExport, config: ModelConfig, *, head_index: int) -> None:
        self.export, self.config, self.head_index = export, config, head_index
        self.by_number = np.argsort(export.hyper.elements)
        self.n_species, self.channels = len(self.by_number), config.short.channels
        self.unused = set(export.parameters)

    def take(self, name: str, *shape: int) -> FloatArray:
        """Take a weight, reshaped.

        Raises:
            InputError: If the weight is missing or has another number of elements.
        """
        self.unused.discard(name)
        if name not in self.export.parameters:
            raise self.export.refuse(f"{name} is missing")
        values = self.export.parameters[name]
        try:
            return values.reshape(shape)
        except ValueError:
            raise self.export.refuse(f"{name} has shape {values.shape}, {shape} was expected") from None

    def check_all_used(self) -> None:
        """Refuse a model with weights that were not taken.

        Raises:
            InputError: If there is such a weight.
        """
        if self.unused:
            raise self.export.refuse(f"it has weights of unknown meaning: {', '.join(sorted(self.unused)[:5])}")

    def of_head(self, name: str, *, default: float, per_species: bool = False) -> FloatArray:
        """A constant of the head, which is a number, or with `per_species` an array over the species of the export."""
        values = self.export.buffers.get(name, np.array(default))
        rows = np.atleast_2d(values) if per_species else np.atleast_1d(values)
        return rows[self.head_index if len(rows) > 1 else 0]

    def embedding(self) -> FloatArray:
        """The embedding of the species, shape (S, C)."""
        weight = self.take("node_embedding.linear.weight", self.n_species, self.channels)
        return weight[self.by_number] / math.sqrt(self.n_species)

    def layer(self, k: int, couplings: Sequence[tuple[int, int, int]]) -> dict[str, FloatArray]:
        """Weights of layer k by name, given the couplings (l1, l2, l3) of its message."""
        header = self.export.hyper.layers[k]
        n_source, n_out = len(degrees(header.source_irreps) or {}), len(degrees(header.output_irreps) or {})
        C, S = self.channels, self.n_species
        name, product = f"interactions.{k}", f"products.{k}"
        up = self.take(f"{name}.linear_up.weight", n_source, C, C) / math.sqrt(C)
        # `skip_tp`, a map for each species, acts on the message in a `SPECIES_BLOCK`, else on the features
        on_message = header.interaction == SPECIES_BLOCK
        target, n_maps = ("species_map", self.config.short.l_max + 1) if on_message else ("skip", min(n_source, n_out))
        maps = self.take(f"{name}.skip_tp.weight", n_maps, C, S, C)[:, :, self.by_number] / math.sqrt(C * S)
        update = self.take(f"{product}.linear.weight", n_out, C, C) / math.sqrt(C)
        return {
            **{f"messages.0.up.weights.{degree}": weight for degree, weight in enumerate(up)},
            **self._message(k, header, couplings),
            **{f"product.weights.{degree}": self._product(k, header, degree) for degree in range(n_out)},
            **{f"product.linear.weights.{degree}": weight for degree, weight in enumerate(update)},
            **{
                f"{target}.weights.{degree}": weight.transpose(1, 0, 2).reshape(S * C, C)
                for degree, weight in enumerate(maps)
            },
        }

    def _message(self, k: int, header: MaceLayer, couplings: Sequence[tuple[int, int, int]]) -> dict[str, FloatArray]:
        """Weights of the radial network and of the linear map after the sum over neighbours, by name."""
        name, C, n = f"interactions.{k}", self.channels, len(couplings)
        mace_order = mace_couplings(self.config.short.l_max, len(degrees(header.source_irreps) or {}) - 1)
        order = [mace_order.index(coupling) for coupling in couplings]
        widths = header.radial_widths
        if widths[0] != self.config.bessel_functions or widths[-1] != n * C:
            raise self.export.refuse(f"layer {k} has a radial network of widths {widths}, {n} couplings were expected")
        arrays = {}
        for step, (fan_in, fan_out) in enumerate(pairwise(widths)):
            gain = header.radial_gain if step else 1.0  # of the activation before the layer
            weight = self.take(f"{name}.conv_tp_weights.layer{step}.weight", fan_in, fan_out)
            if step == len(widths) - 2:
                weight = weight.reshape(fan_in, n, C)[:, order].reshape(fan_in, fan_out)
            arrays[f"messages.0.radial.weights.{step}"] = weight * ((gain or 1.0) / math.sqrt(fan_in))
        linear = self.take(f"{name}.linear.weight", n, C, C)[order]
        for degree in range(self.config.short.l_max + 1):
            rows = [index for index, (_, _, l3) in enumerate(couplings) if l3 == degree]
            norm = header.mean_neighbours * math.sqrt(len(rows) * C)
            arrays[f"fuse.weights.{degree}"] = linear[rows].reshape(-1, C) / norm
        return arrays

    def _product(self, k: int, header: MaceLayer, degree: int) -> FloatArray:
        """Weights of the product basis for couplings to a degree, shape (S, C, n_couplings)."""
        name = f"products.{k}.symmetric_contractions.contractions.{degree}"
        n_components = (self.config.short.l_max + 1) ** 2
        blocks = []
        for order in range(1, self.config.correlation + 1):
            ours = symmetric_couplings(self.config.short.l_max, degree, order)
            highest = header.correlations[degree]
            if order > highest:
                blocks.append(np.zeros((self.n_species, self.channels, len(ours))))
                continue
            # mace-torch lists the weights of lower orders from the highest of these orders downwards
            parameter = "weights_max" if order == highest else f"weights.{highest - 1 - order}"
            U = self.export.buffers[f"{name}.U_matrix_{order}"].reshape(2 * degree + 1, n_components**order, -1)
            n_rows = self.n_species if header.product_knows_species else 1
            weight = self.take(f"{name}.{parameter}", n_rows, U.shape[2], self.channels)
            weight = weight[self.by_number if header.product_knows_species else np.zeros_like(self.by_number)]
            mixing = change_of_basis(polynomials(U, n_components, order), ours)
            if mixing is None:
                raise self.export.refuse(
                    f"layer {k}: its couplings of order {order} to degree {degree} are not in al-engine's basis"
                )
            blocks.append(np.einsum("skc,kn->scn", weight, mixing))
        return np.concatenate(blocks, axis=2)

    def readouts(self) -> dict[str, FloatArray]:
        """Weights of the head's readouts, by name."""
        return {f"{name}.weights.{step}": values for name, step, values in self._readouts()}

    def _readouts(self) -> Iterator[tuple[str, int, FloatArray]]:
        """Yield the name of a readout, the number of a layer of it, and the weights of this layer."""
        hyper, C = self.export.hyper, self.channels
        n_heads, n_hidden = len(hyper.heads), self.config.readout_hidden
        first = self.config.layers - len(hyper.readouts)  # with `use_last_readout_only` only the last layer is read
        for k in range(first):
            yield f"linear.{k}", 0, np.zeros((C, 1))
        for k, readout in enumerate(hyper.readouts):
            if readout.hidden_irreps is None:
                columns = self.take(f"readouts.{k}.linear.weight", C, n_heads)[:, [self.head_index]] / math.sqrt(C)
                if first + k < self.config.layers - 1:
                    yield f"linear.{first + k}", 0, columns
                else:  # the last readout of `models` has hidden channels: x = silu(x) - silu(-x)
                    yield "last", 0, np.hstack([columns, -columns])
                    yield "last", 1, np.array([[1.0], [-1.0]])
            else:
                inner = self.take(f"readouts.{k}.linear_1.weight", C, n_heads, n_hidden)
                outer = self.take(f"readouts.{k}.linear_2.weight", n_heads, n_hidden, n_heads)
                yield "last", 0, inner[:, self.head_index] / math.sqrt(C)
                gain = (readout.gain or 1.0) / math.sqrt(n_heads * n_hidden)
                yield "last", 1, outer[self.head_index, :, [self.head_index]].T * gain


def mace_couplings(l_max: int, l_source: int) -> list[tuple[int, int, int]]:
    """Couplings (l1, l2) -> l3 of harmonics l1 and features l2 in mace-torch's order: by l3, then l2, then l1."""
    found = [
        (l1, l2, l3)
        for l2 in range(l_source + 1)
        for l1 in range(l_max + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, l_max) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]
    return sorted(found, key=lambda coupling: coupling[2])


def polynomials(U: FloatArray, n_components: int, order: int) -> FloatArray:
    """Coupling tensors as polynomials: coefficients over sorted monomials.

    Args:
        U: Coupling tensors, shape (2L + 1, n_components ** order, n_couplings).
        n_components: Number of components of A.
        order: Number of copies of A.

    Returns:
        Coefficients, shape (n_couplings, 2L + 1, n_monomials), in the order of `couplings.monomials`.
    """
    sizes = (n_components,) * order
    listed = monomials(n_components, order)
    place = np.zeros(n_components**order, dtype=np.int64)
    place[np.ravel_multi_index(tuple(listed.T), sizes)] = np.arange(len(listed))
    # each entry of a tensor adds to the monomial of its sorted indices
    ordered = np.sort(np.indices(sizes).reshape(order, -1), axis=0)
    columns = place[np.ravel_multi_index(tuple(ordered), sizes)]
    result = np.zeros((len(listed), U.shape[0], U.shape[2]))
    np.add.at(result, columns, U.transpose(1, 0, 2))
    return result.transpose(2, 1, 0)


def change_of_basis(couplings: FloatArray, basis: FloatArray) -> FloatArray | None:
    """Coefficients X of couplings in a basis, couplings[k] = Σ_η X[k, η] basis[η]; None if there is no solution.

    Args:
        couplings: K polynomials, shape (K, 2L + 1, n_monomials).
        basis: H linearly independent polynomials, shape (H, 2L + 1, n_monomials).

    Returns:
        X, shape (K, H).
    """
    target = couplings.reshape(len(couplings), -1)
    matrix = basis.reshape(len(basis), -1)
    solution: FloatArray = np.linalg.lstsq(matrix.T, target.T, rcond=None)[0].T.astype(np.float64)
    error = np.abs(solution @ matrix - target).max(initial=0.0)
    return solution if error <= BASIS_TOLERANCE * np.abs(target).max(initial=0.0) else None


def _check_repulsion(export: MaceExport) -> None:
    """Refuse a repulsion of nuclei that differs from `repulsion.ZBLRepulsion`.

    Raises:
        InputError: If a constant of the repulsion differs.
    """
    from ase.data import covalent_radii

    constants = {
        "c": [coefficient for coefficient, _ in SCREENING],
        "a_exp": SCREENING_EXPONENT,
        "a_prefactor": SCREENING_LENGTH_ANG / MACE_BOHR_ANG,
        "p": export.hyper.envelope_power,
        "covalent_radii": covalent_radii,
    }
    for name, expected in constants.items():
        values = export.buffers.get(f"pair_repulsion_fn.{name}")
        if values is None or values.shape != np.shape(expected) or not np.allclose(values, expected, rtol=1e-6, atol=0):
            raise export.refuse(f"its pair repulsion has another `{name}` than mace-torch 0.3.16's")


def _prefixed(prefix: str, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {f"{prefix}.{name}": values for name, values in arrays.items()}


def _head_index(export: MaceExport, head: str | None) -> int:
    """Index of the head with a name; None names the only head.

    Raises:
        InputError: If there is no such head, or None is given for one of several heads.
    """
    heads = export.hyper.heads
    if head is None:
        if len(heads) > 1:
            raise InputError(f"{export.where} has the heads {', '.join(heads)}; choose a head with `--head`")
        return 0
    if head not in heads:
        raise InputError(f"{export.where} has no head {head}; it has {', '.join(heads)}")
    return heads.index(head)
