"""The verdict after an iteration, which decides whether the campaign goes on."""

from collections.abc import Sequence

from al_engine.campaign.judged import judged_temperatures
from al_engine.campaign.ledger import Ledger
from al_engine.verdict.evidence import judged_together
from al_engine.verdict.records import IterationRecord, TemperatureRecord
from al_engine.verdict.verdict import Verdict, judge


def verdict_after(ledger: Ledger, iterations: int) -> Verdict | None:
    """The verdict after a number of iterations, written into `campaign.h5`; None if the campaign goes on."""
    history = ledger.history()[:iterations]
    verdict = judge(
        history,
        ledger.config.stop,
        selection=ledger.config.selection,
        temperatures=evidence_of(ledger, history),
        max_failed_share=ledger.config.labels.max_failed_share,
    )
    if verdict is not None:
        ledger.write_index(verdict)
    return verdict


def evidence_of(ledger: Ledger, history: Sequence[IterationRecord]) -> tuple[TemperatureRecord, ...]:
    """The last iterations of a history that are judged together, one record per temperature; empty without history."""
    judged = [record.iteration for record in judged_together(history, ledger.config.stop)]
    return judged_temperatures(ledger.reader(), ledger.config, judged) if judged else ()
