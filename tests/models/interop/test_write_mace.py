"""Members as mace-torch's weights: the inverse of the conversion, on models of mace-torch itself."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from models.inference.committee import Committee
from models.interop.convert_mace import convert_mace
from models.interop.import_mace import weights_of
from models.interop.mace_file import read_mace_group
from models.interop.write_mace import hyper_parameters, mace_arrays, write_mace

DATA = Path(__file__).parents[1] / "data"


def exported(name):
    with h5py.File(DATA / f"mace_{name}.h5") as file:
        return read_mace_group(file["model"])


@pytest.mark.parametrize("name", ["default", "plain_scalars", "tensors", "plain_first"])
def test_weights_of_a_converted_model_are_those_of_mace_torch(name):
    """Each weight, where mace-torch's couplings are independent, and the function: converted again, the same forces."""
    export = exported(name)
    model = convert_mace(export).model
    hyper = export.hyper
    gains = {
        f"interactions.{k}.conv_tp_weights.layer{step}.weight": layer.radial_gain or 1.0
        for k, layer in enumerate(hyper.layers)
        for step in range(1, len(layer.radial_widths) - 1)
    }
    last = len(hyper.readouts) - 1
    gains[f"readouts.{last}.linear_2.weight"] = hyper.readouts[last].gain or 1.0
    couplings = {key: values for key, values in export.buffers.items() if "U_matrix" in key}
    found = weights_of(mace_arrays(model), gains, couplings)
    assert set(export.parameters) <= set(found)
    for_species = () if hyper.elements == sorted(hyper.elements) else ("embedding", "skip_tp")  # in another order
    for key, values in export.parameters.items():
        if not any(part in key for part in ("contractions", *for_species)):
            np.testing.assert_allclose(found[key].reshape(values.shape), values, rtol=1e-5, atol=1e-6, err_msg=key)
    parameters = {key: found[key].reshape(values.shape) for key, values in export.parameters.items()}
    buffers = dict(export.buffers)
    for key in ("scale_shift.scale", "scale_shift.shift", "atomic_energies_fn.atomic_energies"):
        if key in buffers:
            buffers[key] = (
                found[key].reshape(np.shape(buffers[key])) if np.size(buffers[key]) == found[key].size else found[key]
            )
    ours = hyper.model_copy(update={"elements": sorted(hyper.elements)})
    again = convert_mace(replace(export, hyper=ours, parameters=parameters, buffers=buffers)).model
    with h5py.File(DATA / "frames.h5") as file:
        frames = [
            Frame(**{key: file[frame][key][()] for key in ("numbers", "positions", "cell", "pbc")})
            for frame in ("ethanol", "squeezed", "water")
        ]
    for energies, forces in zip(*(Committee([each]).predict(frames) for each in (model, again)), strict=True):
        for ours, theirs in zip(energies, forces, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_hyper_parameters_are_those_that_were_read():
    hyper = exported("default").hyper
    ours = hyper_parameters(convert_mace(exported("default")).model)
    assert ours["r_max"] == hyper.cutoff_ang
    assert ours["hidden_irreps"] == hyper.layers[0].output_irreps
    assert ours["atomic_numbers"] == sorted(hyper.elements)
    assert ours["avg_num_neighbors"] == hyper.layers[0].mean_neighbours


def test_a_file_has_each_member(tmp_path):
    model = convert_mace(exported("default")).model
    write_mace(tmp_path / "two.h5", [model, model])
    with h5py.File(tmp_path / "two.h5") as file:
        assert list(file) == ["member0", "member1"]
        assert json.loads(file["member1"].attrs["hyper_parameters"])["num_interactions"] == 2


def test_a_model_of_one_layer_is_refused(tmp_path):
    with pytest.raises(InputError, match="layers: 1"):
        write_mace(tmp_path / "one.h5", [convert_mace(exported("one_layer")).model])


@pytest.mark.parametrize("kind", ["message", "nequip", "zbl"])
def test_what_mace_torch_has_no_equal_of_is_refused(kind, tiny_model, tiny_config, tmp_path):
    with pytest.raises(InputError, match="mace-torch"):
        write_mace(tmp_path / "member.h5", [tiny_model(tiny_config(kind))])
    assert not (tmp_path / "member.h5").exists()
