"""Training learns GFN2-xTB labels, is reproducible bit for bit, and survives being killed."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from tblite.interface import Calculator

from al_engine.config import ModelConfig, PathConfig, TrainingConfig
from al_engine.errors import InputError
from al_engine.structures.frames import Frame, LabelledFrame
from models.inference.committee import Committee
from models.ms_mace import MSMACE
from models.storage.weights import TrainedMember
from models.tracing.replay import Replay
from models.training import trainer
from models.training.constants import constants_from_data, energies_per_element
from models.training.dataset import TrainingSet
from models.training.trainer import Errors, Trainer, virial_errors
from models.training.training import train_member

TRAINING = TrainingConfig(batch_size=4, validation_interval=20, validation_share=0.2, patience=100)


def weights_of(member):
    return torch.cat([p.detach().flatten() for p in member.model.parameters()])


@pytest.fixture(scope="module")
def water():
    """Distorted water molecules with GFN2-xTB labels."""
    rng = np.random.default_rng(0)
    equilibrium = molecule("H2O")
    frames = []
    for _ in range(40):
        positions = equilibrium.positions + rng.normal(scale=0.06, size=(3, 3))
        calculator = Calculator("GFN2-xTB", equilibrium.numbers, positions / units.Bohr)
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
        frames.append(
            LabelledFrame(
                Frame(numbers=equilibrium.numbers, positions=positions),
                float(result["energy"]) * units.Hartree,
                -result["gradient"] * units.Hartree / units.Bohr,
            )
        )
    return frames


@pytest.fixture
def small(tiny_config):
    path = PathConfig(cutoff_ang=3.0, channels=6, l_max=1, radial_mlp=[8])
    return tiny_config(short=path, dtype="float32")


def force_mae(member, frames):
    _, forces = Committee([member.model]).predict([item.frame for item in frames])
    return np.mean([np.abs(f[0] - item.forces).mean() for f, item in zip(forces, frames, strict=True)])


def test_training_that_does_not_improve_stops_early_with_default_settings(water, small, monkeypatch):
    """The first validation is the best, because updates are skipped."""

    def nothing(trainer, _batch):
        trainer.optimizer.updates += 1
        return torch.zeros(())

    monkeypatch.setattr(Trainer, "update", nothing)
    monkeypatch.setattr(Trainer, "errors", lambda *_: Errors(loss=1.0, force_mae=0.1, energy_mae=0.1))
    default = TrainingConfig()
    member = train_member(frames=water, model=small, training=default, seed=0, updates=default.updates)
    last = (1 + default.patience) * default.validation_interval
    assert member.history.updates[-1] == last
    assert last < default.updates


def together(first, second):
    """Two labelled molecules far apart as a single frame."""
    positions = np.concatenate([first.frame.positions, second.frame.positions + np.array([50.0, 0.0, 0.0])])
    numbers = np.concatenate([first.frame.numbers, second.frame.numbers])
    forces = np.concatenate([first.forces, second.forces])
    return LabelledFrame(Frame(numbers=numbers, positions=positions), first.energy + second.energy, forces)


@pytest.mark.parametrize("mixed", [False, True])
def test_replayed_updates_give_the_same_weights_bit_for_bit(water, small, monkeypatch, mixed):
    """Updates are traced for the first layouts of batches; batches of mixed sizes have many layouts."""
    frames = [*water[:20], *map(together, water[20:30], water[30:])] if mixed else water
    made = []
    monkeypatch.setattr(trainer, "Replay", lambda *args, **options: made.append(Replay(*args, **options)) or made[-1])
    monkeypatch.setattr(trainer, "UPDATES_BEFORE_REPLAY", 3)
    members = []
    for pays_after in (10**9, 0):
        monkeypatch.setattr(trainer, "REPLAY_PAYS_AFTER", pays_after)
        members.append(train_member(frames=frames, model=small, training=TRAINING, seed=1, updates=60))
    assert torch.equal(*map(weights_of, members))
    np.testing.assert_array_equal(*(member.history.train_loss for member in members))
    assert len(made) == (trainer.MOST_LAYOUTS if mixed else 1)
    assert any(replay.active for replay in made)
    assert not any(replay.failed for replay in made)


def test_training_learns_xtb_forces_and_a_warm_start_goes_on(water, small):
    train, test = water[:30], water[30:]
    spread = np.mean([np.abs(item.forces).mean() for item in test])
    untrained = TrainedMember(MSMACE(small, constants_from_data(train, small), seed=0))
    member = train_member(frames=train, model=small, training=TRAINING, seed=0, updates=300)
    assert force_mae(untrained, test) > 0.5 * spread
    assert force_mae(member, test) < 0.1 * spread
    history = member.history
    assert history.updates[-1] == 300
    assert history.validation_loss.min() < 0.1 * history.validation_loss[0]

    warm = train_member(frames=train, model=small, training=TRAINING, seed=1, updates=20, start=member)
    cold = train_member(frames=train, model=small, training=TRAINING, seed=1, updates=20)
    assert warm.history.validation_loss[0] < 0.2 * cold.history.validation_loss[0]
    assert warm.model.constants.scale == member.model.constants.scale
    assert warm.model.constants.mean_neighbours == member.model.constants.mean_neighbours

    energies, _ = Committee([member.model]).predict([item.frame for item in train])
    errors = energies[0] - [item.energy for item in train]
    assert abs(errors.mean()) < 0.1 * np.abs(errors).mean() + 1e-3  # E0s have absorbed the offset


def test_interrupted_training_ends_with_the_same_bits(water, small, tmp_path):
    class Killed(Exception):  # noqa: N818  # stands for a kill, not for an error
        pass

    def kill_at_40(done, total, note=""):
        del total, note
        if done == 50:
            raise Killed

    settings = {"frames": water, "model": small, "seed": 5, "updates": 80}
    short_reports = TRAINING.model_copy(update={"validation_interval": 10})
    undisturbed = train_member(**settings, training=short_reports)
    checkpoint = tmp_path / "training.h5"
    with pytest.raises(Killed):
        train_member(**settings, training=short_reports, checkpoint=checkpoint, key="a", progress=kill_at_40)
    with h5py.File(checkpoint) as file:
        assert file.attrs["updates"] == 50
    reported = []
    resumed = train_member(
        **settings,
        training=short_reports,
        checkpoint=checkpoint,
        key="a",
        progress=lambda done, _total, note="": reported.append((done, note)),
    )
    assert reported[0][0] == 60  # it did go on, not start over
    assert torch.equal(weights_of(resumed), weights_of(undisturbed))
    assert np.array_equal(resumed.history.validation_loss, undisturbed.history.validation_loss)

    settings |= {"seed": 6, "updates": 20}
    other = train_member(**settings, training=short_reports, checkpoint=checkpoint, key="b")
    again = train_member(**settings, training=short_reports)
    assert torch.equal(weights_of(other), weights_of(again))  # a checkpoint of other inputs is ignored
    assert not torch.equal(weights_of(other), weights_of(resumed))


def test_a_damaged_checkpoint_is_ignored(water, small, tmp_path):
    checkpoint = tmp_path / "training.h5"
    checkpoint.write_bytes(b"not HDF5")
    settings = {"frames": water[:6], "model": small, "training": TRAINING, "seed": 0, "updates": 3}
    assert torch.equal(
        weights_of(train_member(**settings, checkpoint=checkpoint)), weights_of(train_member(**settings))
    )


def test_batches_reproduce_the_model(model, random_cluster):
    """Stored geometry and the chain rule give the energies and forces of the model itself."""
    rng = np.random.default_rng(0)
    frames = [random_cluster(n, seed=n) for n in (5, 9, 7, 9)]
    frames.append(Frame(numbers=frames[0].numbers, positions=frames[0].positions, cell=5.0 * np.eye(3), pbc=[True] * 3))
    labelled = [LabelledFrame(f, rng.normal(), rng.normal(size=(len(f), 3))) for f in frames]
    batch = TrainingSet(labelled, model, device=torch.device("cpu")).batch(np.array([3, 0, 4]))
    energies, forces = batch.predict(model, differentiable=False)
    chosen = [labelled[k] for k in (3, 0, 4)]
    expected_energies, expected_forces = Committee([model]).predict([item.frame for item in chosen])
    scale = model.constants.scale
    residuals = scale * (energies - batch.energies).detach().numpy()
    assert np.allclose(residuals, expected_energies[0] - [item.energy for item in chosen], atol=1e-10)
    force_residuals = scale * batch.graph.to_atoms((forces - batch.forces).detach()).numpy()
    expected = np.concatenate([f[0] - item.forces for f, item in zip(expected_forces, chosen, strict=True)])
    assert np.allclose(force_residuals, expected, atol=1e-10)


def test_neighbour_lists_of_a_batch_are_as_wide_as_its_frames_need(model, random_cluster):
    """A dense box in the set does not widen the batches of clusters."""
    clusters = [random_cluster(n, seed=n) for n in (5, 9)]
    box = Frame(numbers=clusters[0].numbers, positions=clusters[0].positions, cell=4.0 * np.eye(3), pbc=[True] * 3)
    labelled = [LabelledFrame(f, 0.0, np.zeros((len(f), 3))) for f in [*clusters, box]]
    mixed, alone = (TrainingSet(part, model, device=torch.device("cpu")) for part in (labelled, labelled[:2]))
    batch = mixed.batch(np.array([0, 1]))
    assert batch.graph.columns == alone.graph.columns < mixed.graph.columns
    energies, forces = batch.predict(model, differentiable=False)
    expected_energies, expected_forces = alone.batch(np.array([0, 1])).predict(model, differentiable=False)
    torch.testing.assert_close(energies, expected_energies)
    torch.testing.assert_close(forces, expected_forces)


def test_virials_of_a_batch_are_the_stresses_of_the_model(model, random_cluster):
    """With and without a stress, in cells of any shape; labels equal to the model leave no error."""
    rng = np.random.default_rng(0)
    cells = [5.0 * np.eye(3) + rng.normal(scale=0.3, size=(3, 3)) for _ in range(3)]
    clusters = [random_cluster(n, seed=n) for n in (5, 9, 7)]
    boxes = [replace(frame, cell=cell, pbc=[True] * 3) for frame, cell in zip(clusters, cells, strict=True)]
    stresses = []
    for frame in boxes:
        bound = Committee([model]).bind([frame])
        stresses.append(bound.predictions(torch.from_numpy(frame.positions.copy()))[0].stresses[0].detach().numpy())
    labelled = [
        *(LabelledFrame(f, 0.0, np.zeros((len(f), 3)), stress) for f, stress in zip(boxes, stresses, strict=True)),
        LabelledFrame(clusters[0], 0.0, np.zeros((len(clusters[0]), 3))),
    ]
    data = TrainingSet(labelled, model, device=torch.device("cpu"))
    batch = data.batch(np.array([2, 3, 0]))
    _, _, virials = batch.predict_with_virials(model, differentiable=False)
    volume = [abs(np.linalg.det(boxes[k].cell)) for k in (2, 0)]
    found = model.constants.scale * virials.detach().numpy()[[0, 2]] / np.array(volume)[:, None, None]
    assert np.allclose(found, [stresses[2], stresses[0]], atol=1e-12)
    assert np.allclose(virial_errors(batch, virials).detach(), 0.0, atol=1e-20)
    without = TrainingSet([replace(item, stress=None) for item in labelled], model, device=torch.device("cpu"))
    assert without.batch(np.array([2, 3, 0])).predict_with_virials(model, differentiable=False)[2] is None


def test_a_frame_of_weight_two_counts_as_two_frames(model, random_cluster):
    """In the loss of energies, forces and stresses, and in the fit of E0s."""
    rng = np.random.default_rng(3)
    frames = [
        LabelledFrame(
            replace(random_cluster(7, seed=seed), cell=7.0 * np.eye(3), pbc=[True] * 3),
            rng.normal(),
            rng.normal(size=(7, 3)),
            rng.normal(size=(3, 3)),
        )
        for seed in (1, 2)
    ]
    weighted, twice = [replace(frames[0], weight=2.0), frames[1]], [frames[0], frames[0], frames[1]]
    losses = []
    for set_ in (weighted, twice):
        batch = TrainingSet(set_, model, device=torch.device("cpu")).batch(np.arange(len(set_)))
        trainer = Trainer(model, TrainingConfig(), peak=0.01, updates=1)
        loss = trainer.loss(batch, *batch.predict_with_virials(model, differentiable=False))
        losses.append(len(set_) * float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    fits = [
        energies_per_element(set_, np.array([item.energy for item in set_]), model.constants.elements)
        for set_ in (weighted, twice)
    ]
    np.testing.assert_allclose(*fits, atol=1e-9)


def test_training_on_stresses_lowers_their_errors(tiny_config):
    """Labels of a pair potential; the energy and forces of a box say little of its stress."""
    rng = np.random.default_rng(4)
    frames = []
    for _ in range(24):
        atoms = bulk("Ar", "fcc", a=5.2, cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.04, size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = LennardJones(sigma=3.3, epsilon=0.5, rc=6.0, smooth=True)
        frame = Frame.from_atoms(atoms)
        stress = atoms.get_stress(voigt=False)
        frames.append(LabelledFrame(frame, atoms.get_potential_energy(), atoms.get_forces(), stress))
    errors = []
    for weight in (0.0, 100.0):
        training = TrainingConfig(batch_size=4, validation_interval=50, stress_weight=weight, optimizer="adam")
        model = tiny_config(short=PathConfig(cutoff_ang=4.5, channels=4, l_max=1, radial_mlp=[8]))
        trained = train_member(frames=frames, model=model, training=training, seed=1, updates=150).model
        bound = Committee([trained]).bind([item.frame for item in frames])
        positions = torch.from_numpy(np.concatenate([item.frame.positions for item in frames]))
        predicted = bound.predictions(positions)[0].stresses.detach().numpy()
        errors.append(np.abs(predicted - [item.stress for item in frames]).mean())
    assert errors[1] < 0.6 * errors[0]


def test_reference_energies_are_found_where_the_data_determine_them(small):
    rng = np.random.default_rng(1)
    true = {1: -10.0, 6: -50.0, 8: -100.0}
    frames = []
    for _ in range(12):
        numbers = rng.choice([1, 6, 8], 5)
        frame = Frame(numbers=numbers, positions=2.0 * np.arange(15).reshape(5, 3))
        frames.append(LabelledFrame(frame, sum(true[z] for z in numbers.tolist()), rng.normal(size=(5, 3))))
    constants = constants_from_data(frames, small)
    assert constants.elements == (1, 6, 8)
    assert np.allclose(constants.reference_energies, [-10.0, -50.0, -100.0])


def test_one_composition_gives_the_mean_energy(water, small):
    constants = constants_from_data(water, small)
    total = 2 * constants.reference_energies[0] + constants.reference_energies[1]
    assert total == pytest.approx(np.mean([item.energy for item in water]))


def test_too_few_frames_is_said(water, small):
    with pytest.raises(InputError, match="at least 2 frames"):
        train_member(frames=water[:1], model=small, training=TRAINING, seed=0, updates=1)


def test_a_member_that_diverges_begins_again_slower(water, small, tmp_path):
    """The result is that of training at the lower rate from the beginning, also after a kill in between."""
    fast = TRAINING.model_copy(update={"learning_rate": 0.8})
    saved = []

    def progress(_done, _total, note=""):
        saved.append(note)
        if "again" in note:
            (tmp_path / "then").write_bytes((tmp_path / "now").read_bytes())

    member = train_member(
        frames=water, model=small, training=fast, seed=0, updates=60, checkpoint=tmp_path / "now", progress=progress
    )
    restarts = sum("diverged" in note for note in saved)
    assert restarts > 0, saved
    slower = fast.model_copy(update={"learning_rate": 0.8 * 0.5**restarts})
    from_the_first = train_member(frames=water, model=small, training=slower, seed=0, updates=60)
    assert torch.equal(weights_of(member), weights_of(from_the_first))
    resumed = train_member(frames=water, model=small, training=fast, seed=0, updates=60, checkpoint=tmp_path / "then")
    assert torch.equal(weights_of(resumed), weights_of(member))


def test_what_diverges_at_every_rate_is_said(water, small):
    hopeless = [
        LabelledFrame(item.frame, item.energy, item.forces * np.where(k, 1.0, 1e9)) for k, item in enumerate(water)
    ]
    far = TRAINING.model_copy(update={"learning_rate": 1.0})
    with pytest.raises(InputError, match=r"diverged.*learning_rate"):
        train_member(frames=hopeless, model=small, training=far, seed=0, updates=60)


def test_training_begins_with_forces_no_larger_than_the_labels(water):
    """With linear radial functions and bonded neighbours random weights may give forces a million times too large."""
    path = PathConfig(cutoff_ang=5.0, channels=16, l_max=2, radial_mlp=[])
    config = ModelConfig(kind="mace", short=path)
    constants = constants_from_data(water, config)
    seed = 21
    assert force_mae(TrainedMember(MSMACE(config, constants, seed=seed)), water) > 100 * constants.scale
    held = TRAINING.model_copy(update={"learning_rate": 1e-9})
    member = train_member(frames=water, model=config, training=held, seed=seed, updates=1)
    assert force_mae(member, water) < 2 * constants.scale
