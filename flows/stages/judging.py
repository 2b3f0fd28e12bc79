"""The verdict after an iteration, which decides whether the campaign goes on."""

from al_engine.campaign.ledger import Ledger
from al_engine.verdict.verdict import Verdict, judge


def verdict_after(ledger: Ledger, iterations: int) -> Verdict | None:
    """The verdict after a number of iterations, written into `campaign.h5`; None if the campaign goes on."""
    verdict = judge(
        ledger.history()[:iterations],
        ledger.config.stop,
        max_failed_share=ledger.config.labels.max_failed_share,
        lower_mev_per_ang=ledger.config.selection.lower_mev_per_ang,
    )
    if verdict is not None:
        ledger.write_index(verdict)
    return verdict
