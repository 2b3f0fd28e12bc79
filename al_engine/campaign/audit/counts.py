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
from al_engine.structures.frames import IntArray
from al_engine.verdict.audit_labels import AuditResult
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
        expected.update(names.initial_sources(config))
    for iteration in range(iterations[-1] + 1 if iterations else 0):
        stages = names.of_iteration(iteration, config)
        reached = max((k for k, stage in enumerate(stages) if any(name in parts for name in stage)), default=-1)
        complete = len(stages) if iteration < iterations[-1] else reached
        expected |= {name for stage in stages[:complete] for name in stage}
        expected.add(names.INITIAL_DATASET)
        labelled = any(names.label_source(name) == names.audit(iteration) for name in parts)
        if names.audited(iteration) in parts or labelled:
            expected.add(names.audit(iteration))
        if names.audit(iteration) in parts and iteration < iterations[-1]:
            expected.add(names.audited(iteration))
    for name in sorted(expected - parts.keys()):
        yield Finding(
            f"parts/{name}.h5",
            stage_of(name),
            Problem.MISSING,
            "is missing or damaged, although parts of later stages exist",
            "resume, which computes it again",
        )


def count_findings(parts: Mapping[str, Part], *, inherited: int = 0) -> Iterator[Finding]:
    """Compare the counts of every finished iteration with the parts that were counted.

    Args:
        parts: The sound parts by name. Counts that need another part are not checked.
        inherited: Number of iterations that were forked from another campaign, whose data set may have been another.
    """
    if names.INITIAL_DATASET not in parts:
        return
    with open_part(parts[names.INITIAL_DATASET].path) as root:
        size = len(root["labelled/n_atoms"])
    for iteration in sorted({part.iteration for part in parts.values() if part.iteration is not None}):
        if names.append(iteration) not in parts:
            return  # unfinished or lost: later sizes can't be checked
        size = yield from _iteration_findings(iteration, parts, size, inherited=iteration < inherited)
        size = yield from _audit_findings(iteration, parts, size)


def _iteration_findings(
    iteration: int, parts: Mapping[str, Part], size_before: int, *, inherited: bool
) -> Generator[Finding, None, int]:
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
    }
    if not inherited:
        compared["recorded size of the data set"] = (record.dataset_size, size)
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
        chunks = sorted((p for p in parts if names.label_source(p) == selection.name), key=names.label_order)
        labels = read_labels(parts[name].path for name in chunks)
        if len(labels.reasons) == len(chosen):
            compared["number of labels in the label parts"] = (len(labels.labelled), labelled)
    yield from _miscounted(append, compared)
    return size


def _audit_findings(iteration: int, parts: Mapping[str, Part], size: int) -> Generator[Finding, None, int]:
    """Find counts that disagree in the audit of an iteration; returns the size of the data set after the audit."""
    audited, drawn = parts.get(names.audited(iteration)), parts.get(names.audit(iteration))
    if audited is None:
        return size
    with open_part(audited.path) as root:
        fates, joined, scored = root["fate"][()], len(root["labelled/n_atoms"]), len(root["scores/n_atoms"])
        result = AuditResult.from_json(str(root.attrs["audit"]))
    counted = [(t.labelled, t.bad) for t in result.temperatures]
    compared: dict[str, tuple[object, object]] = {
        "recorded number of audited frames": (result.overall.labelled, scored),
        "recorded number of audited frames at all temperatures": (
            (result.overall.labelled, result.overall.bad),
            tuple(map(sum, zip(*counted, strict=True))),
        ),
        "number of frames that join the data set": (joined, scored if result.joins else 0),
        "number of frames with the fate `audited`": (
            int(np.sum(fates == Fate.AUDITED)),
            result.overall.labelled + result.label_failures,
        ),
    }
    if drawn is not None:
        with open_part(drawn.path) as root:
            source, index, selected = root["source"][()], root["index"][()], len(root["selected/n_atoms"])
        compared["number of fates"] = (len(fates), selected)
        compared["number of different drawn frames"] = (len(np.unique(source, axis=0)), selected)
        accurate = _accurate(parts, source[:, 0], index)
        compared["number of drawn frames with the fate `accurate`"] = (
            len(index) if accurate is None else accurate,
            len(index),
        )
        chunks = sorted((p for p in parts if names.label_source(p) == drawn.name), key=names.label_order)
        labels = read_labels(parts[name].path for name in chunks)
        if len(labels.reasons) == selected:
            compared["number of audit labels"] = (scored, len(labels.labelled))
    yield from _miscounted(audited, compared)
    return size + joined


def _accurate(parts: Mapping[str, Part], iterations: IntArray, index: IntArray) -> int | None:
    """Number of drawn frames that are accurate by the fates of their iterations; None if a part is missing."""
    found = 0
    for iteration in np.unique(iterations).tolist():
        append = parts.get(names.append(iteration))
        if append is None:
            return None
        with open_part(append.path) as root:
            found += int(np.sum(root["fate"][()][index[iterations == iteration]] == Fate.ACCURATE))
    return found


def _miscounted(part: Part, compared: Mapping[str, tuple[object, object]]) -> Iterator[Finding]:
    """A finding for each quantity of which the number in a part and the number by the other parts differ."""
    for quantity, (found, expected) in compared.items():
        if found != expected:
            yield Finding(
                f"parts/{part.path.name}",
                stage_of(part.name),
                Problem.MISCOUNTED,
                f"the {quantity} is {found}; by the other parts it should be {expected}",
                "move the file away and resume, which makes it again from the other parts",
            )


def _sampled(part: Part) -> int:
    with open_part(part.path) as root:
        return len(root["deviation_norm"])
