"""The part that ends an iteration, and the iteration's record, made from the parts of the other stages."""

from collections.abc import Sequence

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.judged import judged_temperatures
from al_engine.campaign.labels import Labels, read_labels
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.samples import sampled_steps
from al_engine.campaign.scores import SYSTEM, SYSTEMS, assess, box_scores
from al_engine.config import CampaignConfig, SelectionConfig
from al_engine.files.frames_hdf5 import write_labelled
from al_engine.selection.fates import Fate
from al_engine.selection.window import Window
from al_engine.verdict.records import IterationRecord, SystemErrors, TemperatureRecord
from al_engine.verdict.unlabelable import mostly_without_label, without_label


def write_iteration(
    root: h5py.File, parts: PartReader, config: CampaignConfig, *, iteration: int, seconds: float
) -> IterationRecord:
    """Fill the append part of an iteration: its new labels, the final fate of every sampled frame, its record.

    Args:
        root: The empty part.
        parts: The parts of the iteration, and the data set before it.
        config: The campaign's config.
        iteration: Number of the iteration, which has been sampled, selected, labelled and scored.
        seconds: Wall time since the iteration was started or resumed, s.

    Returns:
        The record, which is also stored in the part.
    """
    labels = read_labels(parts.path(name) for name in parts.label_chunks(names.selection(iteration)))
    with parts.open(names.selection(iteration)) as selected:
        fates, chosen = selected["fate"][()], selected["chosen"][()]
    for index, frame_index in enumerate(chosen):
        if index not in labels.labelled:
            fates[frame_index] = Fate.LABEL_FAILED
    write_labelled(root.create_group("labelled"), list(labels.labelled.values()))
    root["fate"] = fates
    root.attrs["fates"] = [fate.name.lower() for fate in Fate]
    record = iteration_record(parts, config, iteration, fates=fates, labels=labels)
    root.attrs["record"] = record.to_json()
    root.attrs["iteration_seconds"] = seconds
    return record


def iteration_record(
    parts: PartReader, config: CampaignConfig, iteration: int, *, fates: np.ndarray, labels: Labels
) -> IterationRecord:
    """The record of an iteration that is about to be appended.

    Args:
        parts: The parts of the iteration, and the data set before it.
        config: The campaign's config.
        iteration: Number of the iteration, which has been sampled, selected and scored.
        fates: Final fate of every sampled frame, including failed labels.
        labels: The labels of the chosen frames.
    """
    samples = names.samples(iteration, config.state_points)
    deviation = config.selection.deviation
    with parts.open(names.selection(iteration)) as root:
        window = Window.from_attributes(root.attrs)
    with parts.open(names.evaluation(iteration)) as root:
        test, new = dict(root["test"].attrs), dict(box_scores(root["new"]).attrs)
        systems = _system_errors(root["test"])
        assessed = assess(root, window=window, deviation=deviation)
    temperatures = judged_temperatures(parts, config, [iteration], [fates])
    return IterationRecord(
        iteration=iteration,
        temperatures=temperatures,
        labelled=len(labels.labelled),
        label_failures=labels.failures,
        dataset_size=parts.dataset_size(before=iteration) + len(labels.labelled),
        error_before_training_mev_per_ang=new.get("force_mae_mev_per_ang"),
        test_force_mae_mev_per_ang=test["force_mae_mev_per_ang"],
        test_energy_mae_mev_per_atom=test["energy_mae_mev_per_atom"],
        steps=max(sampled_steps(parts, sample) for sample in samples),
        window=window,
        calibration=assessed.calibration,
        health=assessed.health,
        systems=systems,
        test_stress_mae_gpa=None if "stress_mae_gpa" not in test else float(test["stress_mae_gpa"]),
        failure_words=labels.failure_words(),
        warnings=(
            *_label_warning(labels),
            *_candidate_warning(temperatures, config.selection),
            *assessed.warnings,
        ),
    )


def _system_errors(test: h5py.Group) -> tuple[SystemErrors, ...]:
    """Test errors of each system; empty in a campaign of one system."""
    if SYSTEM not in test:
        return ()
    columns = (test[f"system_{name}"][()].tolist() for name in ("force_mae_mev_per_ang", "energy_mae_mev_per_atom"))
    return tuple(SystemErrors(*values) for values in zip(test.attrs[SYSTEMS].tolist(), *columns, strict=True))


def _label_warning(labels: Labels) -> tuple[str, ...]:
    """A warning about failed labels; empty if no label failed."""
    if not labels.failures:
        return ()
    return (f"{labels.failures} of {len(labels.reasons)} labels failed, {labels.failure_words()}",)


def _candidate_warning(temperatures: Sequence[TemperatureRecord], config: SelectionConfig) -> tuple[str, ...]:
    """A warning if most candidates bring no label; otherwise empty."""
    return (without_label(temperatures, config),) if mostly_without_label(temperatures) else ()
