"""Converted models of mace-torch 0.3.16 against predictions of mace-torch itself: see data/README.md."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from al_engine.config import TrainingConfig
from al_engine.errors import ExitStatus, InputError
from al_engine.structures.frames import Frame, LabelledFrame
from models import load_committee
from models.graph.couplings import symmetric_couplings
from models.graph.graph import AtomBatch, neighbour_graph
from models.inference.committee import Committee
from models.interop.convert import main, write_committee
from models.interop.convert_mace import convert_mace
from models.interop.export_mace import _gain
from models.interop.mace_file import MaceExport, read_mace_export, read_mace_group
from models.training.training import train_member

DATA = Path(__file__).parents[1] / "data"
MODELS = (
    "default",
    "plain_scalars",
    "tensors",
    "heads",
    "one_layer",
    "last_readout",
    "repulsion",
    "scaled_repulsion",
    "plain_first",
)
FRAMES = ("ethanol", "glycine", "squeezed", "cluster", "water", "salt", "atom")
PERIODIC = ("water", "salt")


def _export(name) -> MaceExport:
    with h5py.File(DATA / f"mace_{name}.h5") as file:
        return read_mace_group(file["model"])


def _converted(name, **options):
    with h5py.File(DATA / f"mace_{name}.h5") as file:
        return convert_mace(_export(name), head=str(file.attrs["head"]), **options).model


def _frame(name):
    with h5py.File(DATA / "frames.h5") as file:
        return Frame(**{field: file[name][field][()] for field in ("numbers", "positions", "cell", "pbc")})


def _reference(model, frame):
    with h5py.File(DATA / f"mace_{model}.h5") as file:
        return {name: values[()] for name, values in file["predictions"][frame].items()}


def _predicted(model, *frames):
    atoms = AtomBatch.of(frames, model.constants.elements)
    positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames]))
    return model.predict(neighbour_graph(atoms, positions, cutoffs=model.cutoffs), positions)


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_says_what_mace_says(name):
    model = _converted(name)
    for frame_name in FRAMES:
        frame, expected = _frame(frame_name), _reference(name, frame_name)
        predicted = _predicted(model, frame)
        assert float(predicted.energies) == pytest.approx(float(expected["energy"]), rel=1e-12), frame_name
        np.testing.assert_allclose(predicted.forces, expected["forces"], rtol=0, atol=1e-10, err_msg=frame_name)
        if frame_name in PERIODIC:
            np.testing.assert_allclose(predicted.stresses[0], expected["stress"], rtol=0, atol=1e-11)


def test_a_converted_model_says_so_in_a_batch_too():
    model = _converted("default")
    predicted = _predicted(model, *(_frame(name) for name in FRAMES))
    expected = [_reference("default", name) for name in FRAMES]
    np.testing.assert_allclose(predicted.energies, [values["energy"] for values in expected], rtol=1e-12)
    forces = np.concatenate([values["forces"] for values in expected])
    np.testing.assert_allclose(predicted.forces, forces, rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_references_would_notice_a_wrong_body_order(order):
    model = _converted("default")
    with torch.no_grad():
        for layer in model.towers[0].layers:
            for degree, weights in enumerate(layer.product.weights):
                counts = [len(symmetric_couplings(model.config.short.l_max, degree, n)) for n in (1, 2, 3)]
                weights.split(counts, dim=2)[order - 1].zero_()
    wrong = _predicted(model, _frame("glycine")).forces.numpy()
    assert np.abs(wrong - _reference("default", "glycine")["forces"]).max() > 0.01  # eV/Å


def test_the_references_have_forces_worth_comparing():
    for name in MODELS:
        largest = {frame: np.abs(_reference(name, frame)["forces"]).max() for frame in FRAMES if frame != "atom"}
        assert min(largest.values()) > 5e-3, name  # eV/Å; salt's symmetry leaves little
        assert max(largest.values()) > 0.1, name


def test_single_precision_is_close():
    model = _converted("default", dtype="float32")
    expected = _reference("default", "cluster")
    predicted = _predicted(model, _frame("cluster"))
    assert model.config.dtype == "float32"
    assert float(predicted.energies) == pytest.approx(float(expected["energy"]), rel=1e-6)
    np.testing.assert_allclose(predicted.forces, expected["forces"], rtol=0, atol=1e-4)


def _write_exports(directory, *names):
    paths = []
    for name in names:
        paths.append(directory / f"{name}.h5")
        with h5py.File(DATA / f"mace_{name}.h5") as source, h5py.File(paths[-1], "w") as target:
            for key in source["model"]:
                source["model"].copy(key, target)
            target.attrs.update(source["model"].attrs)
    return paths


def test_converted_models_are_a_committee(tmp_path):
    names = ("one_layer", "scaled_repulsion")
    write_committee(_write_exports(tmp_path, *names), tmp_path / "committee.h5")
    calculator = load_committee(tmp_path / "committee.h5", device="cpu")
    atoms = _frame("water").to_atoms()
    atoms.calc = calculator
    forces = atoms.get_forces()
    expected = [_reference(name, "water") for name in names]
    np.testing.assert_allclose(forces, np.mean([e["forces"] for e in expected], axis=0), rtol=0, atol=1e-10)
    np.testing.assert_allclose(calculator.results["member_energies"], [e["energy"] for e in expected], rtol=1e-12)
    voigt = np.mean([e["stress"] for e in expected], axis=0)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(atoms.get_stress(), voigt, rtol=0, atol=1e-11)


def test_the_command_writes_a_committee_or_says_why_not(tmp_path, capsys):
    default, layer, heads = _write_exports(tmp_path, "default", "one_layer", "heads")
    target = tmp_path / "committee.h5"
    assert main([str(layer), "--to", str(target)]) == ExitStatus.DONE
    assert load_committee(target, device="cpu").committee.n_members == 1
    assert main([str(heads), "--head", "gfn2", "--dtype", "float32", "--to", str(target)]) == ExitStatus.DONE
    assert main([str(default), str(layer), "--to", str(tmp_path / "none.h5")]) == ExitStatus.BAD_INPUT
    assert "cut-offs (4.5,)" in capsys.readouterr().err
    assert not (tmp_path / "none.h5").exists()


def test_a_converted_model_is_a_starting_point_for_training():
    member = convert_mace(_export("one_layer"))
    rng = np.random.default_rng(0)
    glycine = _frame("glycine")
    frames = [replace(glycine, positions=glycine.positions + rng.normal(0, 0.05, (10, 3))) for _ in range(6)]
    energies, forces = Committee([member.model]).predict(frames)
    labelled = [LabelledFrame(frame, energies[0, k], forces[k][0]) for k, frame in enumerate(frames)]
    settings = {
        "frames": labelled,
        "model": member.model.config,
        "training": TrainingConfig(batch_size=2, validation_interval=1, learning_rate=1e-9),
        "seed": 0,
        "updates": 1,
        "kernels": False,
    }
    warm, cold = train_member(**settings, start=convert_mace(_export("one_layer"))), train_member(**settings)
    spread = np.abs(np.stack(forces)).mean()
    assert warm.history.validation_force_mae[0] < 1e-6 * spread
    assert cold.history.validation_force_mae[0] > 0.1 * spread
    trained, _ = Committee([warm.model]).predict(frames)
    np.testing.assert_allclose(trained, energies, rtol=0, atol=1e-6)


def test_a_head_is_chosen_by_name():
    export = _export("heads")
    with pytest.raises(InputError, match="heads gfn2, dft"):
        convert_mace(export)
    with pytest.raises(InputError, match=r"no head pbe; it has gfn2, dft"):
        convert_mace(export, head="pbe")
    energies = [
        float(_predicted(convert_mace(export, head=h).model, _frame("ethanol")).energies) for h in export.hyper.heads
    ]
    assert energies[1] == pytest.approx(float(_reference("heads", "ethanol")["energy"]), rel=1e-12)
    assert energies[0] != pytest.approx(energies[1], rel=1e-3)


LAYER_CHANGES = [
    ({"accelerated": True}, "layout of cuEquivariance"),
    ({"interaction": "RealAgnosticInteractionBlock"}, "its interaction is a RealAgnosticInteractionBlock"),
    ({"interaction": "RealAgnosticDensityResidualInteractionBlock"}, "RealAgnosticDensityResidualInteractionBlock"),
    ({"product_adds_skip": False}, "leaves out the skip connection"),
    ({"radial_network": "RadialMLP"}, "its radial network is a RadialMLP"),
    ({"radial_gain": None}, "radial network's activation is not SiLU"),
    ({"radial_widths": [8, 32, 128]}, r"hidden layers \[32\], not those of layer 0"),
    ({"product": "SymmetricContractionWrapper"}, "its product basis is a SymmetricContractionWrapper"),
    ({"correlations": [4]}, "correlation order is 4, above 3"),
    ({"output_irreps": "16x0e+8x1o"}, "not the same number of channels"),
    ({"output_irreps": "16x0e+16x0o"}, "not the same number of channels"),
    ({"output_irreps": "16x0e+16x1o+16x2e+16x3o+16x4e"}, "degree 4, above the spherical harmonics"),
    ({"source_irreps": "16x0e"}, "it takes 16x0e"),
    ({"edge_irreps": "8x0e+8x1o"}, "messages are made of 8x0e"),
    ({"message_irreps": "16x0e+16x1o"}, "its messages are 16x0e"),
]
MODEL_CHANGES = [
    ({"model": "AtomicDipolesMACE"}, "it is a AtomicDipolesMACE"),
    ({"radial_basis": "GaussianBasis"}, "radial basis is GaussianBasis"),
    ({"distance_transform": "AgnesiTransform"}, "distances are transformed"),
    ({"cutoff_on_radial_basis": False}, "apply_cutoff=False"),
    ({"harmonics": "1x0e+1x1e+1x2e"}, "use_so3"),
    ({"harmonics_normalization": "norm"}, "normalization norm"),
    ({"readouts": []}, "0 readouts for 2 layers"),
]


@pytest.mark.parametrize(("change", "message"), LAYER_CHANGES)
def test_a_layer_of_another_kind_is_refused(change, message):
    export = _export("default")
    first, last = export.hyper.layers
    changed = export.hyper.model_copy(update={"layers": [first, last.model_copy(update=change)]})
    with pytest.raises(InputError, match=f"mace_default.h5:/model: layer 1: .*{message}"):
        convert_mace(replace(export, hyper=changed))


@pytest.mark.parametrize(("change", "message"), MODEL_CHANGES)
def test_a_model_of_another_kind_is_refused(change, message):
    export = _export("default")
    with pytest.raises(InputError, match=message):
        convert_mace(replace(export, hyper=export.hyper.model_copy(update=change)))


@pytest.mark.parametrize("change", [{"gain": None}, {"block": "LinearDipoleReadoutBlock"}, {"hidden_irreps": "8x1o"}])
def test_a_readout_of_another_kind_is_refused(change):
    export = _export("default")
    first, last = export.hyper.readouts
    changed = export.hyper.model_copy(update={"readouts": [first, last.model_copy(update=change)]})
    with pytest.raises(InputError, match="readout 1"):
        convert_mace(replace(export, hyper=changed))


@pytest.mark.parametrize(
    ("buffer", "value", "message"),
    [
        ("pair_repulsion_fn.a_exp", 0.23, "another `a_exp`"),
        ("pair_repulsion_fn.p", 6, "another `p`"),
        ("pair_repulsion_fn.covalent_radii", np.ones(3), "another `covalent_radii`"),
    ],
)
def test_another_repulsion_is_refused(buffer, value, message):
    export = _export("repulsion")
    with pytest.raises(InputError, match=message):
        convert_mace(replace(export, buffers=export.buffers | {buffer: np.asarray(value)}))


def test_the_references_would_notice_a_missing_repulsion():
    model = _converted("repulsion")
    model.repulsion = None
    wrong = _predicted(model, _frame("squeezed")).forces.numpy()
    assert np.abs(wrong - _reference("repulsion", "squeezed")["forces"]).max() > 1.0  # eV/Å


def test_a_block_with_an_unknown_name_is_refused():
    export = _export("default")
    blocks = {**export.hyper.blocks, "joint_embedding": "GenericJointEmbedding"}
    with pytest.raises(InputError, match="block `joint_embedding`"):
        convert_mace(replace(export, hyper=export.hyper.model_copy(update={"blocks": blocks})))


def test_weights_that_are_left_over_or_missing_or_misshapen_are_refused():
    export = _export("default")
    known = export.parameters
    name = "interactions.1.linear_up.weight"
    for parameters, message in (
        (known | {"interactions.0.density_fn.layer0.weight": np.ones(8)}, "unknown meaning: interactions.0.density_fn"),
        ({key: values for key, values in known.items() if key != name}, f"{name} is missing"),
        (known | {name: np.ones(7)}, rf"{name} has shape \(7,\)"),
    ):
        with pytest.raises(InputError, match=message):
            convert_mace(replace(export, parameters=parameters))


def test_couplings_outside_our_basis_are_refused():
    export = _export("default")
    name = "products.0.symmetric_contractions.contractions.1.U_matrix_2"
    couplings = export.buffers[name].copy()
    couplings[0, 0, 0] += 0.1  # A_00 squared is no vector
    with pytest.raises(InputError, match=r"layer 0: .*couplings of order 2 to degree 1"):
        convert_mace(replace(export, buffers=export.buffers | {name: couplings}))


def test_files_of_another_kind_are_refused(tmp_path):
    (path,) = _write_exports(tmp_path, "one_layer")
    with pytest.raises(InputError, match=r"none.h5 does not exist"):
        read_mace_export(tmp_path / "none.h5")
    with pytest.raises(InputError, match=r"frames.h5 was not written by export_mace.py or export_nequip.py"):
        read_mace_export(DATA / "frames.h5")
    with h5py.File(path, "a") as file:
        weight = file["parameters/node_embedding.linear.weight"]
        weight[0] = np.nan
    with pytest.raises(InputError, match=r"node_embedding.linear.weight holds values that are not finite"):
        read_mace_export(path)
    with h5py.File(path, "a") as file:
        file.attrs["hyper_parameters"] = '{"versions": {"mace-torch": "0.3.16"}}'
    with pytest.raises(InputError, match="is damaged"):
        read_mace_export(path)
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = 2
    with pytest.raises(InputError, match="has schema 2"):
        read_mace_export(path)


def test_the_exporter_finds_the_gain_of_a_silu_and_no_other_activation():
    silu = torch.nn.functional.silu
    assert _gain(lambda x: 1.7 * silu(x), 3) == pytest.approx(1.7, rel=1e-14)
    assert _gain(torch.tanh, 1) is None
    assert _gain(torch.nn.Identity(), 1) is None
