"""Write a NequIP model to HDF5: weights and hyper-parameters, no pickle.

A nequip checkpoint is a pickle, which executes the code in it when it is read; al-engine never reads pickles. Run this
script, which needs h5py but nothing else of al-engine, in the environment where the model was trained, on a model that
you trust:

    python export_nequip.py model.ckpt member.h5

Then `python -m models.interop.convert member.h5 --to committee.h5`, where al-engine is installed, converts the
export to a committee.
"""

import argparse
import importlib.metadata
import json
from collections.abc import Iterator
from typing import Any

import h5py
import torch

SCHEMA = 1
PACKAGES = ("nequip", "e3nn", "torch")


def export_model(model: torch.nn.Module, group: h5py.Group) -> None:
    """Write a model into an empty group.

    Weights are written as applied: e3nn's and nequip's normalisations are read off the modules and multiplied in.

    Args:
        model: A model of nequip 0.19's `NequIPGNNModel` or a related builder; `models.interop.convert_nequip` checks
            whether it can be converted.
        group: Empty group, which gets the attributes `schema` and `hyper_parameters` (JSON) and the datasets of every
            block.
    """
    (network,) = (module for module in model.modules() if _kind(module) == "SequentialGraphNetwork")
    blocks = dict(network.named_children())
    group.attrs["schema"] = SCHEMA
    group.attrs["hyper_parameters"] = json.dumps(hyper_parameters(blocks), indent=1)
    for name, values in weights(blocks):
        group.create_dataset(name, data=values.detach().cpu().numpy())


def hyper_parameters(blocks: dict[str, Any]) -> dict[str, Any]:
    """Everything about a model that is not a weight, as values that JSON can hold."""
    edges, bessel, harmonics = blocks["edge_norm"], blocks["bessel_encode"], blocks["spharm"]
    readout = blocks["per_atom_energy_readout"].mlp_module
    return {
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "blocks": {name: _kind(block) for name, block in blocks.items()},
        "dtype": str(blocks["type_embed"].embed_module.weight.dtype).removeprefix("torch."),
        "type_names": list(blocks["per_type_energy_scale_shift"].type_names),
        "graph_fields": list(blocks["type_embed"].categorical_graph_field_embed_modules),
        "cutoff_ang": float(edges.r_max),
        "cutoff_per_edge_type": bool(edges._per_edge_type),  # noqa: SLF001  # there is no public name for it
        "bessel_multiples": bessel.bessel_weights.detach().flatten().tolist(),
        "bessel_factor": float(blocks["factor"].factor),
        "cutoff_function": _kind(bessel.cutoff),
        "envelope_power": float(bessel.cutoff.p),
        "harmonics": str(harmonics.irreps_edge_sh),
        "harmonics_normalization": harmonics.sh.normalization if harmonics.sh.normalize else "none",
        "layers": [_layer(layer) for layer in _layers(blocks)],
        "readout_widths": [int(width) for width in readout.dims],
    }


def weights(blocks: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values of all weights: matrices (in, out), named by block and, if it has several, by irrep or layer."""
    yield "embedding", blocks["type_embed"].embed_module.weight  # (S, D)
    for k, layer in enumerate(_layers(blocks)):
        conv = layer.conv
        for name, linear in (("up", conv.linear_1), ("fuse", conv.linear_2)):
            for _, instruction, weight in linear.weight_views(yield_instruction=True):
                irrep = linear.irreps_in[instruction.i_in].ir
                yield f"layers/{k}/{name}/{irrep}", weight * instruction.path_weight
        yield from _perceptron(f"layers/{k}/radial", conv.edge_mlp)
        yield f"layers/{k}/neighbour_factors", conv.avg_num_neighbors_norm.norm_const.flatten()
        if conv.sc is not None:
            for _, instruction, weight in conv.sc.weight_views(yield_instruction=True):
                irrep = conv.sc.irreps_in1[instruction.i_in1].ir
                # the coupling (l, 0) -> l is the identity over sqrt(2 l + 1)
                yield f"layers/{k}/skip/{irrep}", weight * instruction.path_weight / irrep.dim**0.5
    yield from _perceptron("readout", blocks["per_atom_energy_readout"].mlp_module)
    yield "scales", blocks["per_type_energy_scale_shift"].scales.flatten()
    yield "shifts", blocks["per_type_energy_scale_shift"].shifts.flatten()


def _perceptron(name: str, network: Any) -> Iterator[tuple[str, torch.Tensor]]:
    layers = [layer for layer in network.mlp if hasattr(layer, "alpha")]
    for step, layer in enumerate(layers):
        yield f"{name}/{step}", layer.weight * layer.alpha


def _layers(blocks: dict[str, Any]) -> list[Any]:
    return [block for name, block in blocks.items() if name.startswith("layer")]


def _layer(layer: Any) -> dict[str, Any]:
    conv, gate = layer.conv, layer.equivariant_nonlin
    product = conv.tp_scatter.tp
    activations = [*gate.act_scalars.acts, *gate.act_gates.acts] if hasattr(gate, "act_scalars") else []
    return {
        "nonlinearity": _kind(gate),
        "gains": [_silu_gain(activation) for activation in activations],
        "residual": bool(layer.resnet),
        "features_in": str(product.irreps_in1),
        "features_out": str(gate.irreps_out),
        "self_connection": conv.sc is not None,
        # degrees of harmonic, neighbour's feature and message, in the order of the radial functions
        "couplings": [
            [block[index].ir.l for block, index in zip(blocks, indices, strict=True)]
            for blocks in [(product.irreps_in2, product.irreps_in1, product.irreps_out)]
            for indices in [(i.i_in2, i.i_in1, i.i_out) for i in product.instructions]
        ],
        "coupling_factors": [float(i.path_weight) for i in product.instructions],
        "radial_activations": sorted({_kind(part) for part in conv.edge_mlp.mlp if not hasattr(part, "alpha")}),
        "radial_widths": [int(width) for width in conv.edge_mlp.dims],
    }


def _silu_gain(activation: Any) -> float | None:
    """Factor g of an activation g · silu(x); None if it is another function."""
    x = torch.linspace(-3.0, 3.0, 8, dtype=torch.float64)  # without zero
    ratios = activation(x) / torch.nn.functional.silu(x)
    gain = ratios.mean()
    return float(gain) if torch.allclose(ratios, gain, rtol=1e-12, atol=0.0) else None


def _kind(module: Any) -> str:
    return getattr(module, "original_name", None) or type(module).__name__  # TorchScript keeps the class's name


def main() -> None:
    """Command line."""
    from nequip.model.saved_models.load_utils import load_saved_model
    from nequip.utils.global_state import set_global_state

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="checkpoint or package; a pickle: only open files you trust")
    parser.add_argument("output", help="HDF5 file to write")
    arguments = parser.parse_args()
    set_global_state()
    model = load_saved_model(arguments.model)
    with h5py.File(arguments.output, "w", locking=False) as file:
        export_model(model, file)


if __name__ == "__main__":
    main()
