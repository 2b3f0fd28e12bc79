"""Weights on disk, the committee found in a campaign, and the ASE calculator."""

import json

import h5py
import numpy as np
import pytest
import torch
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from al_engine.committee.deviation import force_deviation
from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from models import load_committee
from models.storage.weights import TrainedMember, TrainingHistory, read_member, write_member


@pytest.fixture
def campaign(tmp_path, tiny_config, tiny_model):
    """A campaign directory with two complete iterations of three members, and one whose last member is missing."""
    parts = tmp_path / "parts"
    parts.mkdir()
    with h5py.File(tmp_path / "campaign.h5", "w") as ledger:
        for iteration in range(3):
            for k in range(3):
                if (iteration, k) == (2, 2):
                    continue
                name = f"iter{iteration:03d}-member{k}.h5"
                ledger[f"iterations/{iteration:03d}/member{k}"] = h5py.ExternalLink(f"parts/{name}", "/")
                with h5py.File(parts / name, "w") as part:
                    write_member(
                        part.create_group("member"), TrainedMember(tiny_model(tiny_config(), seed=10 * iteration + k))
                    )
    return tmp_path


def test_weights_round_trip(tmp_path, model, evaluate, random_cluster):
    history = TrainingHistory().extended(
        updates=5,
        train_loss=1.0,
        validation_loss=2.0,
        validation_force_mae=0.1,
        validation_energy_mae=0.2,
        learning_rate=0.01,
    )
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_member(file.create_group("member"), TrainedMember(model, history))
    with h5py.File(tmp_path / "m.h5") as file:
        member = read_member(file["member"])
    assert member.model.config == model.config
    assert member.model.constants == model.constants
    assert member.history.validation_loss.tolist() == [2.0]
    frame = random_cluster()
    energy, forces = evaluate(model, frame)
    energy_read, forces_read = evaluate(member.model.freeze(), frame)
    assert energy == energy_read
    assert np.array_equal(forces, forces_read)


@pytest.mark.parametrize(("kind", "fusion"), [("mace", "energy"), ("energy", "energy"), ("message", "message")])
def test_members_of_schema_1_are_still_read(tmp_path, tiny_config, tiny_model, kind, fusion):
    """In schema 1 only `long: null` marked a MACE model, and `fusion` had no effect for it."""
    model = tiny_model(tiny_config(kind))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_member(file.create_group("member"), TrainedMember(model))
        attributes = file["member"].attrs
        config = json.loads(attributes["config"]) | {"fusion": fusion}
        for added in ("kind", "product", "zbl"):
            del config[added]
        attributes["schema"], attributes["config"] = 1, json.dumps(config)
        member = read_member(file["member"])
    assert member.model.config == model.config


@pytest.mark.parametrize("product", ["symmetric", "recursive"])
def test_members_that_name_their_product_basis(tmp_path, tiny_config, tiny_model, product):
    """Earlier versions wrote the product basis; the basis that was removed is refused by name."""
    model = tiny_model(tiny_config("mace"))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_member(file.create_group("member"), TrainedMember(model))
        attributes = file["member"].attrs
        attributes["config"] = json.dumps(json.loads(attributes["config"]) | {"product": product})
        if product == "symmetric":
            assert read_member(file["member"]).model.config == model.config
        else:
            with pytest.raises(
                InputError, match=r"m\.h5:/member is a model with `product: recursive`, which was removed"
            ):
                read_member(file["member"])


def damage_shape(group):
    del group["weights/towers.0.embedding"]
    group["weights/towers.0.embedding"] = np.zeros((2, 2))


def damage_value(group):
    group["weights/towers.0.embedding"][0, 0] = np.nan


def damage_missing(group):
    del group["weights/towers.0.embedding"]


@pytest.mark.parametrize(
    ("damage", "message"), [(damage_shape, "has shape"), (damage_value, "holds values"), (damage_missing, "is missing")]
)
def test_damaged_weights_are_named(tmp_path, model, damage, message):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_member(file.create_group("member"), TrainedMember(model))
        damage(file["member"])
    with pytest.raises(InputError, match=rf"m\.h5:/member/weights/towers\.0\.embedding {message}"):
        load_committee(tmp_path / "m.h5")


def test_latest_complete_iteration_is_loaded(campaign, random_cluster):
    atoms = random_cluster().to_atoms()
    atoms.calc = load_committee(campaign)
    assert atoms.calc.committee.n_members == 3
    latest = atoms.get_potential_energy()
    atoms.calc = load_committee(campaign / "campaign.h5", iteration=1)
    assert atoms.get_potential_energy() == latest
    atoms.calc = load_committee(campaign, iteration=0, device="cpu")
    assert atoms.get_potential_energy() != latest


