"""Stage `iterNNN-audited`: the true errors of the committee on the frames that were drawn for its audit."""

import json

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.audited import stored_audit_plan
from al_engine.campaign.labels import Labels, read_labels
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.scores import box_scores, interior_atoms, labelled_at
from al_engine.config import StatePoint
from al_engine.files.frames_hdf5 import write_labelled
from al_engine.selection.fates import Fate
from al_engine.selection.window import Window
from al_engine.structures.frames import FloatArray, IntArray
from al_engine.units import MEV_PER_EV
from al_engine.verdict.audit_labels import AuditedFrames, AuditResult, audited_frames
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.search.scoring import write_scores
from flows.stages.training import load_committee


def plan(ledger: Ledger, iteration: int) -> Stage:
    """The stage that ends the audit of an iteration; the drawn frames must be labelled.

    An audit that is finished keeps its rule, even if the stop rules have changed since: its labels may have joined the
    data set.
    """
    stop, finished = ledger.config.stop, ledger.audit(iteration)
    rule = {
        "bad_share": stop.audit_bad_share if finished is None else finished.max_bad_share,
        "confidence": stop.confidence if finished is None else finished.confidence,
    }
    return Stage(
        name=names.audited(iteration),
        job=f"{__name__}:audit",
        inputs=rule,
        parents=(
            names.audit(iteration),
            *(path.stem for path in ledger.label_parts(names.audit(iteration))),
            *names.members(iteration, ledger.config.training.members),
        ),
        arguments={"iteration": iteration, **rule},
    )


def audit(work: Work, *, iteration: int, bad_share: float, confidence: float) -> None:
    """Compare the committee with the labels; if the audit fails, the labelled frames join the data set."""
    labels = read_labels(map(work.parts.path, work.parts.label_chunks(names.audit(iteration))))
    rows = np.array(list(labels.labelled), dtype=np.int64)
    with work.parts.open(names.audit(iteration)) as root:
        part = root["source"][()][:, 1]
        interior = interior_atoms(root["selected"], work.config)
    labelled = labelled_at(work.config, labels.labelled, part, interior)
    committee = load_committee(work.parts, work.config, iteration, work.device, evaluations=0)
    with work.write() as root:
        scores = root.create_group("scores")
        write_scores(scores, committee, labelled)
        scores["frame"] = rows
        result = audit_result(
            work,
            iteration,
            labels,
            error=box_scores(scores)["force_error"][()],
            part=part[rows],
            failed_part=np.delete(part, rows),
            bad_share=bad_share,
            confidence=confidence,
        )
        write_labelled(root.create_group("labelled"), labelled.frames if result.joins else [])
        root["fate"] = np.full(len(labels.reasons), Fate.AUDITED, dtype=np.int8)
        root.attrs["fates"] = [fate.name.lower() for fate in Fate]
        root.attrs["audit"] = result.to_json()
        outcome = "audit passed" if result.passed else "audit failed, its frames join the data set"
        summarise(root, f"{outcome}: {result.statement()}")


def audit_result(
    work: Work,
    iteration: int,
    labels: Labels,
    *,
    error: FloatArray,
    part: IntArray,
    failed_part: IntArray,
    bad_share: float,
    confidence: float,
) -> AuditResult:
    """The result of an audit.

    Args:
        work: The work of the stage.
        iteration: The iteration whose committee is audited.
        labels: The labels of the drawn frames.
        error: Force error on the worst atom of each labelled frame, eV/Å, shape (F,).
        part: Index of the state point of each labelled frame, shape (F,).
        failed_part: Index of the state point of each frame whose label failed.
        bad_share: Largest share of bad frames with which the audit is passed.
        confidence: Confidence of the bounds.
    """
    planned = stored_audit_plan(work.parts, iteration)
    with work.parts.open(names.audit(iteration)) as root:
        lower = Window.from_attributes(root.attrs).lower_mev_per_ang
    reference = ""
    for chunk in work.parts.label_chunks(names.audit(iteration))[:1]:  # all have the same level of theory
        with work.parts.open(chunk) as root:
            reference = str(json.loads(str(root.attrs["level_of_theory"]))["method"])

    def summary(errors: FloatArray, failed: int, point: StatePoint | None) -> AuditedFrames:
        return audited_frames(errors, lower=lower / MEV_PER_EV, confidence=confidence, failed=failed, point=point)

    return AuditResult(
        iteration=iteration,
        iterations=planned.iterations,
        requested=planned.frames,
        reference=reference,
        cut=any(own.selection.cut_molecules is not None for own in work.config.by_system.values()),
        lower_mev_per_ang=lower,
        max_bad_share=bad_share,
        confidence=confidence,
        temperatures=tuple(
            summary(error[part == index], int(np.sum(failed_part == index)), point)
            for index, point in enumerate(work.config.state_points)
        ),
        overall=summary(error, len(failed_part), None),
        label_failures=labels.failures,
        failure_words=labels.failure_words(),
    )
