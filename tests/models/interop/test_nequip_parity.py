"""Converted models of nequip 0.19.1 against predictions of nequip itself: see data/README.md."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from al_engine.errors import ExitStatus, InputError
from al_engine.structures.frames import Frame
from models import load_committee
from models.graph.graph import AtomBatch, neighbour_graph
from models.interop.convert import main
from models.interop.convert_nequip import convert_nequip
from models.interop.nequip_file import read_nequip_export, read_nequip_group

DATA = Path(__file__).parents[1] / "data"
MODELS = ("default", "tensors", "octupoles", "one_layer")
FRAMES = ("ethanol", "glycine", "squeezed", "cluster", "water", "salt", "atom")
PERIODIC = ("water", "salt")


def _export(name):
    with h5py.File(DATA / f"nequip_{name}.h5") as file:
        return read_nequip_group(file["model"])


def _frame(name):
    with h5py.File(DATA / "frames.h5") as file:
        return Frame(**{field: file[name][field][()] for field in ("numbers", "positions", "cell", "pbc")})


def _reference(model, frame):
    with h5py.File(DATA / f"nequip_{model}.h5") as file:
        return {name: values[()] for name, values in file["predictions"][frame].items()}


def _predicted(model, *frames):
    atoms = AtomBatch.of(frames, model.constants.elements)
    positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames]))
    return model.predict(neighbour_graph(atoms, positions, cutoffs=model.cutoffs), positions)


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_says_what_nequip_says(name):
    model = convert_nequip(_export(name)).model
    assert model.config.kind == "nequip"
    for frame_name in FRAMES:
        frame, expected = _frame(frame_name), _reference(name, frame_name)
        predicted = _predicted(model, frame)
        assert float(predicted.energies) == pytest.approx(float(expected["energy"]), rel=1e-12), frame_name
        np.testing.assert_allclose(predicted.forces, expected["forces"], rtol=0, atol=1e-10, err_msg=frame_name)
        if frame_name in PERIODIC:
            np.testing.assert_allclose(predicted.stresses[0], expected["stress"], rtol=0, atol=1e-11)


def test_a_converted_model_says_so_in_a_batch_too():
    predicted = _predicted(convert_nequip(_export("tensors")).model, *(_frame(name) for name in FRAMES))
    expected = [_reference("tensors", name) for name in FRAMES]
    np.testing.assert_allclose(predicted.energies, [values["energy"] for values in expected], rtol=1e-12)
    forces = np.concatenate([values["forces"] for values in expected])
    np.testing.assert_allclose(predicted.forces, forces, rtol=0, atol=1e-10)


@pytest.mark.parametrize("block", ["skip.weights.0", "skip.weights.1", "skip.weights.2", "messages.0.up.weights.2"])
def test_the_references_would_notice_what_a_layer_leaves_out(block):
    """Self-connections of every degree, gates, and features between the layers all contribute to the forces."""
    model = convert_nequip(_export("tensors")).model
    with torch.no_grad():
        model.towers[0].layers[1].get_parameter(block).zero_()
    wrong = _predicted(model, _frame("glycine")).forces.numpy()
    assert np.abs(wrong - _reference("tensors", "glycine")["forces"]).max() > 1e-3  # eV/Å


def test_single_precision_is_close():
    model = convert_nequip(_export("default"), dtype="float32").model
    expected = _reference("default", "cluster")
    predicted = _predicted(model, _frame("cluster"))
    assert float(predicted.energies) == pytest.approx(float(expected["energy"]), rel=1e-6)
    np.testing.assert_allclose(predicted.forces, expected["forces"], rtol=0, atol=1e-4)


def _write_export(directory, name):
    path = directory / f"{name}.h5"
    with h5py.File(DATA / f"nequip_{name}.h5") as source, h5py.File(path, "w") as target:
        for key in source["model"]:
            source["model"].copy(key, target)
        target.attrs.update(source["model"].attrs)
    return path


def test_the_command_makes_a_committee_that_loads(tmp_path, capsys):
    default, tensors = (_write_export(tmp_path, name) for name in ("default", "tensors"))
    target = tmp_path / "committee.h5"
    assert main([str(default), str(default), "--to", str(target)]) == ExitStatus.DONE
    atoms = _frame("ethanol").to_atoms()
    atoms.calc = load_committee(target, device="cpu")
    assert atoms.get_potential_energy() == pytest.approx(float(_reference("default", "ethanol")["energy"]), rel=1e-12)
    assert atoms.calc.results["max_force_deviation"] == pytest.approx(0.0, abs=1e-12)
    with h5py.File(tensors, "a") as file:
        hyper = file.attrs["hyper_parameters"].replace('"cutoff_ang": 4.5', '"cutoff_ang": 4.0')
        file.attrs["hyper_parameters"] = hyper
    assert main([str(default), str(tensors), "--to", str(tmp_path / "none.h5")]) == ExitStatus.BAD_INPUT
    assert "a committee must share them" in capsys.readouterr().err
    assert not (tmp_path / "none.h5").exists()


def test_features_of_both_parities_are_refused():
    with pytest.raises(InputError, match=r"nequip_parity.h5:/model: layer 1: .* natural parity \(`parity: false`\)"):
        convert_nequip(_export("parity"))


MODEL_CHANGES = [
    ({"graph_fields": ["charge"]}, "it depends on charge of the structure"),
    ({"type_names": ["C", "Cl", "F", "H", "N", "Na", "Ow"]}, "atom types Ow"),
    ({"cutoff_per_edge_type": True}, "cut-offs per edge type"),
    ({"bessel_multiples": [1.0, 2.1]}, "roots of its Bessel functions were trained"),
    ({"cutoff_function": "CosineCutoff"}, "cut-off function is CosineCutoff"),
    ({"harmonics": "1x0e+1x1e"}, "spherical harmonics are 1x0e"),
    ({"harmonics_normalization": "norm"}, "normalization norm"),
    ({"readout_widths": [8, 4, 1]}, r"readout has hidden layers \[4\]"),
]
LAYER_CHANGES = [
    ({"nonlinearity": "NormActivation"}, "not a gate"),
    ({"gains": [1.0]}, "not SiLU"),
    ({"residual": True}, "convnet_resnet"),
    ({"self_connection": False}, "it has no self-connection"),
    ({"radial_activations": ["Mish"]}, "activation Mish"),
    ({"radial_widths": [6, 16, 88]}, r"hidden layers \[16\], not those of layer 0"),
    ({"features_out": "8x0e+4x1o+2x2e"}, "not 8 channels of each degree"),
    ({"couplings": [(0, 0, 0)]}, "its couplings are"),
    ({"coupling_factors": [1.0]}, "couplings were expected"),
]


@pytest.mark.parametrize(("change", "message"), MODEL_CHANGES)
def test_a_model_of_another_kind_is_refused(change, message):
    export = _export("tensors")
    with pytest.raises(InputError, match=message):
        convert_nequip(replace(export, hyper=export.hyper.model_copy(update=change)))


@pytest.mark.parametrize(("change", "message"), LAYER_CHANGES)
def test_a_layer_of_another_kind_is_refused(change, message):
    export = _export("tensors")
    first, second, last = export.hyper.layers
    layers = [first, second.model_copy(update=change), last]
    with pytest.raises(InputError, match=f"layer 1: .*{message}"):
        convert_nequip(replace(export, hyper=export.hyper.model_copy(update={"layers": layers})))


def test_a_block_with_an_unknown_name_is_refused():
    export = _export("tensors")
    hyper = export.hyper.model_copy(update={"blocks": {**export.hyper.blocks, "pair_potential": "ZBL"}})
    with pytest.raises(InputError, match="block `pair_potential` is ZBL"):
        convert_nequip(replace(export, hyper=hyper))


def test_constants_that_differ_between_elements_and_weights_that_are_missing_or_misshapen_are_refused():
    export = _export("tensors")
    name = "layers/1/up/1o"
    for weights, message in (
        (export.weights | {"scales": np.arange(7.0)}, "energy scales differ"),
        (export.weights | {"layers/2/neighbour_factors": np.arange(7.0)}, "layer 2: its neighbour counts differ"),
        ({key: values for key, values in export.weights.items() if key != name}, f"{name} is missing"),
        (export.weights | {name: np.ones((8, 7))}, r"layers/1/up/1o has shape \(8, 7\), \(8, 8\) was expected"),
        (export.weights | {"layers/1/fuse/1o": np.ones((9, 8))}, r"fuse/1o has shape \(9, 8\)"),
        (export.weights | {"layers/1/skip/0e": np.ones(5)}, r"skip/0e has shape \(5,\), \(8, 8, any\) was expected"),
        (export.weights | {"layers/1/radial/0": np.ones((6, 7))}, r"radial/0 has shape \(6, 7\)"),
        (export.weights | {"embedding": np.ones((6, 8))}, r"embedding has shape \(6, 8\)"),
        (export.weights | {"shifts": np.ones(3)}, r"shifts has shape \(3,\), \(7\) was expected"),
    ):
        with pytest.raises(InputError, match=message):
            convert_nequip(replace(export, weights=weights))


def test_files_of_another_kind_are_refused(tmp_path):
    path = _write_export(tmp_path, "one_layer")
    with pytest.raises(InputError, match=r"none.h5 does not exist"):
        read_nequip_export(tmp_path / "none.h5")
    with pytest.raises(InputError, match=r"frames.h5 was not written by export_mace.py or export_nequip.py"):
        read_nequip_export(DATA / "frames.h5")
    with (
        pytest.raises(InputError, match=r"was not written by export_nequip.py, but by export_mace.py"),
        h5py.File(DATA / "mace_one_layer.h5") as file,
    ):
        read_nequip_group(file["model"])
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match=r"text.h5: damaged"):
        read_nequip_export(tmp_path / "text.h5")
    with h5py.File(path, "a") as file:
        file["embedding"][0] = np.nan
    with pytest.raises(InputError, match=r"embedding holds values that are not finite"):
        read_nequip_export(path)
    with h5py.File(path, "a") as file:
        file.attrs["hyper_parameters"] = '{"versions": {"nequip": "0.19.1"}}'
    with pytest.raises(InputError, match="is damaged"):
        read_nequip_export(path)
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = 2
    with pytest.raises(InputError, match="has schema 2"):
        read_nequip_export(path)
