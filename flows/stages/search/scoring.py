"""Stage `iterNNN-evaluation`: the committee against the test set, and against new labels before training on them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.scores import INTERIOR, SYSTEM, SYSTEMS, Labelled, read_new, read_test
from al_engine.committee.predictions import Errors, FrameScores, accuracy, force_differences, score_frames
from al_engine.structures.frames import FloatArray, LabelledFrame
from al_engine.units import GPA_PER_EV_PER_ANG3
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.training import load_committee

if TYPE_CHECKING:
    from models.inference.committee import Committee


EVALUATION_BATCH = 16  # frames per batch: with 120 atoms each, a batch still fits a laptop's memory


def plan(ledger: Ledger, iteration: int) -> Stage:
    """The stage that scores an iteration; the chosen frames must be labelled."""
    parents = (
        names.INITIAL_DATASET,
        *names.members(iteration, ledger.config.training.members),
        names.selection(iteration),
        *(path.stem for path in ledger.label_parts(names.selection(iteration))),
    )
    return Stage(
        name=names.evaluation(iteration),
        job=f"{__name__}:score",
        inputs={},
        parents=parents,
        arguments={"iteration": iteration},
    )


def score(work: Work, *, iteration: int) -> None:
    """Predict all labels of the test set and all new labels, and write the predictions and their errors."""
    committee = load_committee(work.parts, work.config, iteration, work.device, evaluations=0)
    groups = {"test": read_test(work.parts, work.config), "new": read_new(work.parts, work.config, iteration)}
    with work.write() as root:
        for done, (name, labelled) in enumerate(groups.items()):
            write_scores(root.create_group(name), committee, labelled)
            work.progress(done + 1, len(groups))
        test = root["test"].attrs
        forces, energy = test["force_mae_mev_per_ang"], test["energy_mae_mev_per_atom"]
        stress = f", stress {test['stress_mae_gpa']:.3f} GPa" if "stress_mae_gpa" in test else ""
        summarise(root, f"test set: forces {forces:.1f} meV/Å, energy {energy:.2f} meV/atom{stress}")


def write_scores(group: h5py.Group, committee: "Committee", labelled: Labelled) -> None:
    """Write labels and all members' predictions, the deviation and error of each frame, and the MAEs.

    Of clusters cut from boxes, deviations and errors are written twice: over all atoms, and over the interior in the
    group `INTERIOR`. Calibration and record use the interior, because the window acts on the deviation in the box.

    Args:
        group: An empty group.
        committee: The committee.
        labelled: The labelled frames.
        atoms: Atoms of each frame that count for its deviation and error, ascending, each shape (n,); None: all atoms.
    """
    frames = labelled.frames
    energies, forces = committee.predict([item.frame for item in frames], batch_size=EVALUATION_BATCH)
    references = [item.forces for item in frames]
    group["n_atoms"] = np.array([len(item) for item in frames], dtype="<i8")
    group["temperature_kelvin"] = labelled.temperature_kelvin
    if labelled.system is not None:
        group[SYSTEM], group.attrs[SYSTEMS] = labelled.system, labelled.systems
    group["energy_reference"] = np.array([item.energy for item in frames], dtype="<f8")
    group["energy_members"] = energies
    group["energy_predicted"] = energies.mean(axis=0)
    none = np.empty((committee.n_members, 0, 3))
    members = np.concatenate([none, *forces], axis=1)
    group["forces_reference"] = np.concatenate([np.empty((0, 3)), *references])
    group["forces_members"] = members.astype("<f4")  # single precision suffices for meV/Å
    group["forces_predicted"] = members.mean(axis=0)
    _write_frame_scores(group, score_frames(forces, references, members=committee.n_members))
    if frames:
        mean = accuracy(energies.mean(axis=0), [frame_forces.mean(axis=0) for frame_forces in forces], frames)
        group.attrs["energy_mae_mev_per_atom"] = mean.energy_mev_per_atom.mae
        group.attrs["force_mae_mev_per_ang"] = mean.forces_mev_per_ang.mae
    if any(item.stress is not None for item in frames):
        _write_stresses(group, committee, frames)
    if labelled.system is not None:
        _write_system_errors(group, labelled, energies, forces)
    if labelled.interior is not None:
        inner = group.create_group(INTERIOR)
        inner["atoms"] = np.concatenate([np.empty(0, dtype=bool), *labelled.interior])
        scores = score_frames(forces, references, members=committee.n_members, where=labelled.interior)
        _write_frame_scores(inner, scores)
        if frames:
            differences = force_differences([frame_forces.mean(axis=0) for frame_forces in forces], frames)
            of_interior = [d[atoms] for d, atoms in zip(differences, labelled.interior, strict=True)]
            inner.attrs["force_mae_mev_per_ang"] = Errors.of(np.concatenate(of_interior)).mae


def _write_stresses(group: h5py.Group, committee: "Committee", frames: Sequence[LabelledFrame]) -> None:
    """Write the stresses of the labels and of the committee's mean, and the MAE of their components."""
    unknown = np.full((3, 3), np.nan)
    reference = np.array([unknown if item.stress is None else item.stress for item in frames])
    predicted = committee.stresses([item.frame for item in frames], batch_size=EVALUATION_BATCH)
    group["stress_reference"], group["stress_predicted"] = reference, predicted
    group.attrs["stress_mae_gpa"] = GPA_PER_EV_PER_ANG3 * float(np.nanmean(np.abs(predicted - reference)))


def _write_system_errors(
    group: h5py.Group, labelled: Labelled, energies: FloatArray, forces: Sequence[FloatArray]
) -> None:
    """Write the MAEs on the frames of each system; NaN for a system without frames."""
    errors = np.full((2, len(labelled.systems)), np.nan)
    for index in range(len(labelled.systems)):
        own = np.flatnonzero(labelled.system == index)
        if len(own):
            frames = [labelled.frames[i] for i in own.tolist()]
            mean = accuracy(energies[:, own].mean(axis=0), [forces[i].mean(axis=0) for i in own.tolist()], frames)
            errors[:, index] = mean.forces_mev_per_ang.mae, mean.energy_mev_per_atom.mae
    group["system_force_mae_mev_per_ang"], group["system_energy_mae_mev_per_atom"] = errors


def _write_frame_scores(group: h5py.Group, scores: FrameScores) -> None:
    for name in scores.__slots__:
        group[name] = getattr(scores, name)
