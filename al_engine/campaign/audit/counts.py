"""Checks that no part is missing, and that numbers agree: sampled frames, fates, labels, records, data set sizes."""

from collections.abc import Generator, Iterator, Mapping

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.audit.files import Finding, Problem, stage_of
from al_engine.campaign.labels import read_labels
from al_engine.campaign.part import Part
from al_engine.config import CampaignConfig
from al_engine.files.part_file import open_part
from al_engine.selection.fates import Fate, count, count_candidates
from al_engine.verdict.records import IterationRecord


def gap_findings(parts: Mapping[str, Part], config: CampaignConfig) -> Iterator[Finding]:
    """Find parts that are missing although parts of later stages exist.

    Args:
        parts: The sound parts by name.
        config: The campaign's config.
    """
    expected: set[str] = set()
    iterations = sorted({part.iteration for part in parts.values() if part.iteration is not None})
    if names.INITIAL_DATASET in parts or iterations:
        expected.add(names.INITIAL_FRAMES)
    for iteration in range(iterations[-1] + 1 if iterations else 0):
        stages = names.of_iteration(iteration, config)
        reached = max((k for k, stage in enumerate(stages) if any(name in parts for name in stage)), default=-1)
        complete = len(stages) if iteration < iterations[-1] else reached
        expected |= {name for stage in stages[:complete] for name in stage}
        expected.add(names.INITIAL_DATASET)
    for name in sorted(expected - parts.keys()):
        yield Finding(
            f"parts/{name}.h5",
            stage_of(name),
            Problem.MISSING,
            "is missing or damaged, although parts of later stages exist",
            "resume, which computes it again",
        )


def count_findings(parts: Mapping[str, Part]) -> Iterator[Finding]:
    """Compare the counts of every finished iteration with the parts that were counted.

    Args:
        parts: The sound parts by name. Counts that need another part are not checked.
    """
    if names.INITIAL_DATASET not in parts:
        return
    with open_part(parts[names.INITIAL_DATASET].path) as root:
        size = len(root["labelled/n_atoms"])
    for iteration in sorted({part.iteration for part in parts.values() if part.iteration is not None}):
        if names.append(iteration) not in parts:
            return  # unfinished or lost: later sizes can't be checked
        size = yield from _iteration_findings(iteration, parts, size)


def _iteration_findings(iteration: int, parts: Mapping[str, Part], size_before: int) -> Generator[Finding, None, int]:
    """Find counts that disagree in an iteration; returns the size of the data set after the iteration."""
    append = parts[names.append(iteration)]
    with open_part(append.path) as root:
        fates = root["fate"][()]
        labelled = len(root["labelled/n_atoms"])
        record = IterationRecord.from_json(str(root.attrs["record"]))

    size = size_before + labelled
    compared: dict[str, tuple[object, object]] = {
        "record of the counts": (record.counts, count(fates)),
        "record of the candidates' fates": (
            record.candidate_fates,
            None if record.candidate_fates is None else count_candidates(fates),
        ),
        "recorded number of labels": (record.labelled, labelled),
        "number of frames with the fate `labelled`": (int(np.sum(fates == Fate.LABELLED)), labelled),
        "number of frames with the fate `label_failed`": (
            int(np.sum(fates == Fate.LABEL_FAILED)),
            record.label_failures,
        ),
        "recorded size of the data set": (record.dataset_size, size),
    }
    samples = [part for name, part in parts.items() if name.startswith(f"iter{iteration:03d}-sample-")]
    if len(samples) == len(record.temperatures):
        compared["number of fates"] = (len(fates), sum(map(_sampled, samples)))
    selection = parts.get(names.selection(iteration))
    if selection is not None:
        with open_part(selection.path) as root:
            before, chosen = root["fate"][()], root["chosen"][()]
        chosen_by_fate = np.isin(fates, (Fate.LABELLED, Fate.LABEL_FAILED))
        compared["number of chosen frames"] = (int(np.sum(chosen_by_fate)), len(chosen))
        compared["number of changed fates"] = (int(np.sum((fates != before) & (fates != Fate.LABEL_FAILED))), 0)
        chunks = [part for name, part in sorted(parts.items()) if name.startswith(f"iter{iteration:03d}-labels-")]
        labels = read_labels([part.path for part in chunks])
        if len(labels.reasons) == len(chosen):
            compared["number of labels in the label parts"] = (len(labels.labelled), labelled)
    for quantity, (found, expected) in compared.items():
        if found != expected:
            yield Finding(
                f"parts/{append.path.name}",
                stage_of(append.name),
                Problem.MISCOUNTED,
                f"the {quantity} is {found}; by the other parts it should be {expected}",
                "move the file away and resume, which makes it again from the other parts",
            )
    return size


def _sampled(part: Part) -> int:
    with open_part(part.path) as root:
        return len(root["deviation_norm"])