def test_a_committee_that_is_being_trained_is_not_taken_for_a_committee(campaign):
    """While iteration 0 is trained, no other iteration shows how many members a committee has: the config does."""
    with h5py.File(campaign / "campaign.h5", "r+") as ledger:
        del ledger["iterations/000"], ledger["iterations/001"]
        ledger.attrs["config_json"] = json.dumps({"training": {"members": 3}})
    for iteration in (None, 2):
        with pytest.raises(InputError, match="no complete committee"):
            load_committee(campaign, iteration=iteration)


def test_after_a_structure_that_is_refused_nothing_of_the_last_one_is_answered(campaign, random_cluster):
    calculator = load_committee(campaign, iteration=0)
    frame = random_cluster(6)
    known = frame.to_atoms()
    energy = calculator.get_potential_energy(known)
    unknown, swapped = known.copy(), known.copy()
    unknown.numbers[0] = 79
    swapped.numbers[:] = known.numbers[::-1]
    for _ in range(2):
        with pytest.raises(InputError, match="atomic number 79"):
            calculator.get_potential_energy(unknown)
    assert calculator.get_potential_energy(known) == pytest.approx(energy, abs=1e-9)
    expected = load_committee(campaign, iteration=0).get_potential_energy(swapped)
    assert calculator.get_potential_energy(swapped) == pytest.approx(expected, abs=1e-9)


def test_a_member_that_is_gone_is_named_and_no_older_committee_taken_instead(campaign):
    (campaign / "parts" / "iter001-member1.h5").unlink()
    with pytest.raises(InputError, match=r"campaign\.h5: .*parts/iter001-member1\.h5"):
        load_committee(campaign)
    assert load_committee(campaign, iteration=0).committee.n_members == 3


@pytest.mark.parametrize("name", ["nothing", "campaign.txt", "empty.h5"])
def test_no_committee_is_said_in_a_line(tmp_path, name):
    (tmp_path / "campaign.txt").write_text("not HDF5")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(InputError, match=name):
        load_committee(tmp_path / name)


def test_calculator_against_finite_differences(campaign, random_cluster):
    cluster = random_cluster(6, side=3.5)
    atoms = Frame(numbers=cluster.numbers, positions=cluster.positions, cell=5.0 * np.eye(3), pbc=[True] * 3).to_atoms()
    atoms.calc = load_committee(campaign, device="cpu")
    numerical = calculate_numerical_forces(atoms, eps=1e-4)
    assert np.abs(atoms.get_forces() - numerical).max() < 1e-6
    assert np.abs(atoms.get_stress() - calculate_numerical_stress(atoms, eps=1e-5)).max() < 1e-7


def test_large_frames_are_evaluated_in_domains_with_the_same_result(campaign, random_cluster, monkeypatch):
    cluster = random_cluster(30, side=6.0)
    frame = Frame(cluster.numbers, cluster.positions, cell=7.0 * np.eye(3), pbc=[True] * 3)
    atoms = frame.to_atoms()
    atoms.calc = load_committee(campaign, device="cpu")
    atoms.get_potential_energy()
    expected = atoms.calc.results
    monkeypatch.setattr("models.inference.chunked.WHOLE_ATOMS_CPU", 29)
    atoms.calc = load_committee(campaign, device="cpu")
    atoms.get_potential_energy()
    assert atoms.calc.force_field._bound is None  # nothing was evaluated as a whole
    assert atoms.calc.results.keys() == expected.keys()
    for name, value in atoms.calc.results.items():
        assert np.allclose(value, expected[name], rtol=1e-10, atol=1e-10), name


def test_calculator_reports_the_deviation_of_its_members(campaign, random_cluster):
    frame = random_cluster()
    atoms = frame.to_atoms()
    atoms.calc = load_committee(campaign, device="cpu")
    forces = atoms.get_forces()
    results = atoms.calc.results
    assert results["member_forces"].shape == (3, len(frame), 3)
    assert np.allclose(results["member_forces"].mean(0), forces)
    assert np.allclose(results["force_deviation"], force_deviation(results["member_forces"]).norm)
    assert results["max_force_deviation"] == results["force_deviation"].max() > 0
    assert results["energy_std"] == pytest.approx(np.std(results["member_energies"]))
    assert "stress" not in results

    energies, members = atoms.calc.committee.predict([frame, frame])
    assert np.allclose(energies[:, 1], results["member_energies"])
    assert np.allclose(members[1], results["member_forces"])
    bound = atoms.calc.committee.bind([frame])
    assert np.allclose(bound.member_forces(torch.tensor(frame.positions)).numpy(), results["member_forces"])
