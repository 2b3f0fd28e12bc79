"""The verdict after an iteration, which decides whether the campaign goes on, and the audits that it needs."""

from collections.abc import Sequence
from typing import Any

from al_engine.campaign import names
from al_engine.campaign.judged import judged_temperatures
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import iteration_of
from al_engine.verdict.evidence import judged_together
from al_engine.verdict.records import IterationRecord, TemperatureRecord
from al_engine.verdict.verdict import Verdict, awaits_audit, judge
from flows.stages.labels import labelling


def verdict_after(ledger: Ledger, iterations: int) -> Verdict | None:
    """The verdict after a number of iterations, written into `campaign.h5`; None if the campaign goes on."""
    history = ledger.own_history(before=iterations)
    verdict = judge(history, ledger.config.stop, **_evidence(ledger, history))
    if verdict is not None:
        ledger.write_index(verdict)
    return verdict


def due_audits(ledger: Ledger, iterations: int) -> list[int]:
    """The iterations whose committees are to be audited before the verdict after a number of iterations.

    An audit that has begun is finished, even if the stop rules have changed since; so is an audit of which a part was
    lost. The last iteration is audited if nothing else is missing for `converged`, unless the next iteration has begun
    without the audit.

    Returns:
        Numbers of iterations; when they are audited, others may be due.
    """
    due = [
        iteration
        for iteration in range(ledger.config.inherited_iterations or 0, iterations)
        if _is_interrupted(ledger, iteration)
    ]
    last, history = iterations - 1, ledger.own_history(before=iterations)
    if due or any(iteration_of(name) == iterations for name in ledger.reader().names):
        return due
    return [last] if awaits_audit(history, ledger.config.stop, **_evidence(ledger, history)) else []


def _is_interrupted(ledger: Ledger, iteration: int) -> bool:
    """Whether some parts of an iteration's audit exist, but not all."""
    parts, drawn = ledger.reader(), names.audit(iteration)
    existing = {drawn, names.audited(iteration)} & set(parts.names)
    if not existing and not parts.label_chunks(drawn):
        return False
    if len(existing) < 2:  # noqa: PLR2004 (the first part and the last)
        return True
    chunks = labelling.chunks(parts, ledger.config, drawn)
    return not {names.labels(drawn, first, last) for first, last in chunks} <= set(parts.names)


def _evidence(ledger: Ledger, history: Sequence[IterationRecord]) -> dict[str, Any]:
    """The arguments of `judge`, besides the history and the rules."""
    return {
        "temperatures": evidence_of(ledger, history),
        "max_failed_share": ledger.config.labels.max_failed_share,
        "selection": ledger.config.selection,
        "trajectory_frames": ledger.config.sampling.trajectory_frames,
    }


def evidence_of(
    ledger: Ledger, history: Sequence[IterationRecord], *, coming: int = 0
) -> tuple[TemperatureRecord, ...]:
    """The last iterations of a history that are judged together, one record per state point; empty without history.

    Args:
        ledger: The campaign.
        history: Finished iterations, oldest first.
        coming: Number of iterations that will be judged together with these, but are not finished.
    """
    config = ledger.config
    judged = [record.iteration for record in judged_together(history, config.stop, coming=coming)]
    return judged_temperatures(ledger.reader(), config, judged, limit=config.stop.acceptance) if judged else ()
