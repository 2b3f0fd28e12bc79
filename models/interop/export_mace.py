"""Write a mace-torch model to HDF5: weights and hyper-parameters, no pickle.

A mace-torch model file is a pickle, which executes the code in it when it is read; al-engine never reads pickles.
Run this script, which needs nothing else of al-engine, in the environment where the model was trained, on a model that
you trust:

    python export_mace.py MACE.model member.h5

Then `python -m models.interop.convert member.h5 --to committee.h5`, where al-engine is installed, converts the
export to a committee.
"""

import argparse
import importlib.metadata
import json
import os
from typing import Any

import h5py
import torch

SCHEMA = 1
PACKAGES = ("mace-torch", "e3nn", "torch")
DERIVED = ("output_mask", "_zeroed", "_compiled")
"""Parts of the names of buffers that follow from the hyper-parameters."""


def export_model(model: torch.nn.Module, group: h5py.Group) -> None:
    """Write a model into an empty group.

    Args:
        model: A `mace.modules.MACE` or subclass of any version; `models.interop.convert_mace` checks whether it can be
            converted.
        group: Empty group, which gets the attributes `schema` and `hyper_parameters` (JSON) and the groups
            `parameters` and `buffers`.
    """
    group.attrs["schema"] = SCHEMA
    group.attrs["hyper_parameters"] = json.dumps(hyper_parameters(model), indent=1)
    for kind, tensors in (("parameters", model.named_parameters()), ("buffers", model.named_buffers())):
        target = group.create_group(kind)
        for name, tensor in tensors:
            if tensor.numel() and not any(part in name for part in DERIVED):
                values = tensor.detach().cpu().numpy()
                options = {"compression": "gzip"} if values.ndim else {}
                target.create_dataset(name, data=values, **options)


def hyper_parameters(model: Any) -> dict[str, Any]:
    """Hyper-parameters of a model, as values that JSON can hold.

    Only names, numbers and irreps. An attribute that older versions lack gets the value that these versions used.
    """
    radial = model.radial_embedding
    harmonics = model.spherical_harmonics
    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "model": _kind(model),
        "blocks": {name: _kind(child) for name, child in model.named_children()},
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "elements": model.atomic_numbers.tolist(),
        "heads": [str(head) for head in getattr(model, "heads", None) or ["Default"]],
        "cutoff_ang": float(model.r_max),
        "radial_basis": _kind(radial.bessel_fn),
        "cutoff_function": _kind(radial.cutoff_fn),
        "envelope_power": int(radial.cutoff_fn.p),
        "cutoff_on_radial_basis": bool(getattr(radial, "apply_cutoff", True)),
        "distance_transform": _kind(radial.distance_transform) if hasattr(radial, "distance_transform") else None,
        "harmonics": str(harmonics.irreps_out),
        "harmonics_normalization": harmonics.normalization if harmonics.normalize else "none",
        "layers": [_layer(*blocks) for blocks in zip(model.interactions, model.products, strict=True)],
        "readouts": [_readout(readout) for readout in model.readouts],
    }


def _layer(interaction: Any, product: Any) -> dict[str, Any]:
    contractions = getattr(product.symmetric_contractions, "contractions", [])
    radial = interaction.conv_tp_weights
    accelerated = [
        getattr(block, name, None) for block in (interaction, product) for name in ("cueq_config", "oeq_config")
    ]
    return {
        "interaction": _kind(interaction),
        "source_irreps": str(interaction.node_feats_irreps),
        "edge_irreps": str(getattr(interaction, "edge_irreps", None) or interaction.node_feats_irreps),
        "message_irreps": str(interaction.target_irreps),
        "output_irreps": str(product.linear.irreps_out),
        "mean_neighbours": float(interaction.avg_num_neighbors),
        "radial_network": _kind(radial),
        "radial_widths": [int(width) for width in getattr(radial, "hs", [])],
        "radial_gain": _silu_gain(getattr(radial, "layer0", None)),
        "product": _kind(product.symmetric_contractions),
        "correlations": [int(contraction.correlation) for contraction in contractions],
        "product_adds_skip": bool(product.use_sc),
        "product_knows_species": not getattr(product, "use_agnostic_product", False),
        "accelerated": any(config is not None for config in accelerated),
    }


def _readout(readout: Any) -> dict[str, Any]:
    first = getattr(readout, "linear", None) or readout.linear_1
    activation = getattr(readout, "non_linearity", None)
    return {
        "block": _kind(readout),
        "irreps": str(first.irreps_in),
        "hidden_irreps": None if activation is None else str(readout.hidden_irreps),
        "gain": None if activation is None else _gain(activation, int(first.irreps_out.dim)),
    }


def _silu_gain(layer: Any) -> float | None:
    """Factor on the SiLU after a radial network's first layer; None if there is no activation or another activation."""
    activation = getattr(layer, "act", None)
    return None if activation is None else _gain(activation, 1)


def _gain(activation: Any, width: int) -> float | None:
    """Factor g of an activation g · silu(x) of `width` units; None if it is another function.

    e3nn scales activations to unit second moment, which it finds by sampling: the number is not in the state dict.
    """
    x = torch.linspace(-3.0, 3.0, 8, dtype=torch.float64)  # without zero
    silu = torch.nn.functional.silu(x)
    with torch.no_grad():
        ratios = activation(x.unsqueeze(1).expand(-1, width))[:, 0] / silu
    gain = ratios.mean()
    return float(gain) if torch.allclose(ratios, gain, rtol=1e-12, atol=0.0) else None


def _kind(module: Any) -> str:
    return type(module).__name__


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def main() -> None:
    """Command line."""
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # e3nn 0.4 with torch >= 2.6 needs it to import
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="model file that mace-torch wrote; a pickle: only open files you trust")
    parser.add_argument("output", help="HDF5 file to write")
    arguments = parser.parse_args()
    model = torch.load(arguments.model, map_location="cpu", weights_only=False)
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        parser.error(
            f"{arguments.model} holds a {type(model).__name__}, not a mace-torch model: give the file that "
            "mace_run_train writes as NAME.model, not a checkpoint or NAME_compiled.model"
        )
    with h5py.File(arguments.output, "w", locking=False) as file:
        export_model(model, file)


if __name__ == "__main__":
    main()
