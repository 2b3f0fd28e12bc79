"""Members of `kind: mace` as weights that mace-torch uses, for `import_mace.py`: the inverse of `convert_mace`.

`import_mace.py` makes the mace-torch models in the environment of mace-torch, because three numbers are known only
there: the factors that e3nn puts on activations, and the couplings of the product basis. So weights after an activation
are written without that factor, and product weights as polynomials of the message's components.
"""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from al_engine.errors import InputError
from al_engine.files.hdf5 import in_memory_hdf5
from al_engine.structures.frames import FloatArray, IntArray
from models.graph.couplings import monomials, symmetric_couplings
from models.interop.convert_mace import mace_couplings
from models.layers.interaction import InteractionLayer
from models.ms_mace import MSMACE

SCHEMA = 1


def write_mace(path: Path, models: Sequence[MSMACE]) -> None:
    """Write members to a file that `import_mace.py` reads.

    Args:
        path: The file.
        models: The members.

    Raises:
        InputError: If a member is no MACE model, or has a term that mace-torch does not have.
        ResumableError: If the file cannot be written.
    """
    for model in models:
        _refuse_other(model)
    with in_memory_hdf5(path) as file:
        file.attrs["schema"] = SCHEMA
        for k, model in enumerate(models):
            group = file.create_group(f"member{k}")
            group.attrs["hyper_parameters"] = json.dumps(hyper_parameters(model), indent=1)
            for name, values in mace_arrays(model).items():
                group[name] = values


def hyper_parameters(model: MSMACE) -> dict[str, Any]:
    """Arguments of mace-torch's `ScaleShiftMACE`, as values that JSON can hold."""
    config, short = model.config, model.config.short
    l_hidden = min(config.hidden_l_max, short.l_max)
    return {
        "dtype": config.dtype,
        "r_max": short.cutoff_ang,
        "num_bessel": config.bessel_functions,
        "num_polynomial_cutoff": config.envelope_power,
        "max_ell": short.l_max,
        "num_interactions": config.layers,
        "first_layer": config.first_layer,
        "hidden_irreps": "+".join(f"{short.channels}x{degree}{'eo'[degree % 2]}" for degree in range(l_hidden + 1)),
        "MLP_irreps": f"{config.readout_hidden}x0e",
        "atomic_numbers": list(model.constants.elements),
        "avg_num_neighbors": model.constants.mean_neighbours[0],
        "correlation": config.correlation,
        "radial_MLP": list(short.radial_mlp),
        "pair_repulsion": model.repulsion is not None,
    }


def mace_arrays(model: MSMACE) -> dict[str, FloatArray | IntArray]:
    """Weights and constants by mace-torch's names, and what `import_mace.py` makes weights from.

    Names that end with `.before_gain` are weights times the factor of the activation before them. Names that end with
    `.polynomials_<ν>` are polynomials of order ν for each species and channel, shape (S, C, 2L + 1, n_monomials), and
    `monomials_<ν>` are the monomials, shape (n_monomials, ν).
    """
    tower: Any = model.towers[0]
    S, C = len(model.constants.elements), model.config.short.channels
    arrays: dict[str, FloatArray | IntArray] = {
        "node_embedding.linear.weight": (_array(tower.embedding) * math.sqrt(S)).ravel()
    }
    for k, layer in enumerate(tower.layers):
        arrays |= dict(_layer(model, k, layer))
    linear, last = list(tower.readouts.linear), tower.readouts.last
    for k, readout in enumerate(linear):
        arrays[f"readouts.{k}.linear.weight"] = (_array(readout.weights[0]) * math.sqrt(C)).ravel()
    inner, outer = map(_array, last.weights)
    arrays[f"readouts.{len(linear)}.linear_1.weight"] = (inner * math.sqrt(C)).ravel()
    arrays[f"readouts.{len(linear)}.linear_2.weight.before_gain"] = (outer * math.sqrt(len(outer))).ravel()
    scale = model.constants.scale
    with torch.no_grad():
        alone = tower.isolated_energies().double().numpy()[:, 0]
    arrays["scale_shift.scale"] = np.array([scale])
    arrays["scale_shift.shift"] = np.array([0.0])
    # in mace-torch the energy of an isolated atom contains the network's energy of this atom
    arrays["atomic_energies_fn.atomic_energies"] = np.array([model.constants.reference_energies]) - scale * alone
    n = (model.config.short.l_max + 1) ** 2
    for order in range(1, model.config.correlation + 1):
        arrays[f"monomials_{order}"] = monomials(n, order)
    return arrays


