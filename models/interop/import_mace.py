"""Make mace-torch models of members that `al-engine export --to mace` wrote.

Run this script, which needs nothing else of al-engine, in an environment with mace-torch (0.3.16):

    python import_mace.py mine.mace.h5 --to mine

It writes `mine-0.model`, `mine-1.model`, ...: one for each member, for mace-torch's calculator and for every program
that takes MACE models. Several files given to mace-torch's `MACECalculator` are a committee.
"""

import argparse
import json
import os
from typing import Any

import h5py
import numpy as np
import torch

GAIN, POLYNOMIALS, CONTRACTION = ".before_gain", "polynomials_", ".symmetric_contractions.contractions."
LARGEST_RESIDUAL = 1e-6
"""Largest relative part of a polynomial that may lie outside mace-torch's couplings."""


def make_model(group: h5py.Group) -> Any:
    """A `ScaleShiftMACE` with the weights of a member."""
    from e3nn import o3
    from mace import modules

    hyper = json.loads(group.attrs["hyper_parameters"])
    dtype = getattr(torch, hyper.pop("dtype"))
    first = {"species": "RealAgnosticInteractionBlock", "residual": "RealAgnosticResidualInteractionBlock"}
    blocks = modules.interaction_classes
    torch.set_default_dtype(dtype)
    arrays = {name: values[()] for name, values in _datasets(group)}
    model = modules.ScaleShiftMACE(
        interaction_cls_first=blocks[first[hyper.pop("first_layer")]],
        interaction_cls=blocks["RealAgnosticResidualInteractionBlock"],
        hidden_irreps=o3.Irreps(hyper.pop("hidden_irreps")),
        MLP_irreps=o3.Irreps(hyper.pop("MLP_irreps")),
        num_elements=len(hyper["atomic_numbers"]),
        atomic_energies=arrays["atomic_energies_fn.atomic_energies"],
        atomic_inter_scale=float(arrays["scale_shift.scale"][0]),
        atomic_inter_shift=0.0,
        gate=torch.nn.functional.silu,
        distance_transform="None",
        radial_type="bessel",
        heads=["Default"],
        **hyper,
    )
    U = {name: values.double().numpy() for name, values in model.named_buffers() if "U_matrix" in name}
    weights = weights_of(arrays, gains_of(model), U)
    parameters = dict(model.named_parameters())
    unset = set(parameters) - set(weights)
    if unset:
        raise SystemExit(f"mace-torch has weights that the file does not have: {sorted(unset)[:5]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(weights[name]).reshape(parameter.shape))
    return model


def gains_of(model: Any) -> dict[str, float]:
    """Factor of the activation before each weight that was written without it."""
    gains = {}
    for k, interaction in enumerate(model.interactions):
        radial = interaction.conv_tp_weights
        for step in range(1, len(radial.hs) - 1):
            gains[f"interactions.{k}.conv_tp_weights.layer{step}.weight"] = _gain(radial.layer0.act, 1)
    last = model.readouts[-1]
    gains[f"readouts.{len(model.readouts) - 1}.linear_2.weight"] = _gain(
        last.non_linearity, int(last.linear_1.irreps_out.dim)
    )
    return gains


def weights_of(
    arrays: dict[str, np.ndarray], gains: dict[str, float], U: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Weights by mace-torch's names.

    Args:
        arrays: Content of the file.
        gains: Factor of the activation before a weight, by the name of the weight.
        U: Couplings of the product bases, by mace-torch's names of the buffers, `..._matrix_<ν>`, each of shape
            (2L + 1, n, ..., n, n_couplings), or without the first axis for L = 0.
    """
    weights = {}
    for name, values in arrays.items():
        if name.endswith(GAIN):
            own = name.removesuffix(GAIN)
            weights[own] = values / gains[own]
        elif POLYNOMIALS not in name and not name.startswith("monomials"):
            weights[name] = values
    places = {name.rpartition(".")[0] for name in arrays if POLYNOMIALS in name}
    for place in places:
        orders = sorted(int(name.rpartition("_")[2]) for name in U if name.startswith(f"{place}.U_matrix_"))
        for order in orders:
            # mace-torch lists the weights of lower orders from the highest of these orders downwards
            own = "weights_max" if order == orders[-1] else f"weights.{orders[-1] - 1 - order}"
            weights[f"{place}.{own}"] = _contraction(
                arrays[f"{place}.{POLYNOMIALS}{order}"],
                arrays[f"monomials_{order}"],
                U[f"{place}.U_matrix_{order}"],
            )
    return weights


def _contraction(wanted: np.ndarray, monomials: np.ndarray, U: np.ndarray) -> np.ndarray:
    """Weights (S, n_couplings, C) whose sum of couplings are the wanted polynomials (S, C, 2L + 1, n_monomials)."""
    order = monomials.shape[1]
    n = int(monomials.max()) + 1
    tensors = U.reshape(wanted.shape[2], n**order, -1)
    place = np.zeros(n**order, dtype=np.int64)
    place[np.ravel_multi_index(tuple(monomials.T), (n,) * order)] = np.arange(len(monomials))
    ordered = np.sort(np.indices((n,) * order).reshape(order, -1), axis=0)
    columns = place[np.ravel_multi_index(tuple(ordered), (n,) * order)]
    basis = np.zeros((len(monomials), *tensors.shape[::2]))
    np.add.at(basis, columns, tensors.transpose(1, 0, 2))  # each entry adds to the monomial of its sorted indices
    matrix = basis.transpose(1, 0, 2).reshape(-1, basis.shape[2])  # (2L + 1, n_monomials) by couplings
    target = wanted.reshape(*wanted.shape[:2], -1)
    solution = np.einsum("kq,scq->skc", np.linalg.pinv(matrix), target)
    residual = np.abs(np.einsum("qk,skc->scq", matrix, solution) - target).max()
    if residual > LARGEST_RESIDUAL * max(np.abs(target).max(), 1e-30):
        raise SystemExit(f"a polynomial of order {order} is none of mace-torch's couplings (residual {residual:.1e})")
    return solution


def _gain(activation: Any, width: int) -> float:
    """Factor g of an activation g · silu(x) of `width` units: e3nn scales activations to unit second moment."""
    x = torch.linspace(0.5, 3.0, 8, dtype=torch.get_default_dtype())
    with torch.no_grad():
        scaled = activation(x.unsqueeze(1).expand(-1, width))[:, 0]
    return float((scaled / torch.nn.functional.silu(x)).mean())


def _datasets(group: h5py.Group) -> list[tuple[str, h5py.Dataset]]:
    return [(name, item) for name, item in group.items() if isinstance(item, h5py.Dataset)]


def main() -> None:
    """Command line."""
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn 0.4 with torch >= 2.6 needs it to import
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", help="file that `al-engine export --to mace` wrote")
    parser.add_argument("--to", required=True, metavar="NAME", help="beginning of the names of the models")
    arguments = parser.parse_args()
    with h5py.File(arguments.file, "r", locking=False) as file:
        for k in range(len(file)):
            model = make_model(file[f"member{k}"])
            torch.save(model, f"{arguments.to}-{k}.model")  # mace-torch's own format
            print(f"{arguments.to}-{k}.model")


if __name__ == "__main__":
    main()
