"""What happened in an iteration, from the parts its stages wrote."""

import numpy as np

from al_engine.ledger import Ledger
from al_engine.parts import open_part
from al_engine.records import IterationRecord
from al_engine.window import Window
from flows import names
from flows.labelling import Labels
from flows.sampled import sampled_steps, temperature_records
from flows.scoring import assess


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
        warnings=assessed.warnings,
    )
