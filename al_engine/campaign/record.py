"""What happened in an iteration, from the parts its stages wrote."""

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.labels import Labels, read_labels
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.samples import sampled_steps, temperature_records
from al_engine.campaign.scores import assess
from al_engine.files.frames_hdf5 import write_labelled
from al_engine.files.part_file import open_part
from al_engine.selection.fates import Fate
from al_engine.selection.window import Window
from al_engine.verdict.records import IterationRecord


def write_iteration(ledger: Ledger, iteration: int, seconds: float, root: h5py.File) -> None:
    """Fill the part that ends an iteration: its new labels, the fate of every frame it sampled, its record.

    Args:
        ledger: The campaign.
        iteration: The iteration; sampled, selected, labelled and evaluated.
        seconds: Time on the clock since the iteration was started or resumed.
        root: The part.
    """
    labels = read_labels(ledger.label_parts(iteration))
    with open_part(ledger.part_path(names.selection(iteration))) as selected:
        fates, chosen = selected["fate"][()], selected["chosen"][()]
    for index, frame_index in enumerate(chosen):
        if index not in labels.labelled:
            fates[frame_index] = Fate.LABEL_FAILED
    write_labelled(root.create_group("labelled"), list(labels.labelled.values()))
    root["fate"] = fates
    root.attrs["fates"] = [fate.name.lower() for fate in Fate]
    root.attrs["record"] = iteration_record(ledger, iteration, fates, labels).to_json()
    root.attrs["iteration_seconds"] = seconds


def iteration_record(ledger: Ledger, iteration: int, fates: np.ndarray, labels: Labels) -> IterationRecord:
    """The record of an iteration that is about to be appended.

    Args:
        ledger: The campaign.
        iteration: The iteration; sampled, selected and evaluated.
        fates: Fate of every sampled frame, failed labels among them.
        labels: The labels of the chosen frames.
    """
    config = ledger.config
    samples = [ledger.part_path(names.sample(iteration, kelvin)) for kelvin in config.sampling.temperatures_kelvin]
    evaluation, deviation = ledger.part_path(names.evaluation(iteration)), config.selection.deviation
    with open_part(evaluation) as root:
        test, new = dict(root["test"].attrs), dict(root["new"].attrs)
    with open_part(ledger.part_path(names.selection(iteration))) as root:
        window = Window.from_attributes(root.attrs)
    assessed = assess(evaluation, window=window, deviation=deviation)
    return IterationRecord(
        iteration=iteration,
        temperatures=temperature_records(samples, fates, deviation=deviation),
        labelled=len(labels.labelled),
        label_failures=labels.failures,
        dataset_size=len(ledger.dataset(before=iteration)) + len(labels.labelled),
        error_before_training_mev_per_ang=new.get("force_mae_mev_per_ang"),
        test_force_mae_mev_per_ang=test["force_mae_mev_per_ang"],
        test_energy_mae_mev_per_atom=test["energy_mae_mev_per_atom"],
        steps=sampled_steps(samples[0]),
        window=window,
        calibration=assessed.calibration,
        health=assessed.health,
        failure_words=labels.failure_words(),
        warnings=(*_label_warning(labels), *assessed.warnings),
    )


def _label_warning(labels: Labels) -> tuple[str, ...]:
    """What became of labels that failed, if any did."""
    if not labels.failures:
        return ()
    return (f"{labels.failures} of {len(labels.reasons)} labels failed, {labels.failure_words()}",)