def _layer(model: MSMACE, k: int, layer: InteractionLayer) -> Iterator[tuple[str, FloatArray]]:
    """Weights of layer k."""
    config = model.config
    S, C = len(model.constants.elements), config.short.channels
    name, product = f"interactions.{k}", f"products.{k}"
    (message,) = layer.messages
    ups = np.stack([_array(weight) for weight in message.up.weights])
    yield f"{name}.linear_up.weight", (ups * math.sqrt(C)).ravel()
    order = [mace_couplings(config.short.l_max, message.l_source).index(p) for p in message.couplings]
    inverse = np.argsort(order)
    n = len(order)
    widths = [config.bessel_functions, *config.short.radial_mlp, n * C]
    for step, (fan_in, fan_out) in enumerate(pairwise(widths)):
        weight = _array(message.radial.weights[step]) * math.sqrt(fan_in)
        if step == len(widths) - 2:
            weight = weight.reshape(fan_in, n, C)[:, inverse].reshape(fan_in, fan_out)
        yield f"{name}.conv_tp_weights.layer{step}.weight{'.before_gain' if step else ''}", weight
    linear = np.empty((n, C, C))
    for degree in range(config.short.l_max + 1):
        rows = [index for index, (_, _, l3) in enumerate(message.couplings) if l3 == degree]
        norm = model.constants.mean_neighbours[0] * math.sqrt(len(rows) * C)
        linear[rows] = _array(layer.fuse.weights[degree]).reshape(len(rows), C, C) * norm
    yield f"{name}.linear.weight", linear[inverse].ravel()
    maps = [_array(weight) for weight in (layer.skip if layer.residual else layer.species_map).weights]
    skip = np.stack([weight.reshape(S, C, C).transpose(1, 0, 2) for weight in maps])
    yield f"{name}.skip_tp.weight", (skip * math.sqrt(C * S)).ravel()
    update = np.stack([_array(weight) for weight in layer.product.linear.weights])
    yield f"{product}.linear.weight", (update * math.sqrt(C)).ravel()
    for degree, weights in enumerate(layer.product.weights):
        first = 0
        for copies in range(1, config.correlation + 1):
            basis = symmetric_couplings(config.short.l_max, degree, copies)
            own = _array(weights)[:, :, first : first + len(basis)]
            first += len(basis)
            where = f"{product}.symmetric_contractions.contractions.{degree}.polynomials_{copies}"
            yield where, np.einsum("scn,nmp->scmp", own, basis)


def _array(weight: torch.Tensor) -> FloatArray:
    values: FloatArray = weight.detach().double().cpu().numpy()
    return values


def _refuse_other(model: MSMACE) -> None:
    """Refuse a member that mace-torch has no equal of.

    Raises:
        InputError: If it is no MACE model, or has a term that mace-torch does not have.
    """
    if model.config.kind != "mace":
        raise InputError(
            f"`model.kind: {model.config.kind}` has no equal in mace-torch, only `mace` has; export with --to metatomic"
        )
    if model.config.layers == 1:
        raise InputError(
            "`model.layers: 1` has no equal in mace-torch, whose readout would be linear; export with --to metatomic"
        )
    if model.cohesion is not None:
        raise InputError(
            "`training.reference_energies: isolated_atoms` adds a term that mace-torch does not have; export with "
            "--to metatomic"
        )
    if model.repulsion is not None and not math.isclose(model.constants.repulsion_strength, model.constants.scale):
        raise InputError(
            "the repulsion of nuclei (`model.zbl`) is scaled otherwise in mace-torch; export with --to metatomic"
        )
